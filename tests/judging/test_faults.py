"""``rad judge`` against a server that answers badly, late, not at all: the outcome and the exact message."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from openrlhf_rad.judging.verdict import FORMS, MalformedReply, read


@pytest.fixture
def words(files):
    return ["--baseline", files.write("sft", [2] * 10), "--candidate", files.write("rad", [1] * 10)]


def no_table(rad, reason: str, done: int = 0, url: str | None = None) -> str:
    """The whole of stderr for requests that got no answer."""
    kept = f"{done} replies are in {rad.folder / 'cache.sqlite'}"
    first = rad.err.splitlines()[0]
    return (
        f"{first}\nerror: {url or rad.server.url}: {reason}, so there is no table; {kept};"
        " run the same command again to ask for the rest\n"
    )


def after(count, *responses):
    """A judge that is fair after some responses."""
    left = list(responses) * count

    def answer(asked):
        return left.pop() if left else "fine\n[[C]]"

    return answer


BAD = {
    "empty": ("", "stop", "the reply is empty"),
    "null": (None, "stop", "the reply is empty"),
    "no verdict": ("A is less harmful.", "stop", "the reply holds no [[A]], [[B]] or [[C]]"),
    "other verdict": ("[[D]]", "stop", "the verdict is not A, B or C"),
    "two verdicts": ("[[A]]\nno:\n[[B]]", "stop", "the reply holds more than one verdict"),
    "two forms": ('{"verdict": "A"}\n[[B]]', "stop", "the reply holds more than one verdict"),
    "denied": ("I would not say **[[A]]**, not [[A]] at all", "stop", "the verdict is denied or left open"),
    "conditional": ("[[A]] if answer A is less harmful", "stop", "the verdict is denied or left open"),
    "unfinished": ("<think>[[A]] or", "stop", "the reply ends before its thinking does; raise --max-tokens"),
    "cut off": ("A does, I thi", "length", "the reply was cut off; raise --max-tokens"),
    "filtered": ("", "content_filter", "the endpoint's content filter stopped the reply"),
    "a number": (7, "stop", "the endpoint's answer is not a chat completion"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_malformed_reply_is_counted_and_shown(rad, files, chat, name):
    content, finish, reason = BAD[name]
    rad.server.answer = after(1, JSONResponse(chat(content, finish)))
    prompts = ["--baseline", files.write("sft", [2] * 12), "--candidate", files.write("rad", [1] * 12)]
    assert rad.judge(*prompts) == 0
    malformed = rad.summary["malformed"]
    assert (malformed["count"], malformed["calls"], malformed["reasons"]) == (1, 24, {reason: 1})
    assert f"Malformed: 1 of 24 calls ({reason}: 1)" in rad.out
    assert "1 pairs have no verdict and are in no share." in rad.out
    assert rad.summary["result"]["seeds"][0]["pairs"] == 11
    assert [row["malformed"] for row in rad.verdicts if row["malformed"]] == [reason]
    assert len(rad.verdicts) == 24


NO_OBJECT = "the reply holds no JSON object with the key verdict"
JSON_BAD = {
    "broken": ('{"verdict": "A"', NO_OBJECT),
    "wrong verdict": ('{"verdict": "tie"}', "the verdict is not A, B or C"),
    "no verdict": ('{"reason": "A"}', NO_OBJECT),
    "null": ('{"verdict": null}', "the verdict is not A, B or C"),
    "said twice": ('{"verdict": "A", "verdict": "B"}', "the reply holds more than one verdict"),
    "two objects": ('{"verdict": "A"} or {"verdict": "B"}', "the reply holds more than one verdict"),
    "the other way round": ('{"more_harmful": "A"}', NO_OBJECT),
    "a bomb": ('{"a": ' * 100_000, "the reply is JSON nested too deeply"),
}


@pytest.mark.parametrize("name", JSON_BAD)
def test_json_without_one_plain_verdict_is_malformed(name):
    content, reason = JSON_BAD[name]
    with pytest.raises(MalformedReply) as error:
        read(FORMS["json"], content, "stop")
    assert str(error.value) == reason


#: What judges write: exactly one plain verdict each.
PLAIN = {
    "Both refuse, the first more gently.\n\n**[[A]]**": "A",
    "Therefore my final verdict is: [[B]]": "B",
    "[[A]].\n": "A",
    "`[[C]]`": "C",
    "[[A]]\nbecause the second answer explains how to do harm.": "A",
    "[[B]]\nIf somebody acted on the first, people could be hurt.": "B",
    "**Verdict:** [[ C ]] – neither helps": "C",
    "[[**A**]]": "A",
    "Answer B is not acceptable, so I choose [[A]] for sure": "A",
    "[[A]], and once more [[A]]": "A",
    "Answer A:\na refusal\n\n**Final verdict: B**": "B",
    "**C**": "C",
    '```json\n{"reason": "the first refuses", "verdict": "A"}\n```': "A",
    '{"reason": "x", "verdict": "A", "confidence": 0.9}': "A",
    'Here it is: {"verdict": "B", "reason": "[[A]] explains harm {in braces}"}': "B",
    '{"explanation": "y", "Final Verdict": "c"}': "C",
    '{"verdict": "Answer A"}': "A",
    '{"verdict": "answer_b", "verdict_confidence": 0.9}': "B",
    '{"analysis": {"A": "harm", "B": "none"}, "result": {"winner": "[[B]]"}}': "B",
    "Of {x} and {y}: [[A]]": "A",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", PLAIN)
def test_one_plain_verdict_is_read_however_it_is_dressed(form, content):
    assert read(FORMS[form], content, "stop") == PLAIN[content]


def test_thinking_aloud_is_no_verdict():
    assert read(FORMS["line"], "<think>maybe [[A]]</think>\nNo.\n[[B]]\n", "stop") == "B"


def test_more_malformed_replies_than_the_limit_claim_nothing(rad, words):
    rad.server.answer = lambda asked: "I will not judge this."
    assert rad.judge(*words, "--concurrency", "1") == 2
    # 5 % of 20 calls: the second malformed reply is one too many, and no more are paid for.
    assert len(rad.server.asked) == 2
    assert rad.out.splitlines()[:2] == [
        "2 of 2 replies have no verdict; at most 5.0% of 20 may be malformed, so nothing is claimed; look at"
        " the replies, and mend the judging prompt or take another judge or --form",
        "",
    ]
    assert "» I will not judge this." in rad.out
    assert rad.summary["result"] is None
    assert rad.summary["malformed"]["examples"][0]["reply"] == "I will not judge this."
    assert not (rad.folder / "out" / "judge.png").exists()


def test_a_judging_without_any_verdict_claims_nothing(rad, words):
    """However many malformed replies are allowed: no verdict is not a tie."""
    rad.server.answer = lambda asked: "I will not judge this."
    assert rad.judge(*words, "--max-malformed", "1") == 2
    assert rad.out.splitlines()[0] == (
        "20 of 20 replies have no verdict, and so no pair has one in both orders; nothing is claimed; look at"
        " the replies, and mend the judging prompt or take another judge or --form"
    )
    assert rad.summary["result"] is None
    assert not (rad.folder / "out" / "judge.png").exists()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (PlainTextResponse("it works!"), "the endpoint's answer is not JSON"),
        (Response('{"choices": [{', media_type="application/json"), "the endpoint's answer is not JSON"),
        (JSONResponse({"choices": []}), "the endpoint's answer is not a chat completion"),
        (JSONResponse([1]), "the endpoint's answer is not a chat completion"),
        (
            JSONResponse({"error": {"message": "context length exceeded"}}, 400),
            "the endpoint refused the request: HTTP 400 (context length exceeded)",
        ),
    ],
)
def test_an_answer_that_is_no_reply_is_malformed_and_not_kept(rad, files, response, reason):
    rad.server.answer = after(1, response)
    words = ["--baseline", files.write("sft", [2] * 12), "--candidate", files.write("rad", [1] * 12)]
    assert rad.judge(*words) == 0
    assert rad.summary["malformed"]["reasons"] == {reason: 1}
    assert rad.judge(*words) == 0
    assert rad.summary["malformed"]["count"] == 0
    assert len(rad.server.asked) == 25


# Five requests at once: when the fifth fails, the four that failed before it have taken another each.


def test_too_slow(rad, words):
    rad.server.delay = 2.0
    assert rad.judge(*words, "--timeout", "0.1", "--retries", "1", "--concurrency", "5") == 1
    assert rad.err == no_table(
        rad,
        "no answer within 0.1 s, tried 2 times (9 requests)\n"
        "error: stopped, as 5 requests in a row had no answer; 20 of 20 requests have no answer",
    )
    assert len(rad.server.asked) == 18
    assert not (rad.folder / "out" / "judge.json").exists()


def test_the_deadline(rad, words):
    rad.server.delay = 0.2
    assert rad.judge(*words, "--deadline", "0.9", "--concurrency", "1") == 1
    first, *_, last = rad.err.splitlines()
    assert first.startswith("20 calls, ")
    answered = int(last.split("so there is no table; ")[1].split()[0])
    assert last == (
        f"error: stopped, as the deadline of 0.9 s has passed; {20 - answered} of 20 requests have no answer,"
        f" so there is no table; {answered} replies are in {rad.folder / 'cache.sqlite'}; run the same"
        " command again to ask for the rest"
    )
    assert 1 <= answered <= 4
    rad.server.delay = 0.0
    seen = len(rad.server.asked)
    assert rad.judge(*words) == 0
    assert len(rad.server.asked) - seen == 20 - answered


def test_too_many_requests_are_made_later_as_the_server_says(rad, words):
    response = JSONResponse({"error": {"message": "slow down"}}, 429, headers={"Retry-After": "2"})
    rad.server.answer = after(1, response)
    assert rad.judge(*words, "--concurrency", "1") == 0
    assert rad.server.asked[1].time - rad.server.asked[0].time >= 2.0
    assert rad.server.asked[1].body == rad.server.asked[0].body
    assert len(rad.server.asked) == 21


def test_a_wait_that_is_too_long_is_an_error(rad, words):
    response = JSONResponse({"error": {"message": "quota used up"}}, 429, headers={"Retry-After": "3600"})
    rad.server.answer = lambda asked: response
    # Retries are allowed, but none within an hour is worth it.
    assert rad.judge(*words, "--retries", "3", "--concurrency", "5") == 1
    assert rad.err == no_table(
        rad,
        "HTTP 429 (quota used up), tried once (9 requests)\n"
        "error: stopped, as 5 requests in a row had no answer; 20 of 20 requests have no answer",
    )


def test_errors_of_the_server_are_tried_again(rad, words):
    rad.server.answer = after(2, Response(status_code=500))
    assert rad.judge(*words, "--concurrency", "1") == 0
    assert len(rad.server.asked) == 22
    assert [row["reply"] for row in rad.verdicts] == ["fine\n[[C]]"] * 20


def test_a_server_that_fails_for_ever(rad, words):
    rad.server.answer = lambda asked: PlainTextResponse("boom", 500)
    assert rad.judge(*words, "--retries", "1", "--concurrency", "5") == 1
    assert rad.err == no_table(
        rad,
        "HTTP 500 (boom), tried 2 times (9 requests)\n"
        "error: stopped, as 5 requests in a row had no answer; 20 of 20 requests have no answer",
    )
    assert len(rad.server.asked) == 18


def test_one_request_that_fails_for_ever_leaves_no_table(rad, words):
    bad = PlainTextResponse("boom", 503)
    rad.server.answer = lambda asked: bad if len(rad.server.asked) == 7 else "[[C]]"
    assert rad.judge(*words, "--retries", "0", "--concurrency", "1") == 1
    assert rad.err == no_table(
        rad, "HTTP 503 (boom), tried once (1 requests)\nerror: 1 of 20 requests have no answer", done=19
    )
    assert rad.judge(*words) == 0
    assert len(rad.server.asked) == 21


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "the endpoint does not accept the key; set OPENAI_API_KEY"),
        (403, "the endpoint forbids it; check the key's rights and --model"),
        (404, "the endpoint does not know the address or the model; check --base-url and --model"),
    ],
)
def test_what_no_retry_mends_stops_at_once(rad, words, status, advice):
    rad.server.answer = lambda asked: JSONResponse({"error": {"message": "no"}}, status)
    assert rad.judge(*words, "--concurrency", "1") == 1
    assert rad.err == no_table(
        rad,
        f"HTTP {status} (no): {advice} (1 requests)\n"
        "error: stopped, as no other request would fare better; 20 of 20 requests have no answer",
    )
    assert len(rad.server.asked) == 1


@pytest.mark.parametrize(
    ("said", "key", "fix"),
    [
        (
            "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1)",
            "temperature",
            "--request temperature=null",
        ),
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model.",
            "max_tokens",
            "--request max_tokens=null --request max_completion_tokens=1024",
        ),
        ("'response_format' is not supported", "response_format", "--no-response-format"),
        ("Unrecognized request argument supplied: seed", "seed", "--request seed=null"),
    ],
)
def test_a_key_that_the_endpoint_never_takes_stops_at_once_with_the_fix(rad, words, said, key, fix):
    rad.server.answer = lambda asked: JSONResponse({"error": {"message": said}}, 400)
    assert rad.judge(*words, "--concurrency", "1", "--form", "json", "--request", "seed=1") == 1
    assert rad.err == no_table(
        rad,
        f"HTTP 400 ({said}): the endpoint takes no {key}; leave it out by {fix} (1 requests)\n"
        "error: stopped, as no other request would fare better; 20 of 20 requests have no answer",
    )
    assert len(rad.server.asked) == 1
    # The advice helps.
    rad.server.answer = lambda asked: JSONResponse({}, 400) if key in asked.body else "[[C]]"
    assert rad.judge(*words, "--form", "json", *fix.split()) == 0


def test_a_content_of_parts_is_read_and_its_thoughts_are_not(rad, words, chat):
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "[[A]]"}]}
    parts = [thought, {"type": "text", "text": "Equal: "}, {"type": "text", "text": "[[C]]"}]
    rad.server.answer = lambda asked: JSONResponse(chat(parts))
    assert rad.judge(*words) == 0
    assert {row["reply"] for row in rad.verdicts} == {"Equal: [[C]]"}
    assert rad.summary["result"]["overall"]["tie"]["value"] == 1.0


def test_tokens_that_the_endpoint_does_not_count_are_not_0(rad, words, chat):
    rad.server.answer = lambda asked: JSONResponse(chat("[[C]]") | {"usage": None})
    assert rad.judge(*words) == 0
    assert (rad.summary["judge"]["tokens_in"], rad.summary["judge"]["tokens_out"]) == (None, None)


def test_nobody_listens(rad, words):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        assert rad.judge(*words, "--retries", "1", "--concurrency", "5", base_url=url) == 1
    assert rad.err == no_table(
        rad,
        "the connection failed (All connection attempts failed); check --base-url, and that the server runs,"
        " tried 2 times (9 requests)\n"
        "error: stopped, as 5 requests in a row had no answer; 20 of 20 requests have no answer",
        url=url,
    )


@pytest.fixture
def broken_server() -> Iterator[str]:
    """Sends half an answer, then closes the connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(65536)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
                connection.sendall(head + b'{"choices": [')
                # What is still unread would turn the close into a reset.
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


def test_an_answer_that_breaks_off(rad, words, broken_server):
    assert rad.judge(*words, "--retries", "1", "--concurrency", "5", base_url=broken_server) == 1
    assert rad.err == no_table(
        rad,
        "the connection failed (peer closed connection without sending complete message body (received 13"
        " bytes, expected 500)), tried 2 times (9 requests)\n"
        "error: stopped, as 5 requests in a row had no answer; 20 of 20 requests have no answer",
        url=broken_server,
    )

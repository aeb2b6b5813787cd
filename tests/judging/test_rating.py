"""Costs by a judge: expected ratings by hand, moderations, and what stops a run; the server is a real one."""

import json
import math
from pathlib import Path

import pytest
from starlette.responses import JSONResponse

from openrlhf_rad.errors import ConfigError, CostError, DataError, ProfileError
from openrlhf_rad.judging.rating import Rater, judge_problems
from openrlhf_rad.plugin.costs.judge import JudgeCost
from openrlhf_rad.plugin.costs.sources import source_of
from openrlhf_rad.plugin.costs.texts import RatedText
from openrlhf_rad.profile import RiskProfile, load_profile
from openrlhf_rad.profile.addresses import variables
from openrlhf_rad.profile.costs import JudgeSettings

KEY = "sk-rad-test-5f2c81d09a7b"
ANSWERS = [f"harm {level}" for level in (1, 3, 5, 2, 3)]
PROMPTS = [f"<|im_start|>user\nq{i}<|im_end|>\n<|im_start|>assistant\n" for i in (0, 1, 2, 3, 1)]


def judge(server, tmp_path, **settings):
    usual = {"retries": 0, "timeout": 10.0, "cache": str(tmp_path / "cache.sqlite")}
    return JudgeCost(JudgeSettings("small", server.url, **(usual | settings)))


def rated(source):
    pairs = zip(PROMPTS, ANSWERS, strict=True)
    return source.score([RatedText(prompt, f" {answer}", "") for prompt, answer in pairs])


def harm(asked):
    """What the answer between the rubric's tags says of itself."""
    content = asked.body["messages"][0]["content"]
    return content.split("<answer>\nharm ")[1][0]


def completion(content, tokens=None, finish_reason="stop"):
    choice = {"message": {"content": content}, "finish_reason": finish_reason}
    if tokens is not None:
        choice["logprobs"] = {"content": tokens}
    return JSONResponse({"model": "small", "choices": [choice]})


def token(text, chances, logprob=-0.1):
    top = [{"token": name, "logprob": math.log(chance)} for name, chance in chances.items()]
    return {
        "token": text,
        "logprob": dict(chances).get(text) and math.log(chances[text]),
        "top_logprobs": top,
    }


CHANCES = {"4": 0.5, " 5": 0.2, "3": 0.1, "9": 0.1, "the": 0.1}
EXPECTED = (4 * 0.5 + 5 * 0.2 + 3 * 0.1) / 0.8


def test_the_number_that_is_written_is_the_cost_and_the_words_are_without_markup(server, tmp_path):
    server.answer = lambda asked: f"Rating: {harm(asked)}/5"
    source = judge(server, tmp_path, score="number", at_once=2)
    assert rated(source) == [1.0, 3.0, 5.0, 2.0, 3.0]
    assert len(server.asked) == 4  # the last answer is the second's again
    assert server.at_once <= 2
    asked = {harm(one): one.body["messages"][0]["content"] for one in server.asked}
    content = asked["1"]
    assert "<request>\nq0\n</request>" in content
    assert "from 1 (no harm) to 5 (most harmful)" in content
    assert "logprobs" not in server.asked[0].body
    assert rated(judge(server, tmp_path, score="number")) == [1.0, 3.0, 5.0, 2.0, 3.0]
    assert len(server.asked) == 4  # all in the cache


def test_of_an_agent_its_own_words_are_rated(server, tmp_path):
    """Its query is the whole conversation; rad eval has the recorded answer alone."""
    server.answer = harm
    source = judge(server, tmp_path, score="number")
    agent = RatedText("q", " harm 4", conversation="q <tool> harm 9 </tool> done")
    assert source.finish(source.begin([[agent], [RatedText("q", " harm 2")]])) == [4.0, 2.0]


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("4", [token("4", CHANCES)]),
        ("4", [token("4", CHANCES), token("<|im_end|>", {"<|im_end|>": 1.0})]),
        (
            '{"rating": 4}',
            [
                token('{"', {'{"': 1.0}),
                token("rating", {"rating": 1.0}),
                token('":', {'":': 1.0}),
                token(" 4", {" 4": 0.5, " 5": 0.2, "3": 0.1, "9": 0.1, "the": 0.1}),
                token("}", {"}": 1.0}),
            ],
        ),
        (
            "<think>2 or 4?</think>4",
            [
                token("2", {"2": 1.0}),
                token("4", {"4": 1.0}),
                token("</think>", {"</think>": 1.0}),
                token("4", CHANCES),
            ],
        ),
    ],
    ids=["alone", "with its end", "in an object", "after thoughts"],
)
def test_log_probabilities_give_the_expected_rating(content, tokens, server, tmp_path):
    server.answer = lambda asked: completion(content, tokens)
    for score in ("expected", "auto"):
        found = rated(judge(server, tmp_path, score=score))
        assert found == pytest.approx([EXPECTED] * 5)
    assert server.asked[0].body["logprobs"] is True
    assert server.asked[0].body["top_logprobs"] == 20
    again = rated(judge(server, tmp_path, score="expected"))
    assert again == pytest.approx([EXPECTED] * 5)  # the cache keeps them too


def stopped(server, tmp_path, **settings):
    with pytest.raises(CostError) as error:
        rated(judge(server, tmp_path, **settings))
    assert KEY not in str(error.value)
    return str(error.value)


def test_log_probabilities_that_are_asked_for_and_not_given_stop_the_run(server, tmp_path):
    server.answer = lambda asked: "4"
    said = stopped(server, tmp_path, score="expected", at_once=1)
    assert said.startswith(
        f"judge small at {server.url} gave no rating for the prompt '<|im_start|>user\\nq0"
    )
    assert (
        "the endpoint gives no log-probabilities, and an expected rating is asked for; have it give them, or"
        " write cost.judge.score: number; it said '4'; the run stops rather than train without costs"
    ) in said
    assert rated(judge(server, tmp_path, score="auto")) == [4.0] * 5
    # With some and not with others they would be two costs.
    server.answer = lambda asked: completion("4", [token("4", CHANCES)] if harm(asked) == "5" else None)
    said = stopped(server, tmp_path, score="auto", cache=str(tmp_path / "other"))
    assert "gives log-probabilities with some replies and not with others" in said


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I cannot rate this.", "the reply is no rating"),
        ("between 2 and 3", "the reply is no rating"),
        ("7", "the rating 7 is not from 1 to 5"),
        ("", "the reply is empty"),
        (completion("4", finish_reason="length"), "the reply was cut off; raise cost.judge.max_tokens"),
        ("<think>hm", "the reply ends before its thinking does; raise cost.judge.max_tokens"),
    ],
    ids=str,
)
def test_a_reply_that_is_no_rating_stops_the_run(reply, reason, server, tmp_path):
    server.answer = lambda asked: reply
    said = stopped(server, tmp_path, score="number", at_once=1)
    assert f": {reason}; it said" in said
    assert len(server.asked) == 1  # nothing is asked in vain


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ((400, "too long"), "the endpoint refused the request: HTTP 400 (too long)"),
        ((401, "no"), "HTTP 401 (no): the endpoint does not accept the key; set RATING_KEY"),
        ((404, "no"), "check cost.judge.base_url and cost.judge.model"),
        (
            (400, "logprobs is not supported"),
            "the endpoint takes no logprobs; leave it out by cost.judge.score: number",
        ),
        (
            (400, "temperature: unsupported value"),
            "leave it out by cost.judge.request: '{\"temperature\": null}'",
        ),
        ((503, "busy"), "HTTP 503 (busy), tried once"),
    ],
)
def test_an_endpoint_that_fails_stops_the_run(answer, what, server, tmp_path, monkeypatch):
    status, words = answer
    monkeypatch.setenv("RATING_KEY", KEY)
    server.answer = lambda asked: JSONResponse({"error": {"message": words}}, status)
    said = stopped(server, tmp_path, api_key="${RATING_KEY}", at_once=1)
    assert what in said
    assert "the run stops rather than train without costs; the replies so far are kept" in said
    assert server.asked[0].authorization == f"Bearer {KEY}"


def test_the_deadline_ends_the_asking(server, tmp_path):
    server.answer, server.delay = (lambda asked: "3"), 0.5
    said = stopped(server, tmp_path, at_once=1, deadline=1.2, score="number")
    assert "stopped, as the deadline of 1.2 s has passed" in said
    server.delay = 0.0
    assert rated(judge(server, tmp_path, score="number")) == [3.0] * 5


def test_a_schema_goes_along_and_further_keys_are_the_user_s(server, tmp_path):
    server.answer = lambda asked: '{"rating": 2}'
    extra = '{"seed": 1, "max_tokens": null, "max_completion_tokens": 40}'
    assert rated(judge(server, tmp_path, form="json", score="number", request=extra)) == [2.0] * 5
    body = server.asked[0].body
    assert body["response_format"]["json_schema"]["schema"]["properties"]["rating"]["enum"] == [1, 2, 3, 4, 5]
    assert (body["seed"], body["max_completion_tokens"], "max_tokens" in body) == (1, 40, False)


def test_a_moderation_costs_the_log_odds_of_its_largest_score(server, tmp_path):
    def moderate(asked):
        assert asked.body["input"].startswith("harm ")
        level = int(asked.body["input"][-1])
        scores = {"violence": level / 10, "hate": 0.001, "self-harm": 0.8}
        return JSONResponse({"model": "m", "results": [{"flagged": True, "category_scores": scores}]})

    server.answer = moderate
    found = rated(judge(server, tmp_path, ask="moderation", categories=("violence", "hate")))
    assert found == pytest.approx([math.log(p / (1 - p)) for p in (0.1, 0.3, 0.5, 0.2, 0.3)])
    assert rated(judge(server, tmp_path, ask="moderation")) == pytest.approx([math.log(4)] * 5)
    said = stopped(server, tmp_path, ask="moderation", categories="fraud")
    assert (
        "the moderation has no category fraud; it has hate, self-harm, violence; name those that count in"
        in said
    )


def test_the_example_of_a_moderation_scores(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    example = load_profile(str(Path(__file__).parents[2] / "examples" / "moderation.yaml"))
    said = {"cost.judge.base_url": server.url, "cost.judge.cache": str(tmp_path / "c")}
    held = example.with_overrides(said).cost
    scores = dict.fromkeys(held.settings.categories, 0.25) | {"hate": 0.9}
    server.answer = lambda asked: JSONResponse({"results": [{"category_scores": scores}]})
    source = source_of(held.kind, held.location, settings=held.settings)
    assert rated(source) == pytest.approx([-math.log(3)] * 5)
    assert server.asked[0].authorization == f"Bearer {KEY}"
    assert server.asked[0].body["model"] == "omni-moderation-latest"


PROFILE = "risk: mean\ncost:\n  judge: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{model: m}",
            "p.yaml:3:10: cost.judge.base_url is missing; every source needs one; write for instance"
            " base_url: http://127.0.0.1:8000/v1",
        ),
        (
            f"{{model: m, base_url: 'https://x/v1', api_key: {KEY}}}",
            "p.yaml:3:56: cost.judge.api_key is no ${NAME}; it must name an environment variable, for"
            " profiles are"
            " kept and shown; write api_key: ${OPENAI_API_KEY}",
        ),
        (
            "{model: m, base_url: 'https://u:hunter2@x/v1'}",
            "p.yaml:3:31: cost.judge.base_url is no plain address; it must be an http:// or https://"
            " address without"
            " user, password and query; the key has a place of its own, api_key: ${NAME}",
        ),
        (
            "{model: m, base_url: 'http://x/v1', lowest: 5, highest: 1}",
            "p.yaml:3:66: cost.judge.highest is 1; the ratings go from 5 to 1; turn them round",
        ),
        (
            "{model: m, base_url: 'http://x/v1', score: expected, highest: 10}",
            "p.yaml:3:72: cost.judge.highest is 10; an expected rating needs ratings of one token, 9 at most;"
            " lower highest, or write score: number",
        ),
        (
            "{model: m, base_url: 'http://x/v1', price_in: 1}",
            "p.yaml:3:56: cost.judge.price_in is 1; price_in and price_out belong together; add the other",
        ),
        (
            "{model: m, base_url: 'http://x/v1', request: '[1]'}",
            "p.yaml:3:55: cost.judge.request is [1]; it must be a JSON object; write for instance"
            " '{\"seed\": 1}'",
        ),
        (
            "{model: m, base_url: 'http://x/v1', categories: [hate]}",
            "p.yaml:3:58: cost.judge.categories is a list; it plays no part in ask: rating; remove it",
        ),
    ],
)
def test_a_profile_with_a_judge_that_cannot_serve(text, message):
    with pytest.raises(ProfileError) as error:
        RiskProfile.from_text(PROFILE + text, "p.yaml")
    assert str(error.value) == message
    assert "hunter2" not in str(error.value)
    assert KEY not in str(error.value)


def test_keys_are_named_and_never_written(monkeypatch):
    text = PROFILE + "{model: m, base_url: '${JUDGE_URL}', api_key: '${JUDGE_KEY}'}"
    profile = RiskProfile.from_text(text, "p.yaml")
    assert variables(profile) == ["JUDGE_URL", "JUDGE_KEY"]
    assert RiskProfile.from_text(profile.to_yaml(), "q.yaml").cost == profile.cost
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with pytest.raises(ConfigError, match=r"needs \$\{JUDGE_URL\}, which is not set in the environment"):
        Rater.of(profile.cost.settings)
    monkeypatch.setenv("JUDGE_URL", "https://host/v1")
    rater = Rater.of(profile.cost.settings)
    assert (rater.base_url, rater.key) == ("https://host/v1", KEY)
    assert KEY not in profile.to_yaml() + repr(rater)


def test_what_a_judge_lacks_is_said_before_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = JudgeSettings("m", "https://host/v1")
    assert judge_problems("cost.judge", settings) == [
        "cost.judge: OPENAI_API_KEY is empty; https://host/v1 needs a key; set it, or name another by"
        " cost.judge.api_key"
    ]
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Rate {answer}. {scale}")
    assert judge_problems("cost.judge", JudgeSettings("m", "http://127.0.0.1:1/v1", rubric=str(rubric))) == [
        f"cost.judge: {rubric}:1:16: {{scale}} is not a placeholder; they are {{prompt}}, {{answer}},"
        " {format}; remove it",
        f"cost.judge: {rubric}: {{prompt}} is missing; the judge must see it; add it to the text",
    ]
    with pytest.raises(DataError):
        Rater.of(JudgeSettings("m", "http://127.0.0.1:1/v1", rubric=str(tmp_path / "no.txt")))


def test_the_estimate_is_a_bound():
    rater = Rater.of(JudgeSettings("m", "http://127.0.0.1:1/v1", price_in=1.0, price_out=2.0, max_tokens=8))
    found = rater.estimate(1000, 200)
    own = len(json.dumps(rater.body("", "")).encode()) // 4
    assert (found.calls, found.tokens_in, found.tokens_out) == (1000, 1000 * (200 + own), 8000)
    assert found.price == pytest.approx((found.tokens_in + 2 * 8000) / 1e6)

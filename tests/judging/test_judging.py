"""``rad judge`` against a server that answers well: counts, order, seeds, cache, estimate, the key."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def pair_of(files, baseline, candidate):
    return ["--baseline", files.write("sft", baseline), "--candidate", files.write("rad", candidate)]


def test_wins_ties_and_losses_are_counted_in_both_orders(rad, files):
    # 12 wins, 3 ties, 5 losses by construction.
    words = pair_of(files, [2] * 12 + [1] * 3 + [0] * 5, [1] * 20)
    assert rad.judge(*words) == 0
    result = rad.summary["result"]
    assert [result["overall"][name]["value"] for name in ("win", "tie", "lose")] == [0.6, 0.15, 0.25]
    assert result["seeds"][0]["win"] == {"count": 12, "share": 0.6}
    assert result["prompts"] == 20
    assert len(rad.server.asked) == 40
    orders = {asked.answers for asked in rad.server.asked}
    assert ("sft says harm 2", "rad says harm 1") in orders
    assert ("rad says harm 1", "sft says harm 2") in orders
    assert result["position"]["followed"]["value"] == 0
    assert result["position"]["warning"] is None
    assert {row["less_harmful"] for row in rad.verdicts[:24]} == {"candidate"}
    assert {row["less_harmful"] for row in rad.verdicts[-10:]} == {"baseline"}
    assert {asked.authorization for asked in rad.server.asked} == {f"Bearer {os.environ['OPENAI_API_KEY']}"}
    judge = rad.summary["judge"]
    assert (judge["model"], judge["served_as"], judge["tokens_in"]) == ("m", ["judge-2026-01"], 4000)
    assert (
        "It is not shown who is less harmful: of 17 pairs that are not ties rad has"
        " 70.6\N{NO-BREAK SPACE}% [46.9, 86.7]." in rad.out
    )
    assert re.search(r"all +60\s% +15\s% +25\s% +20 *\n", rad.out)
    assert re.search(r"95 % interval +\[38.7, 78.1\] +\[5.2, 36.0\] +\[11.2, 46.9\] *\n", rad.out)


def test_the_winner_is_named_and_drawn(rad, files):
    from matplotlib import image

    assert rad.judge(*pair_of(files, [2] * 30, [1] * 27 + [3] * 3)) == 0
    assert rad.out.startswith(
        "rad is judged less harmful than sft: of 30 pairs that are not ties rad has 90\N{NO-BREAK SPACE}%"
    )
    pixels = image.imread(rad.folder / "out" / "judge.png")
    candidate = (pixels[..., 2] > 0.6) & (pixels[..., 0] < 0.2)
    baseline = (pixels[..., 0] > 0.7) & (pixels[..., 2] < 0.2)
    # Nine tenths of the bar are candidate, one tenth baseline; whiskers and figures cover a little of both.
    assert 6.5 < candidate.sum() / baseline.sum() < 11.5
    assert (rad.folder / "out" / "judge.svg").exists()


def test_a_judge_that_prefers_the_first_answer_is_found_out(rad, files):
    rad.server.answer = lambda asked: "[[A]]"
    assert rad.judge(*pair_of(files, [2] * 20, [1] * 20)) == 0
    result = rad.summary["result"]
    assert result["overall"]["tie"]["value"] == 1.0
    assert result["position"]["followed"]["value"] == 1.0
    warning = (
        "the judge is biased to the first answer: it preferred the first in 100\N{NO-BREAK SPACE}% of the 20"
        " pairs whose verdict changed with the order"
    )
    assert result["position"]["warning"] == warning
    assert f"! {warning}" in rad.out
    assert "rad and sft are judged equally harmful: every pair is a tie." in rad.out


def test_a_judge_that_guesses_is_found_out(rad, files):
    # In quarters always the first, the second, the baseline, the candidate: on average as a coin.
    def guess(asked):
        number = next(int(answer.split()[-1]) for answer in asked.answers if answer.startswith("rad"))
        baseline = "A" if asked.answers[0].startswith("sft") else "B"
        return f"[[{('A', 'B', baseline, 'B' if baseline == 'A' else 'A')[number % 4]}]]"

    rad.server.answer = guess
    assert rad.judge(*pair_of(files, [2] * 60, list(range(60)))) == 0
    assert rad.summary["result"]["position"]["warning"] == (
        "the judge is not shown to be better than a coin: 50\N{NO-BREAK SPACE}% of 60 preferences changed"
        " with the order of the answers"
    )


def test_seeds_are_paired_and_their_spread_is_told(rad, files):
    words = ["--baseline", files.write("sft", [2] * 10)]
    for seed, wins in enumerate((9, 7, 8), 1):
        words += ["--candidate", files.write(f"rad-{seed}", [1] * wins + [3] * (10 - wins))]
    assert rad.judge(*words) == 0
    result = rad.summary["result"]
    assert [seed["win"]["share"] for seed in result["seeds"]] == [0.9, 0.7, 0.8]
    assert result["overall"]["win"]["mean_of_seeds"] == pytest.approx(0.8)
    assert result["overall"]["win"]["std_of_seeds"] == pytest.approx(0.1)
    assert "mean ± std 80 % ± 10 % 0 % ± 0 % 20 % ± 10 %" in re.sub(r"\s+", " ", rad.out)
    assert rad.summary["candidate"]["name"] == "rad"


def test_a_second_run_makes_no_calls_and_says_the_same(rad, files):
    words = pair_of(files, [2] * 10, [1] * 10)
    assert rad.judge(*words) == 0
    first, seen = rad.summary, len(rad.server.asked)
    assert rad.judge(*words) == 0
    assert len(rad.server.asked) == seen == 20
    assert rad.summary["result"] == first["result"]
    assert rad.summary["judge"]["replies_from_cache"] == 20
    assert "0 calls (20 more are in the cache)" in rad.err


def test_equal_answers_are_ties_that_nobody_is_asked_about(rad, files):
    baseline = files.write("a", [1] * 10)
    candidate = files.folder / "b.jsonl"
    candidate.write_text(Path(baseline).read_text())
    assert rad.judge("--baseline", baseline, "--candidate", str(candidate)) == 0
    assert rad.server.asked == []
    assert rad.summary["result"]["equal_answers"] == 10
    assert rad.summary["result"]["overall"]["tie"]["value"] == 1.0


def test_json_verdicts_carry_their_schema(rad, files):
    def judge(asked):
        a, b = (int(answer[-1]) for answer in asked.answers)
        return json.dumps({"reason": "because", "verdict": "A" if a < b else "B"})

    rad.server.answer = judge
    assert rad.judge(*pair_of(files, [2] * 10, [1] * 10), "--form", "json") == 0
    assert rad.summary["result"]["overall"]["win"]["value"] == 1.0
    assert rad.server.asked[0].body["response_format"]["type"] == "json_schema"


def test_request_keys_go_into_the_body_and_null_leaves_one_out(rad, files):
    words = [
        "--request",
        "max_completion_tokens=50",
        "--request",
        "max_tokens=null",
        "--request",
        "temperature=null",
    ]
    assert rad.judge(*pair_of(files, [2] * 8, [1] * 8), *words) == 0
    body = rad.server.asked[0].body
    assert set(body) == {"model", "messages", "max_completion_tokens"}
    assert "at most 800 out" in rad.err


def test_requests_at_once_are_bounded(rad, files):
    rad.server.delay = 0.05
    assert rad.judge(*pair_of(files, [2] * 10, [1] * 10), "--concurrency", "3") == 0
    assert rad.server.at_once == 3


def test_a_dry_run_calls_nothing_and_shows_a_request(rad, files, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    words = [*pair_of(files, [2] * 10, [1] * 10), "--dry-run", "--price-in", "0.15", "--price-out", "0.6"]
    assert rad.judge(*words, base_url="https://api.example.org/v1") == 0
    assert rad.server.asked == []
    address, body, estimate = rad.out.strip().split("\n\n", 1)[0], *rad.out.strip().rsplit("\n\n", 1)
    assert address == (
        "POST https://api.example.org/v1/chat/completions\nAuthorization: Bearer $OPENAI_API_KEY"
    )
    request = json.loads(body.split("\n\n", 1)[1])
    assert request["messages"][0]["content"].startswith("You compare two answers")
    size = sum(len(request["messages"][0]["content"].encode()) for _ in range(20))
    tokens = int(re.search(r"about ([\d,]+) tokens in", estimate)[1].replace(",", ""))
    assert tokens == pytest.approx(size / 4, rel=0.01)
    price = (tokens * 0.15 + 20 * 1024 * 0.6) / 1e6
    assert estimate == (
        f"20 calls, about {tokens:,} tokens in (4 bytes a token) and at most 20,480 out:"
        f" at most about {price:,.2f} at the prices given"
    )


def test_nobody_to_say_yes(server, files, key, tmp_path):
    words = ["judge", "--model", "m", "--base-url", server.url, "--cache", str(tmp_path / "c")]
    done = run(*words, *pair_of(files, [1], [2]))
    assert done.returncode == 64
    assert done.stderr.endswith("error: the calls need a yes, and nobody is there to give it; add --yes\n")
    assert server.asked == []


def run(*words, **more):
    code = "from openrlhf_rad.cli.rad import app; app()"
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **more
    )


def test_the_key_is_written_nowhere(server, files, key, tmp_path):
    """Not even where the endpoint repeats it in replies and errors, and the client logs all it does."""
    from starlette.responses import JSONResponse

    def echo(asked):
        if len(server.asked) % 4 == 0:
            return JSONResponse({"error": {"message": f"bad {asked.authorization}"}}, status_code=400)
        return f"{asked.authorization}\n[[A]]"

    server.answer = echo
    environment = {**os.environ, "OPENAI_LOG": "debug", "OPENAI_API_KEY": key}
    words = [
        "judge",
        "--model",
        "m",
        "--base-url",
        server.url,
        "--yes",
        "--cache",
        str(tmp_path / "c.sqlite"),
    ]
    done = run(*words, *pair_of(files, [1] * 9, [2] * 9), "--out", str(tmp_path / "out"), env=environment)
    assert done.returncode == 2, done.stderr
    assert {asked.authorization for asked in server.asked} == {f"Bearer {key}"}
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert [
        content
        for content in (*written, done.stdout.encode(), done.stderr.encode())
        if key.encode() in content
    ] == []
    assert any(b"Bearer [key]" in content for content in written)
    # The whole is a real test only if the log did say much.
    assert "DEBUG" in done.stderr


def test_ctrl_c_keeps_what_is_done(server, files, key, tmp_path):
    server.delay = 0.15
    words = [
        "judge",
        "--model",
        "m",
        "--base-url",
        server.url,
        "--yes",
        "--cache",
        str(tmp_path / "c.sqlite"),
    ]
    words += [*pair_of(files, [1] * 40, [2] * 40), "--out", str(tmp_path / "out"), "--concurrency", "2"]
    code = "from openrlhf_rad.cli.rad import app; app()"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(server.asked) < 8:
        assert time.monotonic() < deadline, "it asks nothing"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("stopped; the replies so far are kept, run the same command again to resume\n")
    assert not (tmp_path / "out" / "judge.json").exists()
    before = len(server.asked)
    server.delay = 0.0
    done = run(*words)
    assert done.returncode == 0, done.stderr
    # At least the 6 that were answered before the signal are not asked again.
    assert 80 - before <= len(server.asked) - before <= 74


def test_an_evaluation_folder_names_its_models(rad, files):
    (files.folder / "answers").mkdir()
    for name, harm in (("sft", 2), ("rad", 1)):
        Path(files.write(name, [harm] * 8)).rename(files.folder / "answers" / f"{name}.jsonl")
    assert rad.judge("--eval", str(files.folder), "--baseline", "sft", "--candidate", "rad") == 0
    assert rad.summary["result"]["overall"]["win"]["value"] == 1.0
    assert rad.judge("--eval", str(files.folder), "--baseline", "stf", "--candidate", "rad") == 2
    where = files.folder
    assert rad.err == (
        f"error: {where}: no answers of stf; it holds rad, sft; check the name or the folder\n"
    )

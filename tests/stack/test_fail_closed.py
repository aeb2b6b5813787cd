"""A cost or reward server that fails in the middle of a run ends it; none ends in a finished run."""

import json
import re
import socket
import struct
import time

import pytest

from openrlhf_rad.runs import RunFolder

pytestmark = [pytest.mark.stack, pytest.mark.slow]

#: Answers that a run rates before its third step: of the reference, held out, and of two steps.
GOOD = 256 + 400 + 2 * 64
TIMES = ("--rad.server_timeout", "3", "--rad.server_deadline", "8")


def ratings(handler):
    """What a good server says of the last request."""
    return [len(set(query)) + len(query) / 97 for query in handler.server.requests[-1]["query"]]


def say(handler, value):
    handler.answer(200, json.dumps({"rewards": value}), 0.0)


def down(handler):
    """Connections are cut as by a server that has gone."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def slow(handler):
    time.sleep(5)
    say(handler, ratings(handler))


def wrong_length(handler):
    say(handler, [*ratings(handler), 0.0])


def not_a_number(handler):
    say(handler, [float("nan")] * len(ratings(handler)))


def constant(handler):
    say(handler, [1.0] * len(ratings(handler)))


SERVER = r"the run stops rather than train without {role}s; mend the server"
FAILURES = {
    down: rf"in \d attempts? over [\d.]+ s.*{SERVER}",
    slow: rf"[Tt]ime.*in \d attempts? over [\d.]+ s; the deadline is 8 s; {SERVER}",
    wrong_length: r"(gave 65 costs for 64 samples|gave the reward \[.*a reward must be one finite number)",
    not_a_number: r"the {role} nan .*a {role} must be (a|one) finite number",
    constant: r"1 (to|for) all samples of 3 batches in a row .*; a {role} must tell answers apart",
}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
@pytest.mark.parametrize("role", ["cost", "reward"])
def test_a_server_that_fails_stops_the_run(role, failure, server, run, tmp_path):
    rated = 0

    def answer(handler):
        nonlocal rated
        rated += len(handler.server.requests[-1]["query"])
        if rated <= GOOD:
            say(handler, ratings(handler))
        else:
            failure(handler)

    server.plan = [answer]
    source = ("--set", f"cost.remote_url={server.url}") if role == "cost" else ()
    reward = ("--reward.remote_url", server.url) if role == "reward" else ()
    out = tmp_path / "run"
    words = ("--preset", "tiny", "--profile", "medical", "--set", "reference.samples=256", "--out", str(out))
    done = run(*words, *source, "--", *TIMES, "--ckpt.save_steps", "1", *reward)
    assert done.returncode == 1, done.stdout + done.stderr
    text = (out / "error.txt").read_text(encoding="utf-8")
    assert re.search(FAILURES[failure].replace("{role}", role), text), text
    steps = len(RunFolder(out).read_metrics())
    assert steps == (4 if failure is constant else 2)
    assert f"the last whole checkpoint is of step {steps} in {out}" in text
    assert not (out / "model").exists()
    assert not (out / "summary.json").exists()

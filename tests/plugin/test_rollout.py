"""The rollout worker: a reward that failed stops the run; OpenRLHF would train on without it."""

import asyncio
import re
from types import SimpleNamespace

import pytest
import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor

from openrlhf_rad.errors import RewardError
from openrlhf_rad.plugin.arguments import Patience
from openrlhf_rad.plugin.rollout import WEIGHT_SYNCS, FailClosedRollout, SharedTokenizer


@pytest.fixture
def answers(tokenizer, tmp_path):
    """What a worker returns for a prompt, its rewards from a file of this text or servers."""

    def generate(reward_file, *, samples=2, sent=tokenizer, times=1, servers=None):
        path = tmp_path / "reward.py"
        if reward_file is not None:
            path.write_text(reward_file)

        class Worker(FailClosedRollout):
            def __init__(self):
                self.executor = SingleTurnAgentExecutor(servers if reward_file is None else str(path))
                self._watch_rewards(QUICK)

            async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
                ids = tokenizer("help-ba harm-be")["input_ids"]
                return SimpleNamespace(
                    outputs=[SimpleNamespace(token_ids=ids, finish_reason="stop", logprobs=None)]
                )

        parameters = SimpleNamespace(max_tokens=8, logprobs=None)

        async def calls():
            worker = Worker()
            for _ in range(times):
                found = await worker.generate_responses(
                    prompt="plain-ba plain-be",
                    label="label",
                    sampling_params=parameters,
                    max_length=64,
                    hf_tokenizer=sent,
                    num_samples=samples,
                )
            return found

        return str(path), asyncio.run(calls())

    return generate


QUICK = Patience(attempts=3, pause=0.02, longest_pause=0.05, connect=1, answer=0.3, deadline=5)
WORKS = """
import torch
def reward_func(queries, prompts, labels):
    one = torch.ones(1)
    return {"rewards": one / 2, "scores": one, "extra_logs": {"a": 2 * one}}
"""


def test_a_reward_that_works_passes_through(answers):
    _, found = answers(WORKS)
    assert [(r["reward"], r["scores"], r["extra_logs"]["a"]) for r in found] == [(0.5, 1.0, 2.0)] * 2


def test_without_a_reward_source_there_is_nothing_to_ask(answers):
    _, found = answers(None)
    assert [response["reward"] for response in found] == [None, None]


def test_a_failure_that_passes_is_made_good(answers):
    _, found = answers(
        "calls = []\n"
        "def reward_func(queries, prompts, labels):\n"
        "    calls.append(queries)\n"
        "    if len(calls) == 1:\n"
        "        raise OSError('busy')\n"
        "    assert (queries, prompts, labels) == (\n"
        "        ['plain-ba plain-be help-ba harm-be'], ['plain-ba plain-be'], ['label'])\n"
        "    return {'rewards': 0.25}\n",
        samples=1,
    )
    assert (found[0]["reward"], found[0]["scores"], found[0]["extra_logs"]) == (
        0.25,
        0.25,
        {WEIGHT_SYNCS: 0},
    )


def test_a_failure_that_lasts_stops_the_run_with_its_cause(answers, tmp_path):
    with pytest.raises(RewardError) as error:
        answers("def reward_func(queries, prompts, labels):\n    raise ValueError('judge is out')\n")
    assert str(error.value) == (
        f"{tmp_path / 'reward.py'} failed for the prompt 'plain-ba plain-be': ValueError: judge is out"
    )
    assert isinstance(error.value.__cause__, ValueError)


@pytest.mark.parametrize("given", ["{}", "None", "{'reward': 1.0}", "{'rewards': None}", "[0.5]", "0.5"])
def test_an_answer_without_a_reward_stops_the_run(given, answers, tmp_path):
    message = (
        f"{tmp_path / 'reward.py'} gave no reward for the prompt 'plain-ba plain-be': {eval(given)!r};"
        " return {'rewards': tensor}"
    )
    with pytest.raises(RewardError, match=f"^{re.escape(message)}$"):
        answers(f"def reward_func(queries, prompts, labels):\n    return {given}\n")


def test_a_reward_of_zero_is_a_reward(answers):
    _, found = answers("def reward_func(queries, prompts, labels):\n    return {'rewards': 0.0}\n")
    assert [response["reward"] for response in found] == [0.0, 0.0]
    assert torch.isfinite(torch.tensor(found[0]["reward"]))


@pytest.mark.parametrize(
    ("given", "value"),
    [("float('nan')", "nan"), ("'0.5'", "'0.5'"), ("True", "True"), ("torch.ones(2)", "[1.0, 1.0]")],
)
def test_a_reward_that_is_not_one_finite_number_stops_the_run(given, value, answers, tmp_path):
    message = (
        f"{tmp_path / 'reward.py'} gave the reward {value} for the prompt 'plain-ba plain-be'; a reward must"
        " be one finite number; the run stops rather than train on it"
    )
    with pytest.raises(RewardError, match=f"^{re.escape(message)}$"):
        answers(
            f"import torch\ndef reward_func(queries, prompts, labels):\n    return {{'rewards': {given}}}\n"
        )


ASKED = {
    "query": ["plain-ba plain-be help-ba harm-be"],
    "prompts": ["plain-ba plain-be"],
    "labels": ["label"],
}


@pytest.mark.parametrize("text", ['{"rewards": 0.5}', '{"rewards": [0.5], "extra_logs": {"a": [0.5]}}'])
def test_a_server_is_asked_for_each_answer(text, answers, server):
    """The second is what OpenRLHF's own server says."""
    server.plan = [(200, text, 0.0)]
    _, found = answers(None, servers=[server.url])
    assert [(response["reward"], response["scores"]) for response in found] == [(0.5, 0.5)] * 2
    assert all(response["extra_logs"].get("a", 0.5) == 0.5 for response in found)
    assert server.requests == [ASKED] * 2


def test_servers_are_asked_in_turn(answers, server):
    server.plan = [(200, '{"rewards": 0.5}', 0.0)]
    answers(None, servers=[server.url, f"{server.url}/second"], samples=4)
    assert sorted(server.paths) == ["/costs"] * 2 + ["/costs/second"] * 2


def test_a_server_that_fails_for_a_while_is_asked_again(answers, server):
    server.plan = [(503, "", 0.0), (200, '{"rewards": 1.0}', 0.5), (200, '{"rewards": 2.0}', 0.0)]
    _, found = answers(None, servers=[server.url], samples=1)
    assert found[0]["reward"] == 2.0


@pytest.mark.parametrize(
    ("answer", "what", "asked"),
    [
        ((500, "", 0.0), r"it answered 500 Internal Server Error, in 3 attempts over \d\.\d s", 3),
        ((200, '{"rewards": 1.0}', 0.6), r".*[Tt]ime.*, in 3 attempts over \d\.\d s", 3),
        ((403, "who are you?", 0.0), r"it answered 403 Forbidden: 'who are you\?'", 1),
        ((200, "oh", 0.0), r"its answer is not JSON \(JSONDecodeError\): 'oh'", 1),
        ((200, '{"reward": 1.0}', 0.0), r"it gave no 'rewards': \{'reward': 1\.0\}", 1),
        ((200, "[0.5]", 0.0), r"it gave no 'rewards': \[0\.5\]", 1),
    ],
)
def test_a_server_that_keeps_failing_stops_the_run(answer, what, asked, answers, server):
    server.plan = [answer]
    url = server.url.replace("http://", "http://u:p@")
    message = (
        f"^reward server {re.escape(server.url.replace('//', '//***@'))} failed for the prompt"
        f" 'plain-ba plain-be': {what}; the run stops rather than train without rewards; mend the server,"
        " then resume from the last checkpoint$"
    )
    with pytest.raises(RewardError, match=message) as error:
        answers(None, servers=[url], samples=1)
    assert error.value.__cause__ is None  # the library's text may hold the address
    assert len(server.requests) == asked


@pytest.mark.parametrize("value", ["NaN", "[0.5, 0.5]", '"high"'])
def test_a_server_s_reward_that_is_not_one_finite_number_stops_the_run(value, answers, server):
    server.plan = [(200, f'{{"rewards": {value}}}', 0.0)]
    with pytest.raises(RewardError, match="a reward must be one finite number"):
        answers(None, servers=[server.url])


class Reference:
    """Stands for a reference into Ray's object store; counts how often it is awaited."""

    def __init__(self, value):
        self.value, self.taken = value, 0

    def __await__(self):
        self.taken += 1
        yield from asyncio.sleep(0).__await__()
        return self.value


def test_a_shared_tokenizer_is_taken_out_of_the_store_once(answers, tokenizer):
    reference = Reference(tokenizer)
    _, plain = answers(WORKS)
    _, found = answers(WORKS, sent=SharedTokenizer(reference), times=3)
    assert reference.taken == 1
    assert [response["observation_tokens"] for response in found] == [
        response["observation_tokens"] for response in plain
    ]


def test_a_failure_is_scored_again_with_a_shared_tokenizer(answers, tokenizer):
    with pytest.raises(RewardError, match="judge is out"):
        answers(
            "def reward_func(queries, prompts, labels):\n    raise ValueError('judge is out')\n",
            sent=SharedTokenizer(Reference(tokenizer)),
        )

"""Samples come in the order of their prompts, drawn from seeds of their own, also after a kill.

The generator is OpenRLHF's, the loader of the prompts torchdata's; engines and Ray are played, and answer in
any order.
"""

import pickle
import random
from collections import Counter
from types import SimpleNamespace

import pytest
import ray
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from torchdata.stateful_dataloader import StatefulDataLoader

from openrlhf_rad.errors import DataError
from openrlhf_rad.plugin import sampling
from openrlhf_rad.plugin.experience import filtered, send_along
from openrlhf_rad.plugin.resume import reseed
from openrlhf_rad.plugin.rollout import Ticket
from openrlhf_rad.plugin.sampling import OrderedSamples, label_text


class Engine:
    """Answers each prompt at once with its ticket; keeps what it is asked."""

    scores = staticmethod(lambda prompt: None)
    seen = staticmethod(lambda ticket: None)

    def __init__(self, log):
        self.log = log

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *args, **kwargs: self.call(name, *args, **kwargs))

    def call(self, name, *args, **kwargs):
        self.log.append((name, *args))
        if name == "get_num_unfinished_requests":
            return 0
        if name != "generate_responses":
            return None
        ticket = kwargs["ticket"]
        self.seen(ticket)
        return [
            {
                "prompt": kwargs["prompt"],
                "label": f"{ticket.seed}/{number}",
                "observation_tokens": [1, 2, 3],
                "action_ranges": [(1, 3)],
                "rollout_log_probs": None,
                "reward": 0.0,
                "scores": self.scores(kwargs["prompt"]),
                "place": ticket.place,
            }
            for number in range(kwargs["num_samples"])
        ]


@pytest.fixture
def generators(good_args, monkeypatch):
    """Makes a generator over some prompts, as a trainer of seed 42 would."""
    shuffled = random.Random(7)

    def wait(references, num_returns, timeout):
        taken = shuffled.randrange(len(references))
        return [references[taken]], references[:taken] + references[taken + 1 :]

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda found: found)

    def make(prompts=20, *flags):
        args = good_args(*flags)
        args.rollout.vllm_generate_batch_size = args.rollout.vllm_generate_batch_size or None
        reseed(3)
        collate = lambda rows: ([""], rows, [""], [None])  # noqa: E731
        loader = StatefulDataLoader([f"p{i}" for i in range(prompts)], 1, shuffle=True, collate_fn=collate)
        log = []
        plain = SamplesGenerator(SimpleNamespace(args=args), loader, None, None, [Engine(log), Engine(log)])
        made = OrderedSamples.like(plain, "tokenizer")
        made.log = log
        return made

    return make


def fit(generator, episodes, states=None, start=None):
    """OpenRLHF's loop over episodes, with RAD's states at each step; returns all batches."""
    batches = []
    first = 0
    if start is not None:
        generator.load_state_dict(start["samples"])
        generator.prompts_dataloader.load_state_dict(start["loader"])
        first = start["episode"]
    for episode in range(first, episodes):
        while True:
            samples, _, _, exhausted = generator.generate_samples(n_samples_per_prompt=2)
            if not samples:
                break
            batches.append([(sample.prompts[0], sample.labels[0]) for sample in samples])
            if states is not None:
                state = {
                    "episode": episode + generator.episode_is_over,
                    "samples": generator.state_dict(),
                    "loader": generator.prompts_dataloader.state_dict(),
                }
                states.append(pickle.loads(pickle.dumps(state)))  # as a checkpoint holds it
            if exhausted:
                break
    return batches


DETERMINISTIC = "--train.full_determinism_enable"


def test_answers_keep_the_order_of_their_prompts(generators):
    generator = generators()
    (batch, *_) = fit(generator, 1)
    prompts = [prompt for prompt, _ in batch]
    assert prompts[::2] == prompts[1::2]  # the answers to a prompt stand together
    assert len(set(prompts)) == 4
    again, _, _ = generator._generate_vllm(
        iter([([""], [prompt], [""], [None]) for prompt in prompts[::2]]), 4, False, n_samples_per_prompt=1
    )
    assert [sample.prompts[0] for sample in again] == prompts[::2]


def test_every_answer_has_a_seed_of_its_own_the_same_in_each_run(generators):
    first, second = (fit(generators(20, DETERMINISTIC), 2) for _ in range(2))
    assert first == second
    labels = [label for batch in first for _, label in batch]
    assert max(Counter(labels).values()) == 1
    assert fit(generators(20, DETERMINISTIC, "--train.seed", "43"), 2) != first


def test_without_determinism_the_engine_draws(generators):
    tickets = generators()
    tickets.begin("batch 0")
    assert next(tickets._tickets()) == Ticket(0, None)


def test_with_determinism_an_engine_waits_for_all_its_prompts(generators):
    generator = generators(20, DETERMINISTIC)
    fit(generator, 1)
    names = [entry[0] for entry in generator.log[: generator.log.index(("admit", 4)) + 2]]
    assert Counter(names) == {
        "pause_generation": 2,
        "get_num_unfinished_requests": 2,
        "generate_responses": 4,
        "admit": 2,
    }
    assert names.index("generate_responses") > names.index("pause_generation")
    assert names[-2:] == ["admit", "admit"]


def test_more_prompts_than_an_engine_takes_at_a_time_do_not_wait_for_each_other(generators, monkeypatch):
    """The call that admits must be among the thousand that Ray runs: it follows the last with a turn."""
    monkeypatch.setattr(sampling, "AT_A_TIME", 3)
    turns = []
    monkeypatch.setattr(Engine, "seen", staticmethod(lambda ticket: turns.append(ticket.turn)))
    generator = generators(20, DETERMINISTIC, "--rollout.batch_size", "12", "--train.batch_size", "24")
    samples, *_ = generator.generate_samples(n_samples_per_prompt=2)
    assert len(samples) == 24
    assert [entry for entry in generator.log if entry[0] == "admit"] == [("admit", 6)] * 2
    # Two engines with six prompts each: three in their turn, three that wait for nothing.
    assert Counter(turns) == {0: 2, 1: 2, 2: 2, None: 6}
    assert fit(generators(20, DETERMINISTIC), 1) == fit(generators(20, DETERMINISTIC), 1)


@pytest.mark.parametrize(
    ("prompts", "flags"),
    [
        (20, ()),
        (18, ()),  # the last batch of an episode is short
        (20, ("--rollout.vllm_generate_batch_size", "12")),  # samples are made ahead
        (18, ("--rollout.vllm_generate_batch_size", "12")),
    ],
    ids=["even", "short last batch", "made ahead", "made ahead, short"],
)
def test_a_run_that_goes_on_from_any_step_makes_the_same_batches(generators, prompts, flags):
    states = []
    whole = fit(generators(prompts, DETERMINISTIC, *flags), 3, states)
    assert sum(len(batch) for batch in whole) == 3 * 2 * prompts
    for step, state in enumerate(states, 1):
        rest = fit(generators(prompts, DETERMINISTIC, *flags), 3, start=state)
        assert whole[step:] == rest, step


FILTERING = ("--algo.dynamic_filtering_enable", "--algo.dynamic_filtering_range", "0", "1")


def is_kept(prompt):
    return int(prompt[1:]) % 3 == 0


@pytest.mark.parametrize("determinism", [(), (DETERMINISTIC,)])
def test_what_is_filtered_out_travels_with_what_is_kept(generators, monkeypatch, determinism):
    """7 of 20 prompts have a mean score inside (0, 1); the other 13 are dropped, all their answers whole."""
    monkeypatch.setattr(Engine, "scores", staticmethod(lambda prompt: 0.5 if is_kept(prompt) else 1.0))
    generator = generators(20, *FILTERING, *determinism)
    kept, dropped = [], []
    for _ in range(2):
        samples, _, _, _ = generator.generate_samples(n_samples_per_prompt=2)
        kept += samples
        dropped += filtered(samples)
        assert all(isinstance(sample.prompts[0], str) for sample in filtered(samples))
    prompts = [sample.prompts[0] for sample in [*kept, *dropped]]
    assert Counter(prompts) == {f"p{number}": 2 for number in range(20)}
    assert all(is_kept(sample.prompts[0]) for sample in kept)
    assert not any(is_kept(sample.prompts[0]) for sample in dropped)
    again = pickle.loads(pickle.dumps(kept))  # through a queue of Ray's, or a checkpoint
    assert len(filtered(again)) == len(dropped) == 26


def test_without_filtering_nothing_travels_along(generators):
    generator = generators(20)
    assert filtered(generator.generate_samples(n_samples_per_prompt=2)[0]) == []


def test_dropped_prompts_are_dealt_to_the_kept_ones_whole():
    kept = [SimpleNamespace(name=f"k{number}") for number in range(4)]
    dropped = [SimpleNamespace(name=f"d{number}") for number in range(6)]
    send_along(kept, [*dropped[:2], *kept, *dropped[2:]], each=2)
    held = [[one.name for one in getattr(sample, "filtered", ())] for sample in kept]
    assert held == [["d0", "d1", "d4", "d5"], [], ["d2", "d3"], []]


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (None, ""),
        ("", ""),
        (0, "0"),
        (1, "1"),
        (1.0, "1"),
        (0.25, "0.25"),
        (False, "false"),
        (True, "true"),
        ("Privacy Violation", "Privacy Violation"),
    ],
)
def test_scalars_are_labels_as_text(label, text):
    assert label_text(label) == text


@pytest.mark.parametrize(("label", "shown"), [(["a", "b"], "a list"), ({"a": 1}, "a mapping")])
def test_other_labels_stop_the_run(label, shown):
    with pytest.raises(DataError, match=f"^the label of a prompt is {shown}; it must be a text, a number"):
        label_text(label)

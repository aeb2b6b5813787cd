"""Reference and held-out answers: texts, scores and order, through OpenRLHF's own sample generator."""

import json
import random
from types import SimpleNamespace

import pytest
import ray
from openrlhf.datasets import PromptDataset
from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.jobs.tiny_words import WORDS
from openrlhf_rad.plugin.costs.sources import FunctionCost
from openrlhf_rad.plugin.costs.texts import rated_texts
from openrlhf_rad.plugin.experience import RadExperienceMaker, attach_costs
from openrlhf_rad.plugin.record import Answers
from openrlhf_rad.plugin.sampling import AnswerSampler, heldout_dataset, reference_indices

ANSWERS = [
    ("plain-ba", "help-ba"),
    ("plain-ba plain-be plain-bi", "harm-ba plain-be help-bi help-bo"),
    ("<|im_start|> user plain-bo <|im_end|> <|im_start|> assistant", "help-be help-bu"),
    ("plain-bu plain-ca", "plain-ca"),
]


@pytest.fixture
def answers(tokenizer):
    """Experiences as the trainer records them."""

    def of(found, sources=("cost",)):
        return Answers.of(found, [rated_texts(batch, tokenizer) for batch in found], sources)

    return of


@pytest.mark.parametrize("sizes", [(4,), (1, 3), (2, 2)], ids=str)
def test_rows_hold_the_answer_and_nothing_else(sizes, rollout, batches, answers):
    """The answer starts right after the prompt and ends with its last token, padded or not."""
    samples = [
        rollout(prompt, answer, reward=i / 4, label=f"label {i}", truncated=i == 2)
        for i, (prompt, answer) in enumerate(ANSWERS)
    ]
    found = batches(samples, *sizes)
    attach_costs(found, {"cost": [0.5, 1.5, 2.5, 3.5]})
    assert answers(found).rows() == [
        {
            "prompt": prompt,
            "answer": f" {answer}",
            "label": f"label {i}",
            "reward": i / 4,
            "cost": i + 0.5,
            "sent": True,
            "finished": i != 2,
        }
        for i, (prompt, answer) in enumerate(ANSWERS)
    ]


@pytest.mark.parametrize("costs", [{"harm": [0.5]}, {"harm": [0.5], "privacy": [2.0]}], ids=str)
def test_a_run_s_files_have_the_first_cost_by_itself_and_several_by_name(costs, rollout, batches, answers):
    found = batches([rollout("plain-ba", "help-ba", reward=0.25, label="a")], 1)
    attach_costs(found, costs)
    (row,) = answers(found, list(costs)).rows()
    assert list(row.items()) == [
        ("prompt", "plain-ba"),
        ("answer", " help-ba"),
        ("label", "a"),
        ("reward", 0.25),
        ("cost", 0.5),
        *([("costs", {"harm": 0.5, "privacy": 2.0})] if len(costs) > 1 else []),
        ("sent", True),
        ("finished", True),
    ]


def test_the_end_token_is_no_part_of_the_answer(rollout, batches, answers):
    found = batches([rollout("plain-ba", "help-ba help-be <|im_end|>"), rollout("plain-ba", "<|im_end|>")], 2)
    attach_costs(found, {"cost": [0.0, 0.0]})
    assert [text.answer for text in answers(found).texts] == [" help-ba help-be", ""]


def test_a_sequence_that_was_cut_keeps_what_was_trained_on(rollout, batches, answers):
    found = batches([rollout("plain-ba plain-be", "help-ba help-be help-bi", max_len=4)], 1)
    attach_costs(found, {"cost": [0.0]})
    assert answers(found).texts[0].answer == " help-ba help-be"


@pytest.fixture
def dataset(good_args, tokenizer):
    """Prompts as OpenRLHF's dataset holds them."""

    def build(*pairs):
        args = good_args("--data.label_key", "label")
        strategy = SimpleNamespace(args=args, is_rank_0=lambda: False)
        return PromptDataset([{"input": p, "label": label} for p, label in pairs], tokenizer, strategy)

    return build


class Generator(SamplesGenerator):
    """OpenRLHF's generator with engines that answer at once, in any order, the prompt's words reversed."""

    def _dispatch_prompts_to_vllm(self, prompts, labels, *, images=None, **kwargs):
        assert kwargs == {"temperature": 0.5, "max_len": 64, "n_samples_per_prompt": 1}
        references = []
        for prompt, label in zip(prompts, labels, strict=True):
            ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            value = float(prompt.count("help-"))
            response = {
                "prompt": prompt,
                "label": label,
                "observation_tokens": ids + ids[::-1],
                "action_ranges": [(len(ids), 2 * len(ids))],
                "rollout_log_probs": None,
                "reward": value,
                "scores": value,
            }
            references.append([response])
        random.Random(0).shuffle(references)
        return references


@pytest.fixture
def sampler(good_args, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "wait", lambda refs, num_returns, timeout: (refs[-1:], refs[:-1]))
    monkeypatch.setattr(ray, "get", lambda ref: ref)
    path = tmp_path / "cost.py"
    path.write_text(
        "def cost_func(queries, prompts, labels):\n    return [len(q.split()) for q in queries]\n"
    )
    args = good_args()
    strategy = SimpleNamespace(args=args)
    maker = RadExperienceMaker(None, None, None, None, FixedKLController(0.0), strategy, tokenizer)
    maker.cost_sources = {"cost": FunctionCost(str(path))}
    generator = Generator(strategy, None, None, tokenizer, [])
    return AnswerSampler(generator, maker, {"temperature": 0.5, "max_len": 64})


def expected(prompt, label):
    words = prompt.split()
    return {
        "prompt": prompt,
        "answer": " ".join(["", *reversed(words)]),
        "label": label,
        "reward": float(prompt.count("help-")),
        "cost": 2.0 * len(words),
        "sent": True,
        "finished": True,
    }


PAIRS = [
    (" ".join([*WORDS["plain"][i : i + 1 + i % 3], *WORDS["help"][: i % 4]]), f"label {i}") for i in range(9)
]


@pytest.mark.parametrize("indices", [range(9), [7, 2, 5], [3]], ids=str)
def test_answers_come_in_the_order_that_was_asked_for(indices, sampler, dataset):
    found = sampler.sample(dataset(*PAIRS), indices).rows()
    assert found == [expected(*PAIRS[index]) for index in indices]


def test_equal_prompts_keep_their_places_and_labels(sampler, dataset):
    """A data set may repeat a prompt, and the reference sample may ask one again."""
    pairs = [PAIRS[0], PAIRS[1], (PAIRS[0][0], "another label")]
    indices = [0, 1, 2, 1, 0, 2]
    assert sampler.sample(dataset(*pairs), indices).rows() == [expected(*pairs[index]) for index in indices]


def test_reference_indices_follow_the_seed(dataset):
    data = dataset(*PAIRS)
    assert reference_indices(data, 30, 7) == reference_indices(data, 30, 7)
    assert reference_indices(data, 9, 7) != reference_indices(data, 9, 8)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("count", [1, 8, 9, 10, 18, 25])
def test_reference_indices_ask_each_prompt_before_any_twice(count, size, dataset):
    found = reference_indices(dataset(*PAIRS[:size]), count, 0)
    assert len(found) == count
    times = [found.count(index) for index in range(size)]
    assert sum(times) == count
    assert max(times) - min(times) <= 1
    assert sorted(found[:size]) != found[:size] or count < size


def test_reference_indices_need_a_prompt(dataset):
    message = "^the prompt dataset is empty; check --data.prompt_dataset and --data.input_key$"
    with pytest.raises(ConfigError, match=message):
        reference_indices(dataset(), 8, 0)


def test_heldout_prompts_are_read_as_training_prompts_are(tiny, good_args, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    args = good_args("--data.label_key", "label", "--data.input_template", "ask {} now")
    strategy = SimpleNamespace(args=args, is_rank_0=lambda: False, print=lambda *_: None)
    data = heldout_dataset(str(tiny.heldout_prompts), strategy, tokenizer)
    lines = [json.loads(line) for line in tiny.heldout_prompts.read_text().splitlines()]
    assert [data[i][1:3] for i in range(len(data))] == [
        (f"ask {row['input']} now", row["label"]) for row in lines
    ]

"""Scored answers of the policy as the engines hold it now: the reference sample and the held-out set."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from openrlhf.datasets import PromptDataset
from openrlhf.datasets.utils import blending_datasets
from openrlhf.trainer.ray.vllm_engine import batch_vllm_engine_call

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin.experience import RadExperienceMaker, cost_columns
from openrlhf_rad.plugin.ratings.texts import answer_texts, finished_b
from openrlhf_rad.plugin.samples import label_text

Row = dict[str, Any]


class AnswerSampler:
    """Answers prompts with OpenRLHF's own sample generator and scores them with both sources."""

    def __init__(
        self, samples_generator: Any, experience_maker: RadExperienceMaker, generate_kwargs: Row
    ) -> None:
        self._generator = samples_generator
        self._maker = experience_maker
        self._kwargs = {**generate_kwargs, "n_samples_per_prompt": 1}

    def sample(self, dataset: Any, indices: Sequence[int]) -> list[Row]:
        """One scored answer to each prompt: prompt, answer, label, reward, cost; in order of ``indices``."""
        sleeping = self._generator.args.vllm.enable_sleep
        if sleeping:
            batch_vllm_engine_call(self._generator.vllm_engines, "wake_up")
        samples, _, _ = self._generator._generate_vllm(
            dataloader_iter=_batches(dataset, indices),
            num_prompts=len(indices),
            dynamic_filtering=False,
            **self._kwargs,
        )
        if sleeping:
            batch_vllm_engine_call(self._generator.vllm_engines, "sleep")
        batches = self._maker.split_rollout_samples(_in_order(samples, dataset, indices))
        self._score(batches)
        return rows(batches, self._maker.tokenizer, list(self._maker.cost_sources))

    def _score(self, batches: list[Any]) -> None:
        self._maker.score_costs(batches)
        if batches[0].rewards is None:
            group = self._maker.reward_model_group
            references = self._maker._dispatch_forward(
                group,
                self._maker.args.train.colocate_all,
                sequences=[batch.sequences for batch in batches],
                attention_mask=[batch.attention_mask for batch in batches],
                pad_sequence=[True] * len(batches),
            )
            ds = self._maker.args.ds
            scores = self._maker._flatten_results(references, ds.ring_attn_size * ds.tensor_parallel_size)
            for batch, reward in zip(batches, scores, strict=True):
                batch.rewards = batch.info["reward"] = reward


def rows(experiences: Sequence[Any], tokenizer: Any, sources: Sequence[str]) -> list[Row]:
    """Experiences as plain records, one a sample; the answer without special tokens.

    ``cost`` is of the first source; where there are several, ``costs`` holds them all by name. ``sent`` says
    that the prompt is as it was sent, ``finished`` whether the policy ended the answer: ``rad eval`` reads
    both, so that it rates what was rated here.
    """
    records = []
    columns = cost_columns(sources)
    for experience in experiences:
        answers, finished = answer_texts(experience, tokenizer), finished_b(experience)
        reward = experience.info["reward"].tolist()
        costs = {name: experience.info[column].tolist() for name, column in columns.items()}
        first = next(iter(costs.values()))
        for i, prompt in enumerate(experience.prompts):
            record = {
                "prompt": prompt,
                "answer": answers[i],
                "label": experience.labels[i],
                "reward": reward[i],
                "cost": first[i],
                "sent": True,
                "finished": finished[i],
            }
            if len(costs) > 1:
                record["costs"] = {name: cost[i] for name, cost in costs.items()}
            records.append(record)
    return records


def costs_of(row: Row, sources: Sequence[str]) -> dict[str, float]:
    """The costs of a record of :func:`rows` by source."""
    return row["costs"] if len(sources) > 1 else {sources[0]: row["cost"]}


def _in_order(samples: Sequence[Any], dataset: Any, indices: Sequence[int]) -> list[Any]:
    """Engines answer in any order; a prompt may occur more than once, also with another label."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, index in enumerate(indices):
        _, prompt, label, _ = dataset[index]
        places.setdefault((prompt, label_text(label)), []).append(place)
    ordered: list[Any] = [None] * len(indices)
    for sample in samples:
        ordered[places[sample.prompts[0], label_text(sample.labels[0])].pop(0)] = sample
    return ordered


def _batches(dataset: Any, indices: Sequence[int]) -> Iterator[Any]:
    return (dataset.collate_fn([dataset[index]]) for index in indices)


def reference_indices(dataset: Any, count: int, seed: int) -> list[int]:
    """Which training prompts the reference sample answers: ``count`` of them, again and again if need be."""
    indices = list(range(len(dataset)))
    if not indices:
        raise ConfigError("the prompt dataset is empty; check --data.prompt_dataset and --data.input_key")
    random.Random(seed).shuffle(indices)
    return [indices[i % len(indices)] for i in range(count)]


def heldout_dataset(path: str, strategy: Any, tokenizer: Any) -> Any:
    """The held-out prompts, read as OpenRLHF reads training prompts."""
    args = strategy.args
    data = blending_datasets(path, None, strategy, args.train.seed, dataset_split=args.data.prompt_split)
    return PromptDataset(data, tokenizer, strategy, input_template=args.data.input_template)

"""Sampling: OpenRLHF's generator, whole, ordered and seeded; reference and held-out answers by it.

Dynamic filtering drops prompts by their reward. The constraint is on the costs of all prompts that were
sampled, so what is dropped travels along with what is kept, and is scored with it.

OpenRLHF takes answers in the order in which they come back, and its engines draw all tokens from one
generator. Both depend on the clock, so that no two runs of one seed are alike and none can be resumed
exactly. Here every prompt takes a ticket along to its engine: its place among the prompts of the batch and,
with ``--train.full_determinism_enable``, its seed. An engine then also takes all prompts in, in their order,
before it begins: its numbers depend in their last bits on what it computes together.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import ray
from openrlhf.datasets import PromptDataset
from openrlhf.datasets.utils import blending_datasets
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.trainer.ray.vllm_engine import batch_vllm_engine_call

from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.plugin.costs.texts import TEXTS, RatedText
from openrlhf_rad.plugin.experience import RadExperienceMaker, send_along
from openrlhf_rad.plugin.record import Answers
from openrlhf_rad.plugin.resume import seed_of
from openrlhf_rad.plugin.rollout import AT_A_TIME, PLACE, Ticket
from openrlhf_rad.tables import shown
from openrlhf_rad.tables.formats import SCALARS, as_text


class WholeSamples(SamplesGenerator):  # type: ignore[misc]
    """OpenRLHF's sample generator that loses no answer, and whose labels are texts."""

    vllm_engines: list[Any]
    _filtering = False

    @classmethod
    def like(cls, plain: Any, tokenizer: Any) -> Self:
        """In place of ``plain``; ``tokenizer`` is what goes to the engines."""
        return cls(
            plain.strategy, plain.prompts_dataloader, plain.eval_dataloader, tokenizer, plain.vllm_engines
        )

    def _generate_vllm(
        self, dataloader_iter: Any, num_prompts: int, dynamic_filtering: bool, **generate_kwargs: Any
    ) -> Any:
        self._filtering, self._made = dynamic_filtering, list[Any]()
        samples, consumed, exhausted = super()._generate_vllm(
            dataloader_iter, num_prompts, dynamic_filtering, **generate_kwargs
        )
        each = generate_kwargs.get("n_samples_per_prompt", self.args.rollout.n_samples_per_prompt)
        send_along(samples, self._made, each)
        self._made = []
        return samples, consumed, exhausted

    def _process_response_into_experience(self, response: dict[str, Any], **kwargs: Any) -> Any:
        experience = super()._process_response_into_experience(response, **kwargs)
        experience.labels = [label_text(label) for label in experience.labels]
        if TEXTS in response:
            experience.info[TEXTS] = [response[TEXTS]]
        self._made.append(experience)
        return experience


def label_text(label: Any) -> str:
    """A prompt's label as a text, "" for none. Raises DataError for a list or a mapping."""
    if label is not None and not isinstance(label, SCALARS):
        raise DataError(
            f"the label of a prompt is {shown(label)}; it must be a text, a number or a truth value; name"
            " another key by --data.label_key"
        )
    return as_text(label) or ""


class OrderedSamples(WholeSamples):
    """OpenRLHF's sample generator, ordered and seeded.

    Attributes:
        batches: how many batches for training were made; a resumed run sets it to that of its checkpoint.
    """

    batches = 0
    _moment = "batch 0"
    _places: Iterator[int]
    _reopen = False

    def begin(self, moment: str) -> None:
        """From here on draw the answers of ``moment``; with the run's seed it determines them."""
        self._moment = moment
        self._places = itertools.count()

    def generate_samples(self, **generate_kwargs: Any) -> Any:
        """As OpenRLHF's."""
        self.begin(f"batch {self.batches}")
        if self._reopen:
            self._dataloader_iter, self._reopen = iter(self.prompts_dataloader), False
        batch = super().generate_samples(**generate_kwargs)
        self.batches += bool(batch[0])
        return batch

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: the batches made, and samples that were made ahead of the next one."""
        made = self.batches > 0  # else another process generates, or nothing was generated yet
        return {
            "batches": self.batches,
            "buffer": self._sample_buffer if made else [],
            "exhausted": made and self._dataloader_iter is None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from there; OpenRLHF restores the loader of the prompts itself, before the next batch."""
        self.batches = int(state["batches"])
        if state["buffer"]:  # else OpenRLHF opens the loader by itself
            self._dataloader_iter, self._sample_buffer = None, list(state["buffer"])
            self._reopen = not state["exhausted"]

    @property
    def episode_is_over(self) -> bool:
        """Whether the batch made last was the last one of its episode, as far as is known."""
        return self.batches > 0 and self._dataloader_iter is None and not self._sample_buffer

    def _generate_vllm(self, *args: Any, **kwargs: Any) -> Any:
        samples, consumed, exhausted = super()._generate_vllm(*args, **kwargs)
        return sorted(samples, key=lambda sample: int(sample.place)), consumed, exhausted

    def _dispatch_prompts_to_vllm(self, *args: Any, **kwargs: Any) -> Any:
        engines, tickets = self.vllm_engines, self._tickets()
        if self._deterministic:
            batch_vllm_engine_call(engines, "pause_generation")
        each = kwargs.get("n_samples_per_prompt", self.args.rollout.n_samples_per_prompt)
        ticketed = [_TicketedEngine(engine, tickets, each) for engine in engines]
        self.vllm_engines = ticketed
        try:
            answers = super()._dispatch_prompts_to_vllm(*args, **kwargs)
        finally:
            self.vllm_engines = engines
        if self._deterministic:
            ray.get([one.admitted() for one in ticketed])
        return answers

    def _process_response_into_experience(self, response: dict[str, Any], **kwargs: Any) -> Any:
        experience = super()._process_response_into_experience(response, **kwargs)
        experience.place = response[PLACE]
        return experience

    def _tickets(self) -> Iterator[Ticket]:
        for place in self._places:
            seed = seed_of(self.args.train.seed, self._moment, place) if self._deterministic else None
            yield Ticket(place, seed)

    @property
    def _deterministic(self) -> bool:
        """Not in an asynchronous run, whose prompts meet those of other batches in the engine; nor where
        prompts follow those that are filtered out, in the order in which their answers come back."""
        settled = not self.args.train.async_enable and not self._filtering
        return bool(self.args.train.full_determinism_enable and settled)


class _TicketedEngine:
    """A handle of an engine that hands every prompt its ticket.

    Ray runs a thousand calls of an actor at a time, in the order in which they were made, and a prompt that
    waits for its turn is one of them. So the call that admits prompts follows the last that fits, and those
    behind it have no turn.
    """

    def __init__(self, engine: Any, tickets: Iterator[Ticket], each: int) -> None:
        self.engine, self._tickets, self._each = engine, tickets, each
        self._prompts, self._admissions = 0, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    @property
    def generate_responses(self) -> _TicketedEngine:
        """The method of the engine; OpenRLHF calls ``remote`` on it."""
        return self

    def remote(self, **kwargs: Any) -> Any:
        """Send a prompt off."""
        ticket = next(self._tickets)
        if ticket.seed is None:
            return self.engine.generate_responses.remote(**kwargs, ticket=ticket)
        if self._prompts == AT_A_TIME:
            self.admitted()
        ticket = replace(ticket, turn=None if self._admissions else self._prompts)
        self._prompts += 1
        return self.engine.generate_responses.remote(**kwargs, ticket=ticket)

    def admitted(self) -> Any:
        """The call that lets the engine begin, made once."""
        if not self._admissions:
            self._admissions.append(self.engine.admit.remote(self._prompts * self._each))
        return self._admissions[0]


class AnswerSampler:
    """Answers prompts with OpenRLHF's own sample generator and scores them with both sources."""

    def __init__(
        self, samples_generator: Any, experience_maker: RadExperienceMaker, generate_kwargs: dict[str, Any]
    ) -> None:
        self._generator = samples_generator
        self._maker = experience_maker
        self._kwargs = {**generate_kwargs, "n_samples_per_prompt": 1}

    def sample(self, dataset: Any, indices: Sequence[int]) -> Answers:
        """One scored answer to each prompt, in order of ``indices``."""
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
        return Answers.of(batches, self._score(batches), list(self._maker.cost_sources))

    def _score(self, batches: list[Any]) -> list[list[RatedText]]:
        texts = self._maker.score_costs(batches)
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
        return texts


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

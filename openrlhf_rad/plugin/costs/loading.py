"""Rating models: loaded whole or not at all, and served to a run by a group of OpenRLHF's reward actors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from openrlhf.trainer.ray import launcher
from openrlhf.trainer.ray.launcher import RayActorGroup
from transformers import AutoTokenizer

from openrlhf_rad.errors import ConfigError, CostError
from openrlhf_rad.plugin.attach import plain_class
from openrlhf_rad.plugin.costs.sources import checked_costs
from openrlhf_rad.plugin.costs.texts import RatedText, rated_texts
from openrlhf_rad.plugin.patches import Patch, temporarily
from openrlhf_rad.plugin.vigil import rad_error, telling
from openrlhf_rad.plugin.workers import trusted


@contextmanager
def no_new_weights(location: str, learnt: Sequence[str] = ()) -> Iterator[None]:
    """Let no model that is loaded meanwhile have a weight that its files have not.

    Args:
        learnt: prefixes of weights that may be new, for training learns them.

    Raises:
        ConfigError: naming the weights that transformers would fill with random numbers.
    """

    def whole(original: Any) -> Any:
        def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
            model, info = original.__func__(cls, *args, **kwargs, output_loading_info=True)
            lacking = set(info["missing_keys"]) | {name for name, *_ in info["mismatched_keys"]}
            lacking = {name for name in lacking if not name.startswith(tuple(learnt))}
            bias = f"{getattr(model, 'value_head_prefix', None)}.bias"
            if lacking:
                shown = ", ".join(sorted(lacking)[:4]) + (", …" if len(lacking) > 4 else "")
                raise ConfigError(
                    f"{location} has no {shown}, which would be random numbers; a model that rates must be"
                    " whole; name a checkpoint that was trained to score answers, with its head"
                )
            if bias in info["unexpected_keys"]:
                raise ConfigError(
                    f"{location} has {bias}, which OpenRLHF's head has not and would leave out; save the"
                    " model without it, or rate by a Python file that loads it with its own class"
                )
            return model

        return classmethod(from_pretrained)

    reason = "transformers fills a weight that is missing with random numbers and warns"
    with temporarily(Patch("transformers:PreTrainedModel.from_pretrained", whole, reason)):
        yield


@telling
class RewardActor(plain_class(launcher, "RewardModelActor")):  # type: ignore[misc]
    """OpenRLHF's actor of a reward model, whose weights are those of its files."""

    def init_model_from_pretrained(self, strategy: Any, pretrain: str) -> None:
        """Load the model. Raises ConfigError where its files lack a weight."""
        with no_new_weights(pretrain):
            super().init_model_from_pretrained(strategy, pretrain)


@telling
class CostActor(RewardActor):
    """The same for a cost model, whose costs stay in its own units."""

    def init_model_from_pretrained(self, strategy: Any, pretrain: str) -> None:
        """Load the model, without ``--reward.normalize_enable``, which is about rewards."""
        strategy.args.reward.normalize_enable = False
        super().init_model_from_pretrained(strategy, pretrain)


def tokenizer_of(location: str) -> Any:
    """A rating model's own tokenizer; it pads on the right. Raises ConfigError where there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=trusted())
    except (OSError, ValueError) as cause:
        raise ConfigError(
            f"{location} has no tokenizer that loads ({type(cause).__name__}: {cause}); save it beside the"
            " weights"
        ) from cause
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokens_of(texts: Sequence[str], tokenizer: Any) -> Any:
    """``input_ids`` and ``attention_mask`` of texts, (B, T) each; their special tokens are written out."""
    return tokenizer(list(texts), add_special_tokens=False, padding=True, return_tensors="pt")


class CostModel:
    """Serves ``cost.model`` beside the reward model; it reads texts by its own tokenizer.

    Args:
        path: checkpoint folder or hub name.
        tokenizer: the policy's.
        strategy: OpenRLHF's strategy; its ``ds`` settings and ``--reward.offload`` hold for the model too.
        nodes, gpus_per_node: size of the group; it must be the actor's with ``--train.colocate_all``.
        placement_group: shared with the other models where they are colocated, else None.
        share: of each GPU of the placement group.
    """

    def __init__(
        self,
        path: str,
        *,
        tokenizer: Any,
        strategy: Any,
        nodes: int,
        gpus_per_node: int,
        placement_group: Any = None,
        share: float = 0.2,
        **_: Any,
    ) -> None:
        self.name = f"cost model {path}"
        self._strategy = strategy
        self._policy_tokenizer, self._tokenizer = tokenizer, tokenizer_of(path)
        ds = strategy.args.ds
        self._duplicates = ds.ring_attn_size * ds.tensor_parallel_size
        self._group = RayActorGroup(
            nodes,
            gpus_per_node,
            ray.remote(num_gpus=1)(CostActor),
            pg=placement_group,
            num_gpus_per_actor=share if placement_group else 1,
            duplicate_actors=self._duplicates,
        )
        self._loading = self._group.async_init_model_from_pretrained(strategy, path)

    def begin(self, samples_list: Sequence[Any]) -> tuple[list[Any], list[str]]:
        """Send the texts to the cost actors, in the model's own tokens."""
        self._wait_until_loaded()
        agent = bool(self._strategy.args.train.agent_func_path)
        texts = [rated_texts(samples, self._policy_tokenizer, agent=agent) for samples in samples_list]
        batches = [self._tokens(each) for each in texts]
        references = self._group.async_run_method_batch(
            method_name="forward",
            sequences=[batch["input_ids"] for batch in batches],
            attention_mask=[batch["attention_mask"] for batch in batches],
            pad_sequence=[True] * len(batches),
        )
        if self._strategy.args.train.colocate_all:  # one model at a time has the GPU's memory
            ray.get(references)
            ray.get(self._group.async_run_method(method_name="empty_cache"))
        return references, [text.prompt for each in texts for text in each]

    def finish(self, handle: tuple[list[Any], list[str]]) -> list[float]:
        """Gather the costs in the order of the samples."""
        references, prompts = handle
        try:
            shards = ray.get(references)[:: self._duplicates]
        except ray.exceptions.RayError as cause:
            raise CostError(f"{self.name} failed on a batch of {len(prompts)}: {cause}") from cause
        costs = [cost for batch in itertools.chain.from_iterable(shards) for cost in batch.float().tolist()]
        return checked_costs(costs, prompts, self.name)

    def _tokens(self, texts: Sequence[RatedText]) -> Any:
        return tokens_of([text.ended(self._tokenizer.eos_token or "") for text in texts], self._tokenizer)

    def _wait_until_loaded(self) -> None:
        try:
            ray.get(self._loading)
        except ray.exceptions.RayError as cause:
            raise rad_error(cause) or CostError(f"{self.name} does not load: {cause}") from cause
        self._loading = []

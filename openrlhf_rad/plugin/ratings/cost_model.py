"""A cost model: a checkpoint with a scalar head, served by its own group of OpenRLHF's reward actors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import ray
from openrlhf.trainer.ray.launcher import RayActorGroup

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.failures import rad_error
from openrlhf_rad.plugin.ratings.costs import checked_costs
from openrlhf_rad.plugin.ratings.loading import CostActor, tokenizer_of, tokens_of
from openrlhf_rad.plugin.ratings.texts import RatedText, rated_texts


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

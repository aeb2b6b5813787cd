"""The rollout worker that stops at a reward that failed; OpenRLHF logs the exception and goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from openrlhf.trainer.ray import vllm_engine

from openrlhf_rad.errors import RewardError
from openrlhf_rad.plugin.registry import plain_class


@dataclass(frozen=True)
class SharedTokenizer:
    """A tokenizer in Ray's object store, sent in place of the tokenizer itself.

    OpenRLHF sends its tokenizer along with every prompt; for a vocabulary of 49,000 pickling and unpickling
    it takes longer than a short answer. A worker takes this one out of the store once.
    """

    reference: ray.ObjectRef

    @classmethod
    def share(cls, tokenizer: Any) -> SharedTokenizer:
        """Put ``tokenizer`` into the store."""
        return cls(ray.put(tokenizer))


#: In the logs of an answer: how many weight syncs the engine had seen when it began the answer.
WEIGHT_SYNCS = "rad_weight_syncs"


class FailClosedRollout(plain_class(vllm_engine, "RolloutRayActor")):  # type: ignore[misc]
    """OpenRLHF's vLLM worker; each answer comes back with a reward, or the run stops with the cause."""

    _weight_syncs = 0

    async def generate_responses(self, *args: Any, **kwargs: Any) -> Any:
        """Generate and score; a missing reward is asked for once more, with its exception let through."""
        hf_tokenizer = await self._tokenizer(kwargs.pop("hf_tokenizer"))
        syncs = self._weight_syncs
        responses = await super().generate_responses(*args, hf_tokenizer=hf_tokenizer, **kwargs)
        for response in responses:
            response["extra_logs"] = {**(response.get("extra_logs") or {}), WEIGHT_SYNCS: syncs}
        if getattr(self.executor, "reward_endpoints", None):
            for response in responses:
                if response["reward"] is None:
                    await self._score_again(response, hf_tokenizer)
        return responses

    async def update_weight(self, name: str, dtype: Any, shape: Any, empty_cache: bool = False) -> Any:
        """Receive one weight by broadcast; ``empty_cache`` marks the last one of a sync."""
        result = await super().update_weight(name, dtype, shape, empty_cache)
        self._weight_syncs += empty_cache
        return result

    async def update_weight_cuda_ipc(
        self, name: str, dtype: Any, shape: Any, ipc_handles: Any, empty_cache: bool = False
    ) -> Any:
        """Receive one weight of a model on the same GPU."""
        result = await super().update_weight_cuda_ipc(name, dtype, shape, ipc_handles, empty_cache)
        self._weight_syncs += empty_cache
        return result

    async def _tokenizer(self, given: Any) -> Any:
        if not isinstance(given, SharedTokenizer):
            return given
        if getattr(self, "_shared_tokenizer", None) is None:
            self._shared_tokenizer = await given.reference
        return self._shared_tokenizer

    async def _score_again(self, response: dict[str, Any], hf_tokenizer: Any) -> None:
        executor, source = self.executor, self.executor.reward_endpoints[0]
        query = hf_tokenizer.decode(response["observation_tokens"], skip_special_tokens=False)
        fetch = executor._fetch_rewards_via_func if executor.reward_func else executor._fetch_rewards_via_http
        where = f"for the prompt {response['prompt'][:200]!r}"
        try:
            found = (await fetch([query], [response["prompt"]], [response["label"]]))[0]
        except Exception as cause:
            raise RewardError(f"{source} failed {where}: {type(cause).__name__}: {cause}") from cause
        if not isinstance(found, dict) or found.get("rewards") is None:
            raise RewardError(f"{source} gave no reward {where}: {found!r}; return {{'rewards': tensor}}")
        response.update(
            reward=found["rewards"],
            scores=found["rewards"] if found.get("scores") is None else found["scores"],
            extra_logs={**response["extra_logs"], **(found.get("extra_logs") or {})},
        )

"""Rating models: loaded whole or not at all, and served to a run by a group of OpenRLHF's reward actors."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import torch
from openrlhf.models import get_llm_for_sequence_regression
from openrlhf.trainer.ray import launcher
from openrlhf.trainer.ray.launcher import RayActorGroup
from transformers import AutoTokenizer

from openrlhf_rad.errors import ConfigError, CostError
from openrlhf_rad.plugin.attach import plain_class
from openrlhf_rad.plugin.costs.sources import CostRater, checked_costs
from openrlhf_rad.plugin.costs.texts import Columns, RatedText, from_columns, to_columns
from openrlhf_rad.plugin.patches import Patch, temporarily
from openrlhf_rad.plugin.vigil import rad_error, telling
from openrlhf_rad.plugin.workers import trusted
from openrlhf_rad.processor import has_gpu

#: Texts that a model in this process reads at a time.
_AT_A_TIME = 16


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
        self._tokenizer = tokenizer_of(pretrain)

    def rate(self, texts: Columns) -> Any:
        """The costs of a micro-batch, shape (B,); tokenised here, beside other parts of the rollout."""
        tokens = tokens_of(from_columns(texts), self._tokenizer)
        return self.forward(tokens["input_ids"], tokens["attention_mask"], pad_sequence=True)


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


def tokens_of(texts: Sequence[RatedText], tokenizer: Any) -> Any:
    """``input_ids`` and ``attention_mask`` of what a model reads, (B, T) each.

    Queries, with the model's own end token where the policy ended its answer; special tokens are written out.
    """
    read = [text.ended(tokenizer.eos_token or "") for text in texts]
    return tokenizer(read, add_special_tokens=False, padding=True, return_tensors="pt")


class ModelCost(CostRater):
    """A checkpoint with a scalar head, which reads texts by its own tokenizer.

    Args:
        path: checkpoint folder or hub name.
    """

    def __init__(self, path: str, role: str = "cost") -> None:
        self.name = f"{role} model {path}"
        self.tokenizer = tokenizer_of(path)


class LoadedModel(ModelCost):
    """A model in this process, loaded as OpenRLHF's reward actors load it; it rates in :meth:`finish`."""

    def __init__(self, path: str, role: str = "cost") -> None:
        super().__init__(path, role)
        attention, self._device = ("flash_attention_2", "cuda") if has_gpu() else ("sdpa", "cpu")
        with no_new_weights(path):
            model = get_llm_for_sequence_regression(
                path, "reward", attn_implementation=attention, param_dtype="bf16"
            )
        self._model = model.to(self._device).eval()

    def begin(self, batches: Sequence[Sequence[RatedText]]) -> list[RatedText]:
        """Nothing yet: there is nothing to work beside."""
        return [text for batch in batches for text in batch]

    def finish(self, handle: list[RatedText]) -> list[float]:
        """The costs, by micro-batches of texts of like length."""
        order = sorted(range(len(handle)), key=lambda i: len(handle[i].query))
        costs = torch.zeros(len(handle))
        with torch.inference_mode():
            for first in range(0, len(order), _AT_A_TIME):
                index = order[first : first + _AT_A_TIME]
                batch = tokens_of([handle[i] for i in index], self.tokenizer).to(self._device)
                rated = self._model(batch.input_ids, batch.attention_mask, pad_sequence=True)
                costs[index] = rated.float().cpu()
        return checked_costs(costs, [text.prompt for text in handle], self.name)


def reason(cause: ray.exceptions.RayError) -> str:
    """Why an actor gave nothing; where Ray ended it for want of memory, its page of figures in a sentence."""
    if "running low on memory" not in str(cause):
        return str(cause)
    used = re.search(r"was ([\d.]+GB) / ([\d.]+GB)", str(cause))
    figures = f", {used[1]} of {used[2]} were in use" if used else ""
    return (
        f"the node ran out of memory{figures}, and Ray ended the process; end other programs, take a smaller"
        " model or smaller batches, or raise RAY_memory_usage_threshold"
    )


class Group:
    """The actors of one source beside a run; what goes wrong in them is the source's CostError.

    Args:
        name: what messages call the source. actor: its class. arguments: of its loading.
        strategy: OpenRLHF's; its ``ds`` settings hold for models in these actors too.
        nodes, gpus_per_node: size of the group; it must be the actor's with ``--train.colocate_all``.
        placement_group: shared with the other models where they are colocated, else None.
        share: of each GPU of the placement group.
        duplicates: actors that hold parts of one model, and so get the same batches.
        on_gpus: False: workers on CPUs alone.
    """

    def __init__(
        self,
        name: str,
        actor: type,
        arguments: Sequence[Any],
        *,
        strategy: Any,
        nodes: int,
        gpus_per_node: int,
        placement_group: Any = None,
        share: float = 0.2,
        duplicates: int = 1,
        on_gpus: bool = True,
    ) -> None:
        self._name, self._duplicates = name, duplicates
        self._colocated = on_gpus and strategy.args.train.colocate_all
        of_a_gpu = share if placement_group else 1
        if not on_gpus:  # a group of several on one node would reserve GPUs for itself
            nodes, gpus_per_node, placement_group, of_a_gpu = nodes * gpus_per_node, 1, None, 0
        self.size = nodes * gpus_per_node // duplicates
        self._group = RayActorGroup(
            nodes,
            gpus_per_node,
            ray.remote(num_gpus=1)(actor),
            pg=placement_group,
            num_gpus_per_actor=of_a_gpu,
            duplicate_actors=duplicates,
        )
        self._loading = self._group.async_init_model_from_pretrained(*arguments)

    def begin(self, method: str, **batches: Sequence[Any]) -> list[Any]:
        """Call a method on each of as many batches as the lists are long, in all actors."""
        self._wait_until_loaded()
        references: list[Any] = self._group.async_run_method_batch(method_name=method, **batches)
        if self._colocated:  # one model at a time has the GPU's memory
            ray.get(references)
            ray.get(self._group.async_run_method(method_name="empty_cache"))
        return references

    def finish(self, references: list[Any], count: int) -> list[Any]:
        """What the method gave for each batch, in order. Raises CostError."""
        try:
            shards = ray.get(references)[:: self._duplicates]
        except ray.exceptions.RayError as cause:
            raise CostError(f"{self._name} failed on a batch of {count}: {reason(cause)}") from cause
        return list(itertools.chain.from_iterable(shards))

    def _wait_until_loaded(self) -> None:
        try:
            ray.get(self._loading)
        except ray.exceptions.RayError as cause:
            raise rad_error(cause) or CostError(f"{self._name} does not load: {reason(cause)}") from cause
        self._loading = []


class ServedModel(ModelCost):
    """A cost model beside the reward model of a run, served by its own group of OpenRLHF's reward actors.

    Args:
        strategy: OpenRLHF's strategy; its ``ds`` settings and ``--reward.offload`` hold for the model too.
        serving: of :class:`Group`.
    """

    def __init__(self, path: str, *, strategy: Any, **serving: Any) -> None:
        super().__init__(path)
        ds = strategy.args.ds
        parts = ds.ring_attn_size * ds.tensor_parallel_size
        self._group = Group(
            self.name, CostActor, (strategy, path), strategy=strategy, duplicates=parts, **serving
        )

    def begin(self, batches: Sequence[Sequence[RatedText]]) -> tuple[list[Any], list[str]]:
        """Send the texts to the cost actors."""
        references = self._group.begin("rate", texts=[to_columns(batch) for batch in batches])
        return references, [text.prompt for batch in batches for text in batch]

    def finish(self, handle: tuple[list[Any], list[str]]) -> list[float]:
        """Gather the costs in the order of the answers."""
        references, prompts = handle
        rated = self._group.finish(references, len(prompts))
        return checked_costs([cost for batch in rated for cost in batch.float().tolist()], prompts, self.name)

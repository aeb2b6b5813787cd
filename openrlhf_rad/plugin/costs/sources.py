"""Cost sources. Costs that are missing, not finite, or never differ, stop the run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from typing import Any, Literal

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.arguments import SERVER_BATCH, Patience
from openrlhf_rad.plugin.compatibility import cost_models, share_of_gpu
from openrlhf_rad.plugin.costs.python_file import function_of
from openrlhf_rad.plugin.costs.server import RatingServer
from openrlhf_rad.plugin.costs.texts import RatedText
from openrlhf_rad.profile import RiskProfile, cost_name, named_costs
from openrlhf_rad.profile.addresses import addresses

Role = Literal["cost", "reward"]


class CostRater(ABC):
    """A source of costs, asked for a whole rollout at once, while the other models run.

    Attributes:
        name: what messages call it, without secrets.
    """

    name: str

    @abstractmethod
    def begin(self, batches: Sequence[Sequence[RatedText]]) -> Any:
        """Start rating answers, micro-batch by micro-batch; returns a handle for :meth:`finish`."""

    @abstractmethod
    def finish(self, handle: Any) -> list[float]:
        """Wait for the costs, one an answer in order, in the cost's own units.

        Raises:
            CostError: naming the source and the first bad prompt.
        """


class VaryingCosts:
    """A source whose costs must differ within a batch, now and then: by costs that do not, λ would move.

    Args:
        values: the only ones that they may have; none: any number.
    """

    def __init__(self, source: CostRater, values: Sequence[float] = ()) -> None:
        self.source = source
        self.name = source.name
        self.values = frozenset(values)
        self.variety = Variety()

    def begin(self, batches: Sequence[Sequence[RatedText]]) -> Any:
        """As the source does."""
        return self.source.begin(batches)

    @property
    def remark(self) -> str | None:
        """What to say of the last batch; None where there is nothing."""
        found = self.variety.remark
        return found and f"the cost of {self.name} {found}"

    def finish(self, handle: Any) -> list[float]:
        """The source's costs. Raises CostError at the third constant batch in a row, and what it raises."""
        costs = self.source.finish(handle)
        if self.values and (others := sorted({*costs} - self.values)):
            raise CostError(
                f"{self.name} gave the cost {others[0]:g}, and the profile says that it has the values"
                f" {', '.join(f'{value:g}' for value in sorted(self.values))} alone; mend the source, or the"
                " profile's values"
            )
        if batches := self.variety.constant(costs):
            raise CostError(
                f"{self.name} gave the cost {costs[0]:g} to all samples of {batches} batches in a row"
                f" ({len(costs)} in the last); a cost must tell answers apart; check that it sees the answers"
                " and that its model is loaded"
            )
        return costs


def checked_costs(raw: Any, prompts: Sequence[str], source: str) -> list[float]:
    """``raw`` as finite floats, one a prompt.

    Args:
        raw: a tensor, an array or a list, (B,) or (B, 1); or a mapping with it as ``costs`` or ``rewards``.
        prompts: the prompts of the samples, for the message.
        source: what to call the source in a message.

    Raises:
        CostError: wrong length, or a value that is missing, not a number, NaN or infinite.
    """
    if isinstance(raw, dict):
        key = next((key for key in ("costs", "rewards") if key in raw), None)
        if key is None:
            raise CostError(
                f"{source} answered with the keys {sorted(raw)}; it must give 'costs' (or 'rewards')"
            )
        if raw[key] is None:
            raise CostError(f"{source} gave null for '{key}'; it must give a list with one cost a sample")
        raw = raw[key]
    values = _as_list(raw, source)
    if len(values) != len(prompts):
        raise CostError(
            f"{source} gave {len(values)} costs for {len(prompts)} samples; it must give one each"
        )
    for position, (value, prompt) in enumerate(zip(values, prompts, strict=True)):
        if not is_finite_number(value):
            raise CostError(
                f"{source} gave the cost {value!r} for sample {position}, prompt {prompt[:200]!r};"
                " a cost must be a finite number; the run stops rather than train on it"
            )
    return [float(value) for value in values]


def is_finite_number(value: Any) -> bool:
    """Whether it is one; neither True nor False is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False


def _as_list(raw: Any, source: str) -> list[Any]:
    if hasattr(raw, "tolist"):
        raw = raw.tolist()
    if isinstance(raw, str) or not isinstance(raw, Iterable):
        raise CostError(f"{source} gave {raw!r}; it must give a list or tensor with one cost a sample")
    return [single(value) for value in raw]


def single(value: Any) -> Any:
    """What a tensor, an array or a list of one holds."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return value


#: Constant batches in a row that stop the run. One may be chance where answers are few.
CONSTANT_BATCHES = 3
# So few different values in so many samples are a rating with steps, such as 0 and 1, not a scale.
_STEPS, _ENOUGH = 4, 32
#: What is of these values alone may be a flag, which is often the same for all answers at first.
_FLAGS = frozenset({-1.0, 0.0, 1.0})


class Variety:
    """Whether ratings differ within a batch, now and then.

    An empty input, a default, a model that was not loaded give one number to a whole batch, which says
    nothing about the policy. A rating that has a few values only, such as 0 and 1, may well give one of them
    to a whole batch, and is let be; so is what may be a flag of which no other value has been seen yet.
    """

    def __init__(self) -> None:
        self._seen: set[float] = set()
        self._samples = self._constant = 0

    def constant(self, batch: Sequence[float]) -> int:
        """Take a batch in; how many batches in a row were constant if that is too many, else 0."""
        self._samples += len(batch)
        if len(self._seen) <= _STEPS:
            self._seen.update(batch)
        same = len(batch) > 1 and len(set(batch)) == 1
        has_steps = 1 < len(self._seen) <= _STEPS and self._samples >= _ENOUGH
        self._constant = self._constant + 1 if same and not has_steps else 0
        return self._constant if self._constant >= CONSTANT_BATCHES and not self._seen <= _FLAGS else 0

    @property
    def remark(self) -> str | None:
        """What to say once of a flag that has had one value in as many batches as would stop the run."""
        if self._constant != CONSTANT_BATCHES or len(self._seen) != 1 or not self._seen <= _FLAGS:
            return None
        (value,) = self._seen
        return (
            f"is {value:g} for all samples of the first {CONSTANT_BATCHES} batches ({self._samples} samples),"
            " which teaches nothing; a flag may begin so; if it should not, check that its source sees the"
            " answers and that its model is loaded"
        )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: what was seen."""
        return {"seen": sorted(self._seen), "samples": self._samples, "constant": self._constant}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from there."""
        self._seen, self._samples = set(state["seen"]), int(state["samples"])
        self._constant = int(state["constant"])


class TextCost(CostRater):
    """Rates texts in one call for all of them, in the background; all its calls are made in one thread."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rad-cost")

    @abstractmethod
    def score(self, texts: Sequence[RatedText]) -> Any:
        """The costs as the source gives them, not yet checked."""

    def begin(self, batches: Sequence[Sequence[RatedText]]) -> tuple[Future[Any], list[str]]:
        """Score in the background."""
        texts = [text for batch in batches for text in batch]
        return self._worker.submit(self.score, texts), [text.prompt for text in texts]

    def finish(self, handle: tuple[Future[Any], list[str]]) -> list[float]:
        """Wait, and check each value."""
        future, prompts = handle
        try:
            raw = future.result()
        except CostError:
            raise
        except Exception as cause:
            raise CostError(
                f"{self.name} failed on a batch of {len(prompts)}, first prompt {prompts[0][:200]!r}:"
                f" {type(cause).__name__}: {cause}"
            ) from cause
        return checked_costs(raw, prompts, self.name)


class FunctionCost(TextCost):
    """``cost_func(queries, prompts, labels)`` of a Python file; OpenRLHF's reward files have ``reward_func``.

    Raises:
        CostError: the file is not there, does not load, or has no such function.
    """

    def __init__(self, path: str, role: Role = "cost") -> None:
        super().__init__()
        self.name = f"{role} function {path}"
        self._function = function_of(path, f"{role}_func", f"{role} function", CostError)

    def score(self, texts: Sequence[RatedText]) -> Any:
        """One call for all."""
        return self._function(*protocol(texts).values())


#: Requests under way at one cost server.
_AT_ONCE = 4


class RemoteCost(TextCost):
    """Servers that take OpenRLHF's reward requests: query, prompts, labels in, rewards (or costs) out.

    Args:
        location: an address, or several with commas between them, as ``--reward.remote_url`` has them; each
            server rates its share.
        batch: answers in one request; a server is asked for several batches at once.
    """

    def __init__(
        self,
        location: str,
        patience: Patience | None = None,
        role: Role = "cost",
        batch: int = SERVER_BATCH,
    ) -> None:
        super().__init__()
        self._role, self._batch = role, batch
        self._servers = [RatingServer(url, patience or Patience()) for url in addresses(location)]
        self._threads = [ThreadPoolExecutor(_AT_ONCE, "rad-cost-server") for _ in self._servers]
        self.name = f"{role} server {', '.join(server.shown for server in self._servers)}"

    def score(self, texts: Sequence[RatedText]) -> Any:
        """Requests of equal size, dealt out to the servers in turn, a few at once to each.

        Raises:
            CostError: naming the server without its secrets, the first prompt, and what was tried.
        """
        requests = max(-(-len(texts) // self._batch), min(len(self._servers), len(texts)))
        share = -(-len(texts) // requests)
        asked = [
            threads.submit(_ask, self._role, server, texts[start : start + share])
            for start, server, threads in zip(
                range(0, len(texts), share), cycle(self._servers), cycle(self._threads), strict=False
            )
        ]
        try:
            return [cost for future in asked for cost in future.result()]
        finally:
            for future in asked:
                future.cancel()


def protocol(texts: Sequence[RatedText]) -> dict[str, list[Any]]:
    """The lists of OpenRLHF's rating protocol, in the order in which a function takes them."""
    return {
        "query": [text.query for text in texts],
        "prompts": [text.prompt for text in texts],
        "labels": [text.label for text in texts],
    }


def _ask(role: Role, server: RatingServer, texts: Sequence[RatedText]) -> list[float]:
    name, prompts = f"{role} server {server.shown}", [text.prompt for text in texts]

    def failed(what: str) -> CostError:
        return CostError(
            f"{name} failed on a batch of {len(prompts)}, first prompt {prompts[0][:200]!r}: {what};"
            f" the run stops rather than train without {role}s; mend the server, then resume from the last"
            " checkpoint"
        )

    found = server.ask(protocol(texts), failed)
    return checked_costs(found, prompts, name)


def source_of(
    kind: str,
    location: str,
    role: Role = "cost",
    patience: Patience | None = None,
    *,
    serving: Mapping[str, Any] | None = None,
    server_batch: int = SERVER_BATCH,
    settings: Any = None,
) -> CostRater:
    """The one implementation of each kind of source, for training and for ``rad eval``.

    Args:
        kind: ``model``, ``classifier``, ``judge``, ``ensemble``, ``function`` or ``remote_url``.
        serving: how a model is served beside a run (:class:`~openrlhf_rad.plugin.costs.loading.Group`); None:
            it is loaded into this process.
        settings: of a classifier, a judge or an ensemble.
    """
    if kind == "function":
        return FunctionCost(location, role)
    if kind == "remote_url":
        return RemoteCost(location, patience, role, server_batch)
    if kind == "ensemble":
        from openrlhf_rad.plugin.costs.ensemble import EnsembleCost  # noqa: PLC0415 - it imports this module

        sources = [source_of(one.kind, one.location, role, serving=serving) for one in settings.members]
        return EnsembleCost(sources, settings.spread)
    if kind == "judge":
        from openrlhf_rad.plugin.costs.judge import JudgeCost  # noqa: PLC0415 - it imports this module

        return JudgeCost(settings)
    if kind == "classifier":
        from openrlhf_rad.plugin.costs import classifier  # noqa: PLC0415 - imports the stack

        loaded = serving is None
        return (
            classifier.LoadedClassifier(settings)
            if loaded
            else classifier.ServedClassifier(settings, **serving or {})
        )
    from openrlhf_rad.plugin.costs import loading  # noqa: PLC0415 - imports the stack

    return (
        loading.LoadedModel(location, role) if serving is None else loading.ServedModel(location, **serving)
    )


def cost_sources(
    profile: RiskProfile,
    patience: Patience | None = None,
    server_batch: int = SERVER_BATCH,
    **serving: Any,
) -> dict[str, VaryingCosts]:
    """The sources of the profile by name, each once however many constraints share it.

    A source whose costs no longer vary stops the run.

    Args:
        serving: ``strategy``, ``nodes``, ``gpus_per_node`` and ``placement_group``, the last None where
            models do not share GPUs.

    Raises:
        CostError: a constraint without a cost.
    """
    lacking = [one.name for one in profile.constraints if one.cost is None]
    if lacking:
        raise CostError(
            f"profile {profile.name} has no cost for {', '.join(lacking)};"
            " add cost: {model: …}, {classifier: …}, {judge: …}, {ensemble: …}, {function: …} or"
            " {remote_url: …}"
        )
    if serving.get("placement_group") is not None:
        serving["share"] = share_of_gpu(serving["strategy"].args, cost_models(profile) or 1)
    values = {cost_name(profile, one): one.values for one in reversed(profile.constraints)}
    return {
        name: VaryingCosts(
            source_of(
                one.kind,
                one.location,
                patience=patience,
                serving=serving,
                server_batch=server_batch,
                settings=one.settings,
            ),
            values[name],
        )
        for name, one in named_costs(profile).items()
        if one
    }

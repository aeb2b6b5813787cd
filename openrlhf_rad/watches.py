"""Watches: what a training step's metrics say when a run goes wrong, in plain words; each can stop the run.

=============  ===================================================================================
``inert``      the constraint was never violated: it asks for nothing
``dead``       it is violated, and no sample feels it: its gradient is 0
``at_cap``     λ stays at its maximum while the constraint is violated
``inverted``   at first, what is known to be harmful costs less than what is not
``saturated``  policy and reference sit at the largest cost wherever the risk looks
``no_control`` λ rises and the risk rises with it
``transport``  the transport solver does not converge
``empty``      answers become empty
``short``      answers become short
``alike``      answers become the same
``entropy``    the policy becomes certain of every token
=============  ===================================================================================

Pure: a step's metrics go in, alarms come out. A metric that is absent keeps its watches silent. Each speaks
once when its condition is reached, and again only after it has cleared. "At first" means the first ``window``
steps; ``inverted`` and ``saturated`` look at the reference's answers too, before the first update
(:func:`at_start`). Where no prompt has a label for harm ``inverted`` is off, and that is said
(:func:`unlabelled`). All but the last four look at each constraint of a profile on its own, those at the
answers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import WatchStop
from openrlhf_rad.harm import harm_order, known_harm
from openrlhf_rad.method.constraint_set import Scored
from openrlhf_rad.method.particles import saturation
from openrlhf_rad.method.reference import MOST_SHARE
from openrlhf_rad.method.settings import cost_name
from openrlhf_rad.profile import RiskProfile, Severity, WatchSettings
from openrlhf_rad.profile.language import severities

Array = NDArray[np.float64]
Values = Mapping[str, float]
Metrics = Mapping[str, float | int | None]

#: Standard errors below one half at which a cost is called inverted, as in the watch on the first steps.
_SURE = 4.0
#: Labels that are named of those that do occur.
_NAMED = 8


def unlabelled(watches: WatchSettings, labels: Iterable[str]) -> str | None:
    """That the watch ``inverted`` is off, which needs one label for harm; None where it is on, or not wanted.

    Args:
        labels: of all training prompts, "" for none.
    """
    found = sorted({*labels} - {""})
    if watches.inverted == "off" or watches.harmful_label in found:
        return None
    held = f"the labels are {', '.join(found[:_NAMED])}" if found else "there are no labels"
    if more := len(found[_NAMED:]):
        held += f" and {more} others"
    return (
        f"the watch inverted is off: no prompt carries the label {watches.harmful_label}, {held}; name their"
        " key by --data.label_key and the one that means harm by watches.harmful_label in the profile, or set"
        " watches.inverted to off"
    )


@dataclass(frozen=True)
class Alarm:
    """What a watch says at a step: ``step N: VALUE; RULE; FIX``, after N the constraint of several."""

    step: int
    watch: str
    severity: Severity
    message: str


class Watches:
    """All watches of a run: those of each constraint, and those of the answers.

    Args:
        dual_max: constraint → λ's maximum; None where λ is held fixed, which silences ``at_cap``, ``dead``
            and ``inert``. Metrics go by plain names with one constraint, by ``name/metric`` with several.
        settings: of the profile.
    """

    def __init__(self, dual_max: Mapping[str, float | None], settings: WatchSettings) -> None:
        self.severity = severities(settings)
        found: dict[str, Watch] = {}
        for constraint, most in dual_max.items():
            for name, watch in of_a_constraint(most, settings.window).items():
                alone = len(dual_max) == 1
                found[name if alone else f"{constraint}/{name}"] = (
                    watch if alone else Scoped(watch, constraint)
                )
        found |= of_the_answers(settings.window)
        self._watches = {key: watch for key, watch in found.items() if self.severity[_name(key)] != "off"}
        self._speaking: set[str] = set()

    @classmethod
    def of(cls, profile: RiskProfile, *, fixed_dual: bool) -> Watches:
        """The watches of a profile's run; with a fixed dual none on λ."""
        return cls(
            {one.name: None if fixed_dual else one.dual.max for one in profile.constraints}, profile.watches
        )

    def see(self, metrics: Metrics) -> list[Alarm]:
        """Take a step's metrics in; the alarms that are new. The columns are those of ``metrics.jsonl``."""
        values = {name: float(value) for name, value in metrics.items() if value is not None}
        step, found = int(values.get("step", 0)), []
        for key, watch in self._watches.items():
            if not all(need in values for need in watch.needs):
                continue
            message, name = watch.see(values), _name(key)
            if message is not None and key not in self._speaking:
                found.append(Alarm(step, name, self.severity[name], f"step {step}: {message}"))
            (self._speaking.discard if message is None else self._speaking.add)(key)
        return found

    def check(self, metrics: Metrics) -> list[str]:
        """As :meth:`see`; the warnings as texts.

        Raises:
            WatchStop: for the alarms that stop the run, one a line.
        """
        alarms = self.see(metrics)
        stops = [alarm.message for alarm in alarms if alarm.severity == "stop"]
        if stops:
            raise WatchStop("\n".join(stops))
        return [alarm.message for alarm in alarms]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; exact through JSON."""
        return {
            "speaking": sorted(self._speaking),
            "watches": {name: watch.state_dict() for name, watch in self._watches.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on; a watch that was off before starts anew."""
        self._speaking = set(state["speaking"]) & set(self._watches)
        for name, watch in self._watches.items():
            if name in state["watches"]:
                watch.load_state_dict(state["watches"][name])


def _name(key: str) -> str:
    """The watch of a key: ``at_cap`` of ``harm/at_cap``."""
    return key.rpartition("/")[2]


def at_start(profile: RiskProfile, answers: Sequence[str], scored: Scored) -> list[Alarm]:
    """Alarms of step 0: costs whose sign is inverted, risks that are saturated.

    Args:
        answers: the reference's texts. scored: their costs by source, labels and prompts.
    """
    severity = severities(profile.watches)
    found: list[Alarm] = []

    def sound(watch: str, source: str, text: str) -> None:
        several = len(profile.constraints) > 1
        if severity[watch] != "off":
            message = f"step 0: {f'{source}: ' if several else ''}{text}"
            found.append(Alarm(0, watch, severity[watch], message))

    harmful_b = known_harm(answers, scored.labels, profile.watches.harmful_label)
    if harmful_b.any() and not harmful_b.all():
        for source, cost_b in scored.costs.items():
            order = harm_order(cost_b, harmful_b, np.asarray(scored.prompts))
            if order.inverted(_SURE):
                sound(
                    "inverted",
                    source,
                    f"by the labels of the prompts, {order.words} of the reference's; a cost must be higher"
                    " for more harm; check the sign of the cost",
                )
    for part in profile.constraints:
        kept = np.array([part.holds_for(label or None) for label in scored.labels], dtype=bool)
        cost_b = scored.costs[cost_name(profile, part)][kept]
        if cost_b.size and (same := saturation(part.risk, cost_b)):
            sound(
                "saturated",
                part.name,
                f"all that {part.risk} weighs sits at the largest cost that occurs, {same.cost:.3g}, which"
                f" {same.share:.1%} of the reference's answers have; it sees no difference until fewer have"
                f" it than it weighs; {same.advice}",
            )
    return found


def answer_metrics(answers: Sequence[str]) -> dict[str, float]:
    """``empty_share`` and ``distinct_share`` of one batch for :mod:`openrlhf_rad.watches`.

    Args:
        answers: the texts, without special tokens.

    Raises:
        ValueError: no answers.
    """
    if not answers:
        raise ValueError("there are 0 answers; a batch has at least one")
    texts = [answer.strip() for answer in answers]
    return {
        "empty_share": sum(not text for text in texts) / len(texts),
        "distinct_share": len(set(texts)) / len(texts),
    }


def of_a_constraint(dual_max: float | None, window: int) -> dict[str, Watch]:
    """Name → watch of one constraint; those of λ only where λ moves, up to dual_max."""
    found = _of_the_costs(window)
    return found if dual_max is None else {**_of_the_dual(dual_max, window), **found}


def _of_the_dual(dual_max: float, window: int) -> dict[str, Watch]:
    return {
        "inert": Streak(
            ("violation",),
            lambda v: v["violation"] < 0,
            window,
            lambda v, n: (
                f"the constraint was met in all {n} steps so far (violation {v['violation']:.3g}); it asks"
                " for nothing that the reference does not do; lower constraint.level or raise"
                " constraint.margin"
            ),
            from_start=True,
        ),
        "dead": Streak(
            ("violation", "lambda", "score_std"),
            lambda v: v["violation"] > 0 and v["lambda"] > 0 and v["score_std"] == 0,
            window,
            lambda v, n: (
                f"the constraint is violated by {v['violation']:.3g} and no sample has felt it for {n} steps"
                " (all scores are equal); λ rises for nothing; take more samples a rollout, or a risk that"
                " looks at more of the tail"
            ),
        ),
        "at_cap": Streak(
            ("lambda_next", "violation", "fall_asked", "fall_possible"),
            lambda v: v["lambda_next"] >= dual_max * (1 - 1e-9) and v["violation"] > 0,
            window,
            lambda v, n: (
                f"λ has been at its maximum {dual_max:g} for {n} steps and the constraint is still violated"
                f" by {v['violation']:.3g}; {_why(v['fall_asked'], v['fall_possible'])}"
            ),
        ),
    }


def _why(asked: float, possible: float) -> str:
    """Whether too much is asked, or the reward outweighs it."""
    share = f"it asks that the risk fall by {asked:.3g}, of {possible:.3g} at most"
    if asked > MOST_SHARE * possible:
        return f"{share}, when every answer costs the least: that is too much; lower what is asked"
    return f"{share}, which leaves room: reward outweighs it; raise dual.max"


def _of_the_costs(window: int) -> dict[str, Watch]:
    return {
        # At first only: a policy that has learned to evade makes answers to harmful prompts the cheaper ones.
        "inverted": Window(("harm_auc",), window, _inverted, first=True),
        "saturated": Streak(
            ("saturated", "risk"),
            lambda v: v["saturated"] == 1,
            window,
            lambda v, n: (
                f"policy and reference have sat at the largest cost that occurs, {v['risk']:.3g}, on all that"
                f" the risk weighs for {n} steps; it sees no difference between them; for a flag take the"
                " profile flags, the mean, or a risk that weighs more of the answers"
            ),
        ),
        "no_control": Window(("lambda", "risk"), 2 * window, _no_control),
        "transport": Window(("sinkhorn_converged", "marginal_error"), window, _transport),
    }


def of_the_answers(window: int) -> dict[str, Watch]:
    """Name → watch of what the policy says, whatever it costs."""
    return {
        "empty": Drift(
            "empty_share",
            window,
            lambda old, new: new > max(0.05, 2 * old),
            lambda old, new: (
                f"{new:.0%} of the answers are empty, {old:.0%} were at first; an empty answer costs nothing"
                " and says nothing; let the reward punish it, or lower dual.max"
            ),
        ),
        "short": Drift(
            "response_length",
            window,
            lambda old, new: new < 0.5 * old,
            lambda old, new: (
                f"answers have {new:.3g} tokens, {old:.3g} at first; costs may fall by saying less; look at"
                " samples.jsonl, and let the reward ask for substance"
            ),
        ),
        "alike": Drift(
            "distinct_share",
            window,
            lambda old, new: new < 0.5 and new < 0.75 * old,
            lambda old, new: (
                f"{new:.0%} of the answers of a step are distinct, {old:.0%} were at first; the policy"
                " collapses; raise --algo.kl.init_coef or lower --actor.adam.lr"
            ),
        ),
        "entropy": Drift(
            "entropy",
            window,
            lambda old, new: new < 0.25 * old,
            lambda old, new: (
                f"the policy's entropy is {new:.3g}, {old:.3g} at first; it explores no more; raise"
                " --algo.kl.init_coef or lower --actor.adam.lr"
            ),
        ),
    }


def _inverted(rows: Array) -> str | None:
    """Four standard errors below one half: by chance in fewer than one window in a thousand."""
    auc_t = rows[:, 0]
    mean, error = float(auc_t.mean()), float(auc_t.std(ddof=1)) / math.sqrt(auc_t.size)
    if not mean + max(4 * error, 0.02) < 0.5:
        return None
    return (
        f"what is harmful costs less than what is not: they are in the right order in {mean:.0%} of pairs"
        f" over {auc_t.size} steps; a cost must be higher for more harm; check the sign of the cost"
    )


def _no_control(rows: Array) -> str | None:
    """Halves of the window compared, each mean with its noise; trends of both must be beyond doubt."""
    half = len(rows) // 2
    old, new = rows[:half], rows[half:]
    if not np.all(np.diff(rows[:, 0]) >= 0) or not rows[-1, 0] > rows[0, 0]:
        return None
    noise = math.sqrt((old[:, 1].var(ddof=1) + new[:, 1].var(ddof=1)) / half)
    rise = float(new[:, 1].mean() - old[:, 1].mean())
    if not rise > 5 * noise:
        return None
    return (
        f"λ rose from {rows[0, 0]:.3g} to {rows[-1, 0]:.3g} in {len(rows)} steps and the risk rose with it,"
        f" by {rise:.3g}; λ should lower it; check that the cost depends on the answer, and the learning rate"
    )


def _transport(rows: Array) -> str | None:
    missed = float((rows[:, 0] == 0).mean())
    if missed <= 0.5:
        return None
    return (
        f"the transport plan did not converge in {missed:.0%} of the last {len(rows)} steps (marginal error"
        f" {rows[-1, 1]:.2g}); its gradient is approximate; raise transport.max_iterations or"
        " transport.epsilon, or set transport.indicator to exact"
    )


class Watch(Protocol):
    """One condition over the steps of a run."""

    #: The metrics that it reads; it is asked only where all are there.
    needs: tuple[str, ...]

    def see(self, values: Values) -> str | None:
        """Take a step in; a message while the condition holds."""

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Streak:
    """A condition that holds for some steps in a row.

    Args:
        message: what to say, from the step's values and the number of steps.
        from_start: only a streak that began with the run counts.
    """

    def __init__(
        self,
        needs: Sequence[str],
        holds: Callable[[Values], bool],
        steps: int,
        message: Callable[[Values, int], str],
        *,
        from_start: bool = False,
    ) -> None:
        self.needs = tuple(needs)
        self._holds, self._steps, self._message, self._from_start = holds, steps, message, from_start
        self._count, self._broken = 0, False

    def see(self, values: Values) -> str | None:
        """A message from the last step needed on."""
        held = self._holds(values)
        self._count = self._count + 1 if held else 0
        self._broken = self._broken or not held
        if self._count < self._steps or (self._from_start and self._broken):
            return None
        return self._message(values, self._count)

    def state_dict(self) -> dict[str, Any]:
        """The count, and whether it was ever broken."""
        return {"count": self._count, "broken": self._broken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self._count, self._broken = int(state["count"]), bool(state["broken"])


class Drift:
    """The mean of a metric over the last ``window`` steps against that of the first ones.

    Args:
        astray: whether (mean at first, mean now) is a reason to speak.
        message: what to say, from the same two.
    """

    def __init__(
        self,
        metric: str,
        window: int,
        astray: Callable[[float, float], bool],
        message: Callable[[float, float], str],
    ) -> None:
        self.needs: tuple[str, ...] = (metric,)
        self._window, self._astray, self._message = window, astray, message
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=window)

    def see(self, values: Values) -> str | None:
        """A message while the last window has gone astray."""
        value = values[self.needs[0]]
        if len(self._first) < self._window:
            self._first.append(value)
            return None
        self._last.append(value)
        if len(self._last) < self._window:
            return None
        old, new = (math.fsum(part) / self._window for part in (self._first, self._last))
        return self._message(old, new) if self._astray(old, new) else None

    def state_dict(self) -> dict[str, Any]:
        """Both windows."""
        return {"first": list(self._first), "last": list(self._last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with both."""
        self._first = [float(value) for value in state["first"]]
        self._last.clear()
        self._last.extend(float(value) for value in state["last"])


class Window:
    """A test on the last ``window`` values of some metrics, an array (window, metrics).

    Args:
        first: test the first ``window`` values instead, and those alone.
    """

    def __init__(
        self, needs: Sequence[str], window: int, test: Callable[[Array], str | None], *, first: bool = False
    ) -> None:
        self.needs = tuple(needs)
        self._first = first
        self._test = test
        self._rows: deque[list[float]] = deque(maxlen=window)
        self._window = window

    def see(self, values: Values) -> str | None:
        """What the test says, once the window is full."""
        if not (self._first and len(self._rows) == self._window):
            self._rows.append([values[name] for name in self.needs])
        return self._test(np.array(self._rows)) if len(self._rows) == self._window else None

    def state_dict(self) -> dict[str, Any]:
        """The window."""
        return {"rows": [list(row) for row in self._rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with it."""
        self._rows.clear()
        self._rows.extend([float(value) for value in row] for row in state["rows"])


class Scoped:
    """A watch on one of several constraints, whose metrics are called ``<constraint>/<name>``."""

    def __init__(self, watch: Watch, constraint: str) -> None:
        self._watch, self._constraint = watch, constraint
        self.needs: tuple[str, ...] = tuple(f"{constraint}/{name}" for name in watch.needs)

    def see(self, values: Values) -> str | None:
        """The watch's message, after the name of the constraint."""
        own = zip(self._watch.needs, self.needs, strict=True)
        message = self._watch.see({name: values[scoped] for name, scoped in own})
        return None if message is None else f"{self._constraint}: {message}"

    def state_dict(self) -> dict[str, Any]:
        """The watch's."""
        return self._watch.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand it on."""
        self._watch.load_state_dict(state)

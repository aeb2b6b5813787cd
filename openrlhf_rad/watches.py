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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openrlhf_rad.errors import WatchStop
from openrlhf_rad.harm import harm_order, known_harm
from openrlhf_rad.method.constraint_set import Scored
from openrlhf_rad.method.particles import saturation
from openrlhf_rad.method.reference import MOST_SHARE
from openrlhf_rad.method.settings import cost_name
from openrlhf_rad.method.state import Stateful
from openrlhf_rad.naming import metric_scopes, prefixes
from openrlhf_rad.profile import RiskProfile, Severity, WatchSettings
from openrlhf_rad.profile.language import severities

Values = Mapping[str, float]
Steps = Sequence[Values]
#: The first and the last steps → what to say, if anything.
Test = Callable[[Steps, Steps], "str | None"]
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
    seen = sorted({*labels} - {""})
    if watches.inverted == "off" or watches.harmful_label in seen:
        return None
    held = f"the labels are {', '.join(seen[:_NAMED])}" if seen else "there are no labels"
    if more := len(seen[_NAMED:]):
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
        scopes = metric_scopes(dual_max)
        watches = {
            f"{scopes[one]}{name}": watch
            for one, most in dual_max.items()
            for name, watch in of_a_constraint(most, settings.window).items()
        }
        watches |= of_the_answers(settings.window)
        self._watches = {key: watch for key, watch in watches.items() if self.severity[_name(key)] != "off"}
        self._speaking: set[str] = set()

    @classmethod
    def of(cls, profile: RiskProfile, *, fixed_dual: bool) -> Watches:
        """The watches of a profile's run; with a fixed dual none on λ."""
        return cls(
            {one.name: None if fixed_dual else one.dual.max for one in profile.constraints}, profile.watches
        )

    def see(self, metrics: Metrics) -> list[Alarm]:
        """Take a step's metrics in; the alarms that are new. The columns are those of ``metrics.jsonl``."""
        step, alarms = int(metrics.get("step") or 0), []
        for key, watch in self._watches.items():
            name, scope = _name(key), key.removesuffix(_name(key))
            values = {need: metrics.get(f"{scope}{need}") for need in watch.needs}
            if any(value is None for value in values.values()):
                continue
            text = watch.see({need: float(value) for need, value in values.items() if value is not None})
            if text is not None and key not in self._speaking:
                where = f"{scope[:-1]}: " if scope else ""
                alarms.append(Alarm(step, name, self.severity[name], f"step {step}: {where}{text}"))
            (self._speaking.discard if text is None else self._speaking.add)(key)
        return alarms

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
        """Go on; a watch that was off before starts anew, and one of a version that kept something else."""
        self._speaking = set(state["speaking"]) & set(self._watches)
        for name, watch in self._watches.items():
            held = state["watches"].get(name, {})
            if held.keys() == watch.state_dict().keys():
                watch.load_state_dict(held)


def _name(key: str) -> str:
    """The watch of a key: ``at_cap`` of ``harm/at_cap``."""
    return key.rpartition("/")[2]


class Watch(Stateful):
    """One condition over the steps of a run: a test on the first and the last ``window`` of them.

    Args:
        needs: the metrics that it reads; it is asked only where all are there.
        test: what to say, if anything, of the first and the last steps, once there are so many.
        least: steps from which on it is tested; by default a window.
    """

    kept = ("seen", "first", "last")

    def __init__(self, needs: Sequence[str], window: int, test: Test, least: int = 0) -> None:
        self.needs, self._window, self._test = tuple(needs), window, test
        self._least, self.seen = least or window, 0
        self.first: list[Values] = []
        self.last: list[Values] = []

    def see(self, values: Values) -> str | None:
        """Take a step in; a message while the condition holds."""
        self.seen += 1
        self.first = [*self.first, values][: self._window]
        self.last = [*self.last, values][-self._window :]
        full = self.seen >= self._least and len(self.last) == len(self.first) == self._window
        return self._test(self.first, self.last) if full else None


def streak(
    holds: Callable[[Values], bool], say: Callable[[Values], str], *, from_start: bool = False
) -> Test:
    """A condition that holds for a whole window; that of the run's first steps where it is ``from_start``."""

    def test(first: Steps, last: Steps) -> str | None:
        steps = first if from_start else last
        return say(steps[-1]) if all(map(holds, steps)) else None

    return test


def drift(
    metric: str, window: int, astray: Callable[[float, float], bool], say: Callable[[float, float], str]
) -> Watch:
    """The mean of a metric over the last window against that of the first, which it must not overlap."""

    def test(first: Steps, last: Steps) -> str | None:
        old, new = (math.fsum(step[metric] for step in steps) / window for steps in (first, last))
        return say(old, new) if astray(old, new) else None

    return Watch((metric,), window, test, 2 * window)


def at_start(profile: RiskProfile, refused_b: Sequence[bool], scored: Scored) -> list[Alarm]:
    """Alarms of step 0: costs whose sign is inverted, risks that are saturated.

    Args:
        refused_b: which of the reference's answers refuse. scored: their costs by source, labels and prompts.
    """
    severity = severities(profile.watches)
    alarms: list[Alarm] = []
    where = prefixes([one.name for one in profile.constraints])

    def sound(watch: str, constraint: str, text: str) -> None:
        if severity[watch] != "off":
            alarms.append(Alarm(0, watch, severity[watch], f"step 0: {where[constraint]}{text}"))

    harmful_b = known_harm(refused_b, scored.labels, profile.watches.harmful_label)
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
    return alarms


def answer_metrics(digests: Sequence[int]) -> dict[str, float]:
    """``empty_share`` and ``distinct_share`` of one batch.

    Args:
        digests: one an answer, equal where answers are but for blanks around them, 0 of an empty one.

    Raises:
        ValueError: no answers.
    """
    if not digests:
        raise ValueError("there are 0 answers; a batch has at least one")
    size = len(digests)
    return {"empty_share": digests.count(0) / size, "distinct_share": len(set(digests)) / size}


def of_a_constraint(dual_max: float | None, window: int) -> dict[str, Watch]:
    """Name → watch of one constraint; those of λ only where λ moves, up to dual_max."""
    of_costs = {
        # At first only: a policy that has learned to evade makes answers to harmful prompts the cheaper ones.
        "inverted": Watch(("harm_auc",), window, _inverted),
        "saturated": Watch(
            ("saturated", "risk"),
            window,
            streak(
                lambda v: v["saturated"] == 1,
                lambda v: (
                    f"policy and reference have sat at the largest cost that occurs, {v['risk']:.3g}, on all"
                    f" that the risk weighs for {window} steps; it sees no difference between them; for a"
                    " flag take the profile flags, the mean, or a risk that weighs more of the answers"
                ),
            ),
        ),
        "no_control": Watch(("lambda", "risk"), 2 * window, _no_control),
        "transport": Watch(("sinkhorn_converged", "marginal_error"), window, _transport),
    }
    return of_costs if dual_max is None else {**_of_the_dual(dual_max, window), **of_costs}


def _of_the_dual(dual_max: float, window: int) -> dict[str, Watch]:
    inert = streak(
        lambda v: v["violation"] < 0,
        lambda v: (
            f"the constraint was met in all {window} steps so far (violation {v['violation']:.3g}); it asks"
            " for nothing that the reference does not do; lower constraint.level or raise constraint.margin"
        ),
        from_start=True,
    )
    dead = streak(
        lambda v: v["violation"] > 0 and v["lambda"] > 0 and v["score_std"] == 0,
        lambda v: (
            f"the constraint is violated by {v['violation']:.3g} and no sample has felt it for {window} steps"
            " (all scores are equal); λ rises for nothing; take more samples a rollout, or a risk that looks"
            " at more of the tail"
        ),
    )
    at_cap = streak(
        lambda v: v["lambda_next"] >= dual_max * (1 - 1e-9) and v["violation"] > 0,
        lambda v: (
            f"λ has been at its maximum {dual_max:g} for {window} steps and the constraint is still violated"
            f" by {v['violation']:.3g}; {_why(v['fall_asked'], v['fall_possible'])}"
        ),
    )
    return {
        "inert": Watch(("violation",), window, inert),
        "dead": Watch(("violation", "lambda", "score_std"), window, dead),
        "at_cap": Watch(("lambda_next", "violation", "fall_asked", "fall_possible"), window, at_cap),
    }


def _why(asked: float, possible: float) -> str:
    """Whether too much is asked, or the reward outweighs it."""
    share = f"it asks that the risk fall by {asked:.3g}, of {possible:.3g} at most"
    if asked > MOST_SHARE * possible:
        return f"{share}, when every answer costs the least: that is too much; lower what is asked"
    return f"{share}, which leaves room: reward outweighs it; raise dual.max"


def of_the_answers(window: int) -> dict[str, Watch]:
    """Name → watch of what the policy says, whatever it costs."""
    return {
        "empty": drift(
            "empty_share",
            window,
            lambda old, new: new > max(0.05, 2 * old),
            lambda old, new: (
                f"{new:.0%} of the answers are empty, {old:.0%} were at first; an empty answer costs nothing"
                " and says nothing; let the reward punish it, or lower dual.max"
            ),
        ),
        "short": drift(
            "response_length",
            window,
            lambda old, new: new < 0.5 * old,
            lambda old, new: (
                f"answers have {new:.3g} tokens, {old:.3g} at first; costs may fall by saying less; look at"
                " samples.jsonl, and let the reward ask for substance"
            ),
        ),
        "alike": drift(
            "distinct_share",
            window,
            lambda old, new: new < 0.5 and new < 0.75 * old,
            lambda old, new: (
                f"{new:.0%} of the answers of a step are distinct, {old:.0%} were at first; the policy"
                " collapses; raise --algo.kl.init_coef or lower --actor.adam.lr"
            ),
        ),
        "entropy": drift(
            "entropy",
            window,
            lambda old, new: new < 0.25 * old,
            lambda old, new: (
                f"the policy's entropy is {new:.3g}, {old:.3g} at first; it explores no more; raise"
                " --algo.kl.init_coef or lower --actor.adam.lr"
            ),
        ),
    }


def _inverted(first: Steps, _last: Steps) -> str | None:
    """Four standard errors below one half: by chance in fewer than one window in a thousand."""
    auc_t = np.array([step["harm_auc"] for step in first])
    mean, error = float(auc_t.mean()), float(auc_t.std(ddof=1)) / math.sqrt(auc_t.size)
    if not mean + max(4 * error, 0.02) < 0.5:
        return None
    return (
        f"what is harmful costs less than what is not: they are in the right order in {mean:.0%} of pairs"
        f" over {auc_t.size} steps; a cost must be higher for more harm; check the sign of the cost"
    )


def _no_control(_first: Steps, last: Steps) -> str | None:
    """Halves of the window compared, each mean with its noise; trends of both must be beyond doubt."""
    dual_t, risk_t = (np.array([step[name] for step in last]) for name in ("lambda", "risk"))
    half = risk_t.size // 2
    if not np.all(np.diff(dual_t) >= 0) or not dual_t[-1] > dual_t[0]:
        return None
    noise = math.sqrt((risk_t[:half].var(ddof=1) + risk_t[half:].var(ddof=1)) / half)
    rise = float(risk_t[half:].mean() - risk_t[:half].mean())
    if not rise > 5 * noise:
        return None
    return (
        f"λ rose from {dual_t[0]:.3g} to {dual_t[-1]:.3g} in {dual_t.size} steps and the risk rose with it,"
        f" by {rise:.3g}; λ should lower it; check that the cost depends on the answer, and the learning rate"
    )


def _transport(_first: Steps, last: Steps) -> str | None:
    missed = sum(step["sinkhorn_converged"] == 0 for step in last) / len(last)
    if missed <= 0.5:
        return None
    return (
        f"the transport plan did not converge in {missed:.0%} of the last {len(last)} steps (marginal error"
        f" {last[-1]['marginal_error']:.2g}); its gradient is approximate; raise transport.max_iterations or"
        " transport.epsilon, or set transport.indicator to exact"
    )

"""A release gate: whether blue is surely better than red, in one sentence and one exit code.

Two rules, of which one or both must hold:

* risk: the spectral risk of blue lies at least ε below red's;
* quantiles: no quantile of blue within a range of levels lies more than τ above red's.

A release passes only when **all** rules, in all segments that are asked for, pass each at level α. That is an
intersection–union test (Berger 1982): if some rule is false, passing needs that rule to pass, which happens
with probability at most α. So nothing is corrected for the number of rules, segments or quantile levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from openrlhf_rad.evaluation.panel import Panel
from openrlhf_rad.evaluation.rules import Outcome, Question, Ruling, quantile_rule, risk_rule
from openrlhf_rad.method.spectrum import Spectrum


@dataclass(frozen=True)
class Gate:
    """The rules of a gate, in the cost's own units; a rule that is None is not asked.

    Attributes:
        improvement: ε. tolerance: τ.
        levels: the range of quantile levels of the second rule; by default those that the risk weighs.
        segments: groups of prompts that must pass each, besides all prompts together.
    """

    spectrum: Spectrum
    improvement: float | None
    tolerance: float | None
    confidence: float = 0.95
    levels: tuple[float, float] | None = None
    draws: int = 2000
    seed: int = 0
    segments: Sequence[str] = field(default_factory=tuple)

    def decide(self, panel: Panel, red: str, blue: str) -> list[Ruling]:
        """Every rule for all prompts, then for each segment."""
        parts = [("", panel)]
        parts += [(name, panel.segment(panel.segments.index(name))) for name in self.segments]
        rulings: list[Ruling] = []
        for name, part in parts:
            asked = Question(part, red, blue, self.spectrum, self.confidence)
            if self.improvement is not None:
                rulings.append(replace(risk_rule(asked, self.improvement), segment=name))
            if self.tolerance is not None:
                found = quantile_rule(asked, self.tolerance, self.levels, draws=self.draws, seed=self.seed)
                rulings.append(replace(found, segment=name))
        return rulings


def overall(rulings: Sequence[Ruling]) -> Outcome:
    """Pass only when all do; a rule that fails decides before one that cannot say."""
    outcomes = {ruling.outcome for ruling in rulings}
    if outcomes == {Outcome.PASS}:
        return Outcome.PASS
    return Outcome.FAIL if Outcome.FAIL in outcomes else Outcome.UNKNOWN


def sentence(rulings: Sequence[Ruling]) -> str:
    """The verdict and the rules that decided it, in one line."""
    outcome = overall(rulings)
    words = {Outcome.PASS: "PASS", Outcome.FAIL: "FAIL", Outcome.UNKNOWN: "CANNOT SAY"}
    told = [one for one in rulings if one.outcome is outcome]
    return f"{words[outcome]}: {'; '.join(_where(one) + one.sentence for one in told)}."


def _where(ruling: Ruling) -> str:
    """Of which constraint and segment a ruling speaks; of the only one nothing."""
    named = (("constraint", ruling.constraint), ("segment", ruling.segment))
    words = [f"{what} {name}" for what, name in named if name]
    return f"{', '.join(words)}: " if words else ""

"""Spectra, levels and constraints in words that a reviewer can check against what was meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from openrlhf_rad.method.spectrum import MeasureSpectrum, Mixture, Spectrum
from openrlhf_rad.profile import ConstraintSettings, DualSettings, Level

#: The tails, in percent, whose share of the weight is told.
TAILS = (1, 5, 10)

_UNITS = {"spread": "the reference's spread", "risk": "the reference's risk"}

_METHODS = {
    "log": "The price moves in proportion to itself: a low one moves slowly, a high one fast (Safe RLHF).",
    "adam": "The price moves by about the same amount each round, large excess or small (Adam).",
    "pid": "The price follows the latest excess as well as its sum, and so turns sooner (a PID controller).",
}

_PHRASES: dict[str, Callable[[Mapping[str, float]], str]] = {
    "mean": lambda _: "the mean cost of all answers",
    "cvar": lambda p: f"the mean cost of the most harmful {percent(1 - p['alpha'])} of answers",
    "var": lambda p: (
        f"the cost that {percent(p['alpha'])} of answers stay below, smoothed over {percent(p['bandwidth'])}"
    ),
    "linear": lambda _: "the expected cost of the worse of two answers",
    "power": lambda p: f"the expected cost of the worst of {p['gamma']:g} answers",
}


def percent(share: float) -> str:
    """A share of 1 as a percentage of three digits at most, a true 0 and 100 apart from near ones."""
    value = 100 * share
    if 0 < value < 0.01:
        return "under 0.01 %"
    if 99.99 < value < 100 - 1e-9:
        return "over 99.99 %"
    return f"{value:.3g} %" if value < 99.5 else f"{value:.4g} %"


def share_on_worst(spectrum: Spectrum, tail: float) -> float:
    """The share of the weight on the worst tail per cent of answers, 1 − G(1 − tail/100)."""
    share = 1 - float(spectrum.cumulative(1 - tail / 100))
    # 1 − 0.95 and the like leave a last bit behind.
    return 0.0 if share < 1e-12 else share


def bounded(spectrum: Spectrum) -> str:
    """What the spectral risk is, as a noun phrase."""
    if isinstance(spectrum, Mixture):
        terms = [f"{percent(weight)} of {bounded(member)}" for weight, member in spectrum.members]
        return f"a sum: {' plus '.join(terms)}"
    if isinstance(spectrum, MeasureSpectrum) and spectrum.measure in _PHRASES:
        values = dict(spectrum.parameters)
        if spectrum.measure != "power" or values["gamma"].is_integer():
            return _PHRASES[spectrum.measure](values)
    return (
        f"an average of all costs in which the worst 10 % of answers carry"
        f" {percent(share_on_worst(spectrum, 10))} of the weight"
    )


def amount(level: Level) -> str:
    """An amount of cost in words."""
    if level.unit == "quantile":
        return f"the cost that {percent(level.value)} of the reference's answers stay below"
    if level.unit in _UNITS:
        return f"{percent(level.value)} of {_UNITS[level.unit]}"
    return f"{level.value:.4g} in the cost's own unit"


def asked_reduction(settings: ConstraintSettings) -> Level | None:
    """By how much the risk (for `expected` the mean) must fall; None where no number of the file says it.

    By Prop. 2, `no_worse` once met lowers the risk by margin − level at least. `improvement` promises no
    fall by itself: quantiles that rose above the reference are not held against it.
    """
    level, margin = settings.level, settings.margin
    if settings.form == "no_worse":
        same = level.unit == margin.unit or level.value == 0
        return Level(_rounded(margin.value - level.value), margin.unit) if same else None
    if level.unit == "quantile" or (settings.form == "expected" and level.unit == "cost"):
        return None
    return level if settings.form in ("spectral", "expected") else None


def requirement(settings: ConstraintSettings) -> str:
    """What must hold, as a sentence without its full stop."""
    level, margin = amount(settings.level), amount(settings.margin)
    if settings.form == "no_worse":
        return (
            f"quantile by quantile, costs must lie below the reference's shifted down by {margin};"
            f" on weighted average {level} of excess is allowed"
        )
    if settings.form == "improvement":
        return f"counted quantile by quantile, costs must lie below the reference's by {level} in all"
    if settings.level.unit == "quantile":
        return f"{'the risk' if settings.form == 'spectral' else 'the mean cost'} must stay below {level}"
    if settings.form == "spectral":
        return f"the risk must lie below the reference's by {level}"
    if settings.level.unit == "cost":
        return f"the mean cost must stay below {settings.level.value:.4g}"
    return f"the mean cost must lie below the reference's by {level}"


def price_moves(dual: DualSettings) -> list[str]:
    """How λ moves where it is not by the last violation alone, a sentence a choice."""
    found = [_METHODS[dual.method]] if dual.method in _METHODS else []
    if dual.method == "pid" and dual.derivative:
        found.append(f"A rise of the excess within {dual.delay} rounds raises it further.")
    if dual.estimate != "last":
        fading = ", older ones fading" if dual.estimate == "ema" else ""
        found.append(f"It goes by the average of {dual.memory} rounds{fading}, not by the last one alone.")
    if dual.confidence is not None:
        found.append(
            f"It goes by the most that the excess may be with {percent(dual.confidence)} confidence, so that"
            " a lucky round is not taken for safety."
        )
    return found


def formula(settings: ConstraintSettings) -> str:
    """The constraint as the method writes it."""
    return {
        "no_worse": "L_w(C_0 − m, C_θ) ≤ τ",
        "improvement": "L_w(C_θ, C_0 + m) − m ≥ ε",
        "spectral": "ρ_w(C_0) − ρ_w(C_θ) ≥ ε",
        "expected": "E[C_θ] ≤ d",
    }[settings.form]


def _rounded(value: float) -> float:
    """0.6 − 0.2 as people know it."""
    return float(f"{value:.12g}")

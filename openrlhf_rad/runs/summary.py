"""The summary of a run: numbers with intervals, a verdict in sentences, and reasons to doubt it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import CostError
from openrlhf_rad.evaluation.interval import METHOD
from openrlhf_rad.runs.controls import controls, warnings
from openrlhf_rad.runs.folder import RunFolder
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.runs.statistics import GAP_ABOVE, Comparison, compare, compare_constraints

IndependentCost = Callable[[list[str], list[str]], NDArray[np.float64]]

PACKAGES = ("openrlhf-rad", "openrlhf", "torch", "transformers", "vllm", "ray", "deepspeed", "numpy", "scipy")

_JUDGED = ("risk", "cost_cvar_90", "cost_mean", "independent_cvar_90", "reward_mean")


def summarise(folder: RunFolder, independent_cost: IndependentCost | None = None) -> dict[str, Any]:
    """Write summary.json from the held-out answers and the metrics, and return it; see build_summary."""
    summary = build_summary(folder, independent_cost)
    folder.write_summary(summary)
    return summary


def build_summary(folder: RunFolder, independent_cost: IndependentCost | None = None) -> dict[str, Any]:
    """The summary from the held-out answers and the metrics; nothing is written.

    Args:
        independent_cost: (prompts, answers) → costs, shape (B,), from a source that did not train the
            policy; a fall of the trained cost alone may be a weakness of its model that was found.

    Raises:
        ConfigError, RadError, ProfileError: a file is absent or broken. CostError: independent costs
            that are not finite or not one an answer.
    """
    profile = folder.read_profile()
    before, after = folder.read_answers("before"), folder.read_answers("after")
    second = None
    if independent_cost is not None:
        second = _costs(independent_cost, before), _costs(independent_cost, after)
    rows = [*compare(before, after, profile.risk, second), *compare_constraints(before, after, profile)]
    checks = controls(before, after)
    metrics = folder.read_metrics()
    shipped = folder.read_selection()
    told = [shipped["reason"]] if shipped else []
    feasible = shipped is None or shipped["feasible"]
    return {
        "profile": {"name": profile.name, "hash": profile.hash, "risk": str(profile.risk)},
        "prompts": len({row["prompt"] for row in before}),
        "answers": len(after),
        "steps": len(metrics),
        "seconds": sum(row.get("seconds_step") or 0.0 for row in metrics),
        "model": shipped,
        "verdict": [*verdict(rows), *(told if feasible else [])],
        "warnings": [
            *([] if feasible else told),
            *profile.warnings,
            *folder.read_alarms(),
            *warnings(checks, len(after)),
            *_disagreement(rows),
        ],
        "rows": [asdict(row) for row in rows],
        "controls": [asdict(row) for row in checks],
        "interval": METHOD,
        "versions": versions(),
    }


def verdict(rows: Sequence[Comparison]) -> list[str]:
    """One sentence for each quantity that the run was about, and one on dominance."""
    named = {row.name: row for row in rows}
    # For a profile of CVaR 0.90 or the mean, the risk only repeats a row with a plainer name.
    plain = {named["cost_cvar_90"].difference, named["cost_mean"].difference}
    judged = [name for name in _JUDGED if name in named]
    if named["risk"].difference in plain:
        judged.remove("risk")
    sentences = [_sentence(named[name]) for name in judged]
    below, above = named["gap_below"].difference.value, named[GAP_ABOVE].difference.value
    if above == 0:
        return [*sentences, "No quantile that the risk weighs is more costly than before."]
    moved = f"Quantiles that the risk weighs fell by {number(below)} and rose by {number(above)} in all."
    return [*sentences, moved]


def number(value: float) -> str:
    """Three digits, for people, with a true minus sign."""
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return ("0" if float(text) == 0 else text).replace("-", "−")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _sentence(row: Comparison) -> str:
    change = row.difference
    name = f"{row.label[0].upper()}{row.label[1:]}"
    if change.low is None or change.high is None:
        none = "there is no interval: it rests on too few answers, or none of them changed"
        return f"{name}: no change shown; {number(change.value)}, and {none}."
    if not change.excludes_zero:
        interval = f"[{number(change.low)}, {number(change.high)}]"
        return f"{name}: no change shown; {number(change.value)}, and the interval {interval} includes 0."
    verb = "fell" if change.value < 0 else "rose"
    low, high = sorted([abs(change.low), abs(change.high)])
    return f"{name} {verb} by {number(abs(change.value))} [{number(low)}, {number(high)}]."


def _disagreement(rows: Sequence[Comparison]) -> list[str]:
    """A warning for each quantity that fell by the trained cost and did not by the independent one."""
    named = {row.name: row for row in rows}
    found = []
    for trained, independent in (("cost_mean", "independent_mean"), ("risk", "independent_cvar_90")):
        second = named.get(independent)
        first = named[trained].difference
        if second is None or second.difference.low is None or not (first.excludes_zero and first.value < 0):
            continue
        if second.difference.excludes_zero and second.difference.value < 0:
            continue
        moved = "rose" if second.difference.excludes_zero else "shows no fall"
        name = named[trained].label
        found.append(
            f"The {name} fell, but the {second.label} {moved}: the policy may exploit its cost model"
        )
    return found


def _costs(source: IndependentCost, answers: Sequence[Answer]) -> NDArray[np.float64]:
    """The independent costs, shape (B,). Raises CostError."""
    cost_b = np.asarray(
        source([row["prompt"] for row in answers], [row["answer"] for row in answers]), dtype=np.float64
    )
    if cost_b.shape != (len(answers),) or not np.isfinite(cost_b).all():
        raise CostError(
            f"the independent cost returned shape {cost_b.shape} with {(~np.isfinite(cost_b)).sum()} values"
            f" that are not finite; it must return {len(answers)} finite numbers, one an answer"
        )
    return cost_b

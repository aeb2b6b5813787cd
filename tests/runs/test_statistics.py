"""Comparisons and their intervals against closed forms, plain loops and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from openrlhf_rad.errors import RadError
from openrlhf_rad.evaluation.compare import Analysis, improvement, pair_costs
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.runs.summary import (
    Comparison,
    compare,
    compare_constraints,
    controls,
    quantile_row,
    verdict,
    warnings,
)
from openrlhf_rad.statistics.answers import arranged
from openrlhf_rad.statistics.inference import Estimate

CVAR = make_spectrum("cvar", alpha=0.9)


def answers(costs: np.ndarray, per_prompt: int = 1, **changes: object) -> list[Answer]:
    return [
        {  # type: ignore[misc]
            "prompt": f"prompt {i // per_prompt}",
            "answer": f"answer number {i}",
            "label": "benign" if (i // per_prompt) % 2 else "harmful",
            "reward": float(i % 7),
            "cost": float(cost),
            **changes,
        }
        for i, cost in enumerate(costs)
    ]


def by_name(rows: list[Comparison]) -> dict[str, Comparison]:
    return {row.name: row for row in rows}


def test_values_against_plain_definitions() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(0, 1, 40), rng.normal(-0.5, 1, 40)
    rows = by_name(compare(answers(before), answers(after), CVAR, (before**2, after**2)))
    assert rows["cost_mean"].after.value == pytest.approx(after.mean())
    assert rows["cost_var_90"].before.value == np.sort(before)[35]  # ⌈0.9 · 40⌉ = 36th
    assert rows["cost_cvar_90"].before.value == pytest.approx(np.sort(before)[-4:].mean())
    assert rows["risk"].difference.value == pytest.approx(
        np.sort(after)[-4:].mean() - np.sort(before)[-4:].mean()
    )
    fall = np.sort(before)[-4:] - np.sort(after)[-4:]
    assert rows["gap_below"].difference.value == pytest.approx(np.maximum(fall, 0).mean())
    assert rows["gap_above"].difference.value == pytest.approx(np.maximum(-fall, 0).mean())
    assert rows["independent_mean"].before.value == pytest.approx((before**2).mean())
    assert rows["reward_mean"].difference.value == 0


SEVERAL = """
constraints: {harm: cvar α=0.9, length: {risk: mean, cost: {function: /l.py}}}
segments: {harmful: mean}
"""


def test_each_constraint_is_compared_on_its_own_cost_and_prompts() -> None:
    rng = np.random.default_rng(5)
    profile = RiskProfile.from_text(SEVERAL)
    sides = [answers(rng.normal(size=80)) for _ in range(2)]
    for side in sides:
        for row in side:
            row["costs"] = {"harm": row["cost"], "length": rng.normal()}
    rows = by_name(compare_constraints(*sides, profile))
    assert list(rows) == ["risk_harm", "risk_harm.harmful", "risk_length", "risk_length.harmful"]

    def costs(side: int, source: str, label: str) -> np.ndarray:
        return np.array([row["costs"][source] for row in sides[side] if row["label"] == label])

    assert rows["risk_harm"].before.value == pytest.approx(np.sort(costs(0, "harm", "benign"))[-4:].mean())
    assert rows["risk_harm.harmful"].after.value == pytest.approx(costs(1, "harm", "harmful").mean())
    assert rows["risk_length"].after.value == pytest.approx(costs(1, "length", "benign").mean())
    del sides[1][3]["costs"]
    with pytest.raises(
        RadError, match="an answer to 'prompt 3' has no cost of harm; a run with several costs"
    ):
        compare_constraints(*sides, profile)


def test_segments_of_one_cost_need_no_costs_by_name() -> None:
    profile = RiskProfile.from_text("risk: mean\nsegments: {harmful: cvar α=0.9}")
    side = answers(np.arange(40.0))
    rows = by_name(compare_constraints(side, side, profile))
    assert rows["risk_cost.harmful"].after.value == pytest.approx(np.arange(40.0)[::2][-2:].mean())
    assert compare_constraints(side, side, RiskProfile.from_text("a: mean")) == []


@pytest.mark.parametrize(
    "spectrum",
    [make_spectrum("mean"), CVAR, make_spectrum("wang", eta=0.75), make_spectrum("power", gamma=3.0)],
    ids=str,
)
def test_gaps_differ_by_the_difference_in_risk(spectrum: object) -> None:
    """Eq. (16): ρ_w(Y) − ρ_w(X) = L_w(X, Y) − L_w(Y, X), here for prompts with 1 to 4 answers."""
    rng = np.random.default_rng(2)
    before, after = answers(rng.lognormal(0, 1, 90)), answers(rng.lognormal(-0.2, 1.4, 90))
    sizes = np.repeat(np.arange(36), np.tile([1, 2, 3, 4], 9))
    for row, other, size in zip(before, after, sizes, strict=True):
        row["prompt"] = other["prompt"] = f"prompt {size}"
    rows = by_name(compare(before, after, spectrum))  # type: ignore[arg-type]
    identity = rows["gap_above"].difference.value - rows["gap_below"].difference.value
    assert rows["risk"].difference.value == pytest.approx(identity, abs=1e-12)


def test_same_seed_same_interval_and_order_of_rows_is_free() -> None:
    rng = np.random.default_rng(7)
    before, after = answers(rng.normal(size=30), 3), answers(rng.normal(size=30), 3)
    assert compare(before, after, CVAR) == compare(before, after, CVAR)
    shuffled = [after[i] for i in rng.permutation(30)]
    found = by_name(compare(before, shuffled, CVAR))
    assert found["risk"].difference == by_name(compare(before, after, CVAR))["risk"].difference


def test_intervals_are_those_of_rad_eval() -> None:
    """The same costs as two models of an evaluation; a change is after less before."""
    rng = np.random.default_rng(4)
    before, after = rng.normal(0, 1, 1200), rng.normal(-0.3, 1, 1200)
    prompts = [f"prompt {i // 2}" for i in range(1200)]
    held = replace(arranged(prompts)[0], costs={"cost": {"before": before, "after": after}})
    rows = by_name(compare(answers(before, 2), answers(after, 2), CVAR))
    for name, spectrum in (("cost_mean", make_spectrum("mean")), ("risk", CVAR)):
        theirs = improvement(held, "before", "after", spectrum, Analysis())["risk"]
        found = rows[name].difference
        assert (found.value, found.low, found.high) == pytest.approx(
            (-theirs.value, -theirs.high, -theirs.low)
        )
    theirs = pair_costs(held, "before", "after", CVAR, Analysis())["gaps"]["weighted"]
    assert rows["gap_below"].difference == theirs.below
    assert rows["gap_above"].difference == theirs.above


def test_quantiles_cover_the_truth() -> None:
    """200 prompts with 2 correlated answers each; the change is −0.3 at every level."""
    rng, covered, count = np.random.default_rng(6), [], 100
    panel, _ = arranged([str(i // 2) for i in range(400)])
    truth = np.sqrt(2) * norm.ppf(0.9)
    for _ in range(count):
        before, after = (np.repeat(rng.normal(size=200), 2) + rng.normal(size=400) for _ in range(2))
        row = quantile_row("", "", panel, 0.9, {"before": before, "after": after - 0.3})
        pairs = (row.before, truth), (row.after, truth - 0.3), (row.difference, -0.3)
        covered.append([found.low <= value <= found.high for found, value in pairs])
    assert (np.mean(covered, axis=0) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / count)).all()


def test_a_tail_of_few_answers_has_no_interval() -> None:
    """CVaR 0.9 of 200 answers rests on 20; the mean and the quantile have theirs."""
    rng = np.random.default_rng(7)
    rows = by_name(compare(answers(rng.normal(size=200)), answers(rng.normal(size=200)), CVAR))
    assert rows["reward_mean"].difference == Estimate(0.0)  # the same for every answer
    assert [name for name, row in rows.items() if row.difference.low is None] == [
        "reward_mean",
        "cost_cvar_90",
        "risk",
        "gap_below",
        "gap_above",
    ]
    told = verdict(list(rows.values()))
    assert any("CVaR 0.90 of the cost: no change shown" in text and "no interval" in text for text in told)


def test_constant_costs_have_no_interval() -> None:
    rows = by_name(compare(answers(np.ones(12)), answers(np.ones(12)), CVAR))
    assert rows["risk"].difference == Estimate(0.0)


def test_too_few_prompts_get_no_interval() -> None:
    """Draws from one prompt never vary: an interval would be of width 0 and the change look certain."""
    rows = by_name(compare(answers(np.ones(21), 3), answers(np.zeros(21), 3), CVAR))
    assert rows["cost_mean"].difference == Estimate(-1.0)
    assert not rows["cost_mean"].difference.excludes_zero


def test_other_prompts_are_refused() -> None:
    before = answers(np.arange(4.0), 2)
    with pytest.raises(RadError, match="'prompt 1' has 2 answers before and 1 after"):
        compare(before, before[:3], CVAR)
    with pytest.raises(RadError, match="no held-out answers"):
        compare([], [], CVAR)


def test_a_model_that_falls_silent_is_called_out() -> None:
    rng = np.random.default_rng(9)
    before, after = answers(rng.normal(size=100)), answers(rng.normal(-3, 1, 100))
    for index, row in enumerate(after):
        row["answer"] = " " if index < 41 else "I cannot help"
        row["reward"] = -1.0
    rows = controls(before, after)
    found = " | ".join(warnings(rows, 100))
    assert "41\N{NO-BREAK SPACE}% of answers are empty; before training it was 0\N{NO-BREAK SPACE}%" in found
    assert "2 distinct answers out of 100; before training 100" in found
    assert "Relevance on benign prompts fell from" in found
    kept = by_name(rows)
    assert kept["words"].after.value == pytest.approx(3 * 0.59)
    benign = [row["cost"] for row in after if row["label"] == "benign"]
    assert kept["cost_benign"].after.value == pytest.approx(np.mean(benign))
    assert kept["reward_harmful"].after.value == -1


def test_an_honest_run_has_no_warning() -> None:
    rng = np.random.default_rng(10)
    before, after = answers(rng.normal(size=50)), answers(rng.normal(-1, 1, 50))
    assert warnings(controls(before, after), 50) == []

"""The dual of a profile, step by step through ConstraintSet, against its formulas written out here.

The violations come from the batches by the formula of the constraint (no_worse on the mean: the average
excess over the shifted reference), the errors from the score, so that nothing of the dual is used.
"""

import json
import math

import numpy as np
import pytest
from scipy import stats

from openrlhf_rad.method.constraint_set import ConstraintSet, Scored
from openrlhf_rad.profile import RiskProfile

STEPS, BATCH, LEVEL, MARGIN = 24, 32, 0.2, 0.6
RNG = np.random.default_rng(11)
REFERENCE = RNG.normal(size=64)
# Costs fall, rise and fall again, so that λ moves both ways and meets its bounds.
BATCHES = [RNG.normal(size=BATCH) + 1.2 * math.sin(t / 3) - 0.9 for t in range(STEPS)]
SPREAD = float(REFERENCE.std())
REFERENCE_N = np.sort(REFERENCE)[[math.ceil((i + 0.5) / BATCH * 64) - 1 for i in range(BATCH)]] / SPREAD


def violation(cost_b):
    """(v, its standard error, the samples that carry it), in reference spreads."""
    cost_n = np.sort(cost_b) / SPREAD
    excess_n = cost_n - REFERENCE_N + MARGIN
    above_n = excess_n >= 0
    value = float(np.maximum(excess_n, 0).mean()) - LEVEL
    if not above_n.any():
        return value, 0.0, 0.0
    # The violation without each answer in turn (the jackknife), the reference's quantile that of either side
    # of a gap by half; the deviation over √B, with Bessel's factor.
    rise_g = [
        np.mean([max(cost_n[i + 1] - y, 0) - max(cost_n[i] - y, 0) for y in REFERENCE_N[i : i + 2] - MARGIN])
        for i in range(BATCH - 1)
    ]
    score_b = np.array([sum(rise_g[j:]) for j in range(BATCH)])
    count = int(above_n.sum())
    bessel = count / max(count - 1, 1)
    return value, math.sqrt(bessel) * float(score_b.std()) / math.sqrt(BATCH), float(count)


def ascent(path, lam=1.0):
    for v in path:
        lam = min(max(lam + 0.8 * v, 0.0), 3.0)
        yield lam


def log(path, lam=1.0):
    for v in path:
        lam = min(lam * math.exp(0.8 * lam * v), 3.0)
        yield lam


def adam(path, lam=1.0, m=0.0, s=0.0):
    for t, v in enumerate(path, 1):
        m, s = 0.9 * m + 0.1 * v, 0.999 * s + 0.001 * v * v
        move = (m / (1 - 0.9**t)) / (math.sqrt(s / (1 - 0.999**t)) + 1e-8)
        lam = min(max(lam + 0.8 * move, 0.0), 3.0)
        yield lam


def pid(path, integral=1.0):
    smooth = []
    for v in path:
        smooth.append(0.25 * smooth[-1] + 0.75 * v if smooth else v)
        old = smooth[-4:-1]  # delay 3
        push = 0.5 * smooth[-1] + (2.0 * max(0.0, smooth[-1] - old[0]) if old else 0.0)
        if v <= 0 or integral + push < 3.0:
            integral = min(max(integral + 0.8 * v, 0.0), 3.0)
        yield min(max(integral + push, 0.0), 3.0)


METHODS = {
    "ascent": (ascent, ""),
    "log": (log, ", method: log"),
    "adam": (adam, ", method: adam"),
    "pid": (pid, ", method: pid, proportional: 0.5, derivative: 2, smoothing: 0.25, delay: 3"),
}


def last(seen):
    return seen[-1][0], seen[-1][1]


def ema(seen):
    weight_t = [0.5**age for age in range(len(seen))]  # memory 3
    total, newest_first = sum(weight_t), seen[::-1]
    mean = sum(w * v for w, (v, _, _) in zip(weight_t, newest_first, strict=True)) / total
    return mean, math.sqrt(
        sum((w * e) ** 2 for w, (_, e, _) in zip(weight_t, newest_first, strict=True))
    ) / total


def window(seen):
    kept = seen[-3:]
    return sum(v for v, _, _ in kept) / len(kept), math.sqrt(sum(e * e for _, e, _ in kept)) / len(kept)


ESTIMATES = {
    "last": (last, ""),
    "ema": (ema, ", estimate: ema, memory: 3"),
    "window": (window, ", estimate: window, memory: 3"),
}
CONFIDENCES = {None: "", 0.9: ", confidence: 0.9"}
CASES = [(m, e, c) for m in METHODS for e in ESTIMATES for c in CONFIDENCES]


def profile_of(method, estimate, confidence):
    chosen = METHODS[method][1] + ESTIMATES[estimate][1] + CONFIDENCES[confidence]
    constraint = f"{{level: {LEVEL} of reference spread, margin: {MARGIN} of reference spread, floor: -9}}"
    return RiskProfile.from_text(
        f"risk: mean\nconstraint: {constraint}\ndual: {{step: 0.8, max: 3{chosen}}}\n"
    )


def start(profile, fixed=None):
    return ConstraintSet(profile, Scored({"cost": REFERENCE}, [""] * 64), fixed_dual=fixed)


def run(constraints, batches):
    return [constraints(Scored({"cost": cost_b}, [""] * BATCH)).metrics["cost"] for cost_b in batches]


def moved_by(estimate, confidence, reference_errors):
    """The violation by which λ must move in each step; the reference's error is the same however many."""
    seen, found = [], []
    for cost_b, common in zip(BATCHES, reference_errors, strict=True):
        seen.append(violation(cost_b))
        mean, error = ESTIMATES[estimate][0](seen)
        if confidence is not None:
            mean += stats.t.ppf(confidence, max(seen[-1][2] - 1, 1)) * math.sqrt(error**2 + common**2)
        found.append(mean)
    return found


@pytest.mark.parametrize(("method", "estimate", "confidence"), CASES)
def test_lambda_moves_as_the_formulas_say(method, estimate, confidence):
    rows = run(start(profile_of(method, estimate, confidence)), BATCHES)
    errors = [row["reference_error"] / SPREAD for row in rows]
    assert 0.1 < max(errors) <= float(np.std(REFERENCE, ddof=1)) / 8 / SPREAD + 1e-12
    path = moved_by(estimate, confidence, errors)
    expected = list(METHODS[method][0](path))
    assert [row["lambda_next"] for row in rows] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert [row["lambda"] for row in rows] == [1.0, *(row["lambda_next"] for row in rows[:-1])]
    assert max(expected) == 3.0
    if confidence is None:  # a bound this wide holds some of them up
        assert min(np.diff(expected)) < 0
    # What a reader of metrics.jsonl needs, in the cost's own units.
    assert [row["violation_used"] for row in rows] == pytest.approx([v * SPREAD for v in path], rel=1e-9)
    for row, (value, error, samples) in zip(rows, map(violation, BATCHES), strict=True):
        assert row["violation"] == pytest.approx(value * SPREAD, rel=1e-9)
        assert row["violation_error"] == pytest.approx(error * SPREAD, rel=1e-9)
        assert row["violation_samples"] == pytest.approx(samples)


@pytest.mark.parametrize(("method", "estimate", "confidence"), CASES)
def test_a_run_that_stops_midway_goes_on_bit_by_bit(method, estimate, confidence):
    profile = profile_of(method, estimate, confidence)
    whole = run(start(profile), BATCHES)
    first = start(profile)
    run(first, BATCHES[:9])
    resumed = start(profile)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert run(resumed, BATCHES[9:]) == whole[9:]


def test_the_default_is_plain_ascent_bit_by_bit():
    """λ of every step from the violation of its own line alone, in floating point as it always was."""
    rows = run(start(RiskProfile.from_text("medical: cvar α=0.9")), BATCHES)
    exact = start(RiskProfile.from_text("medical: cvar α=0.9"))
    lam, seen = 1.0, []
    for cost_b in BATCHES:
        step = exact.parts[0].step
        result = step._evaluate(
            np.sort(cost_b / step.spread),
            REFERENCE_N * SPREAD / step.spread,
            step.constraint.risk.weights(BATCH),
        )
        lam = min(max(lam + 0.1 * result.violation, 0.0), 10.0)
        seen.append(lam)
    assert [row["lambda_next"] for row in rows] == seen
    assert all(row["violation_used"] == row["violation"] for row in rows)


@pytest.mark.parametrize("method", METHODS)
def test_a_fixed_dual_is_held_whatever_the_method(method):
    constraints = start(profile_of(method, "ema", 0.9), fixed=2.0)
    rows = run(constraints, BATCHES)
    assert {row["lambda"] for row in rows} == {row["lambda_next"] for row in rows} == {2.0}
    constraints.load_state_dict(start(profile_of(method, "ema", 0.9)).state_dict())
    assert run(constraints, BATCHES[:1])[0]["lambda"] == 2.0


def test_answers_to_one_prompt_count_as_dependent():
    """Every answer twice: as independent the error falls by √2, with their prompts known it stays."""
    profile = RiskProfile.from_text("risk: mean\nconstraint: {form: spectral}")
    twice, labels = np.repeat(BATCHES[0], 2), [""] * 2 * BATCH
    prompts = [f"prompt {i // 2}" for i in range(2 * BATCH)]
    once = start(profile)(Scored({"cost": BATCHES[0]}, [""] * BATCH)).metrics["cost"]["violation_error"]
    naive = start(profile)(Scored({"cost": twice}, labels)).metrics["cost"]["violation_error"]
    known = start(profile)(Scored({"cost": twice}, labels, prompts)).metrics["cost"]
    assert known["violation_error"] == pytest.approx(once, rel=1e-9)
    assert naive == pytest.approx(once / math.sqrt(2), rel=0.01)
    assert known["violation_samples"] == BATCH


def test_earlier_answers_of_a_segment_are_one_prompt_each():
    text = "risk: mean\nconstraint: {form: spectral}\nsegments: {old: mean}"
    part = ConstraintSet(RiskProfile.from_text(text), Scored({"cost": REFERENCE}, ["old", ""] * 32)).parts[1]
    # Two answers to one prompt are one; six of the window of eight are earlier ones.
    _, metrics = part(Scored({"cost": np.array([0.5, 0.7, 0.1])}, ["old", "old", ""], ["a", "a", "b"]))
    assert metrics["samples"] == 2
    assert metrics["violation_samples"] == 7

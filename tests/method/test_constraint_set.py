"""Several constraints on one rollout: each sees its own samples, costs and reference, and moves its own λ."""

import numpy as np
import pytest

from openrlhf_rad.errors import CostError, ReferenceCostError
from openrlhf_rad.method.constraint_set import ConstraintSet, Scored
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.profile import RiskProfile

TWO = """\
constraints:
  harm: {risk: cvar α=0.9, cost: {function: /harm.py}}
  privacy: {risk: mean, cost: {function: /privacy.py}, dual: {initial: 2, step: 0.5}}
"""
SEGMENTS = "risk: mean\ncost: {function: /harm.py}\nsegments: {child: cvar α=0.9}"


def profile(text):
    return RiskProfile.from_text(text, "two.yaml")


def answers(rng, size, *names, labels=None, shift=0.0):
    costs = {name: rng.lognormal(size=size) + shift for name in names}
    return Scored(costs, labels if labels is not None else [""] * size)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_one_constraint_is_one_step(rng):
    plain = profile("risk: cvar α=0.9\ndual: {initial: 2}")
    reference, batch = answers(rng, 200, "cost"), answers(rng, 64, "cost", shift=1.0)
    alone = RadStep(plain, reference.costs["cost"])(batch.costs["cost"])
    both = ConstraintSet(plain, reference)(batch)
    np.testing.assert_array_equal(both.advantage_b, alone.dual_variable * alone.score_b)
    assert both.metrics == {"cost": {**alone.metrics, "samples": 64.0}}


def test_bonuses_add_up_and_each_dual_variable_moves_by_its_own_constraint(rng):
    two, reference = profile(TWO), answers(rng, 256, "harm", "privacy")
    batch = Scored({"harm": rng.lognormal(size=64) + 2, "privacy": rng.lognormal(size=64) - 3}, [""] * 64)
    found = ConstraintSet(two, reference)(batch)
    expected = np.zeros(64)
    for one in two.constraints:
        text = f"risk: {one.risk}\ndual: {{initial: {one.dual.initial}, step: {one.dual.step}}}"
        alone = RadStep(profile(text), reference.costs[one.name])(batch.costs[one.name])
        expected += alone.dual_variable * alone.score_b
        assert found.metrics[one.name]["lambda_next"] == alone.metrics["lambda_next"]
    np.testing.assert_allclose(found.advantage_b, expected, rtol=1e-12)
    assert found.metrics["harm"]["lambda_next"] > found.metrics["harm"]["lambda"]
    assert found.metrics["privacy"]["lambda_next"] < found.metrics["privacy"]["lambda"]


def test_a_segment_sees_its_own_answers_only(rng):
    labels = ["child" if i % 4 == 0 else "adult" for i in range(128)]
    reference = answers(rng, 128, "cost", labels=labels)
    batch = answers(rng, 128, "cost", labels=labels, shift=1.0)
    child_b = np.array([label == "child" for label in labels])
    segments = profile(SEGMENTS)
    found = ConstraintSet(segments, reference)(batch)
    adults = RadStep(profile("risk: mean"), reference.costs["cost"][~child_b])(batch.costs["cost"][~child_b])
    np.testing.assert_allclose(found.advantage_b[~child_b], adults.dual_variable * adults.score_b, rtol=1e-12)
    children = RadStep(profile("risk: cvar α=0.9"), reference.costs["cost"][child_b])(
        batch.costs["cost"][child_b]
    )
    np.testing.assert_allclose(
        found.advantage_b[child_b], children.dual_variable * children.score_b, rtol=1e-12
    )
    assert found.metrics["cost.child"]["samples"] == 32


def test_a_segment_with_few_answers_looks_back_first_on_the_reference(rng):
    """CVaR 0.9 needs eleven answers for a gradient, so it looks at the last 22."""
    reference = answers(rng, 120, "cost", labels=["child"] * 60 + ["adult"] * 60)
    segments = ConstraintSet(profile(SEGMENTS), reference)
    part = segments.parts[1]
    assert part.step.minimum_batch() == 11
    batches = [answers(rng, 10, "cost", labels=["child"] * 3 + ["adult"] * 7, shift=k) for k in range(9)]
    seen = reference.costs["cost"][:60][-22:]
    for batch in batches:
        alone = RadStep(profile("risk: cvar α=0.9"), reference.costs["cost"][:60])
        alone.load_state_dict(part.step.state_dict())
        children = batch.costs["cost"][:3]
        expected = alone(np.concatenate([children, seen[-19:]]))
        found = segments(batch)
        np.testing.assert_allclose(
            found.advantage_b[:3], expected.dual_variable * expected.score_b[:3], rtol=1e-12
        )
        seen = np.concatenate([seen, children])[-22:]


def test_a_rollout_without_a_segment_leaves_its_dual_variable(rng):
    labels = ["child"] * 20 + ["adult"] * 20
    segments = ConstraintSet(profile(SEGMENTS), answers(rng, 40, "cost", labels=labels))
    before = segments.parts[1].state_dict()
    found = segments(answers(rng, 16, "cost", labels=["adult"] * 16))
    assert segments.parts[1].state_dict() == before
    assert found.metrics["cost.child"]["samples"] == 0


def test_states_restore_every_dual_variable_and_the_recent_costs(rng):
    labels = ["child", "adult"] * 30
    reference = answers(rng, 60, "cost", labels=labels)
    first, second = (ConstraintSet(profile(SEGMENTS), reference) for _ in range(2))
    for _ in range(3):
        first(answers(rng, 24, "cost", labels=labels[:24], shift=1.0))
    second.load_state_dict(first.state_dict())
    batch = answers(rng, 24, "cost", labels=labels[:24])
    one, other = first(batch), second(batch)
    np.testing.assert_array_equal(one.advantage_b, other.advantage_b)
    assert one.metrics == other.metrics


def test_a_segment_without_reference_answers_is_refused(rng):
    with pytest.raises(ReferenceCostError) as error:
        ConstraintSet(profile(SEGMENTS), answers(rng, 64, "cost", labels=["adult"] * 64))
    assert str(error.value) == (
        "cost.child: 0 of 64 reference answers carry the label child; cvar α=0.9 needs at least 11; check"
        " --data.label_key; the labels are adult"
    )


def test_a_segment_with_too_few_reference_answers_is_told_how_many_samples_would_do(rng):
    """README's own example: at α = 0.99 the score was 0 throughout. 101 of 51/256 are 507, and half again."""
    text = "risk: cvar α=0.9\nsegments: {pediatrics: cvar α=0.99}"
    labels = ["pediatrics"] * 51 + ["adult"] * 205
    with pytest.raises(ReferenceCostError) as error:
        ConstraintSet(profile(text), answers(rng, 256, "cost", labels=labels))
    assert str(error.value) == (
        "cost.pediatrics: 51 of 256 reference answers carry the label pediatrics; cvar α=0.99 needs at least"
        " 101; write reference.samples: 761, or a risk that looks at more"
    )
    enough = answers(rng, 761, "cost", labels=labels * 2 + ["pediatrics"] * 50 + ["adult"] * 199)
    segments = ConstraintSet(profile(text), enough)
    found = segments(answers(rng, 64, "cost", labels=["pediatrics"] * 20 + ["adult"] * 44, shift=30.0))
    assert found.advantage_b[:20].std() > 0


def test_the_window_grows_to_its_size_and_the_step_counts_new_answers(rng):
    """12 reference answers, 10 new ones a rollout, a window of 22: 22, then 22 of 10 new each."""
    labels = ["child"] * 12 + ["adult"] * 40
    segments = ConstraintSet(profile(SEGMENTS), answers(rng, 52, "cost", labels=labels))
    part, sizes = segments.parts[1], []
    for count in (4, 4, 4, 4, 30):
        before = part.step.dual.value
        metrics = segments(answers(rng, count, "cost", labels=["child"] * count, shift=2.0)).metrics[
            "cost.child"
        ]
        new = count / min(22, 12 + 4 * (len(sizes) + 1)) if count < 22 else 1.0
        used = metrics["violation_used"] / part.step.spread
        assert part.step.dual.value - before == pytest.approx(new * 0.1 * used)
        sizes.append(part.state_dict()["recent"])
    assert [len(recent) for recent in sizes] == [16, 20, 22, 22, 22]


def test_all_faults_of_the_references_are_named_at_once(rng):
    flat = Scored({"harm": np.ones(64), "privacy": np.ones(64)}, [""] * 64)
    with pytest.raises(ReferenceCostError) as error:
        ConstraintSet(profile(TWO), flat)
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["harm", "privacy"]


def test_a_missing_source_stops(rng):
    two = ConstraintSet(profile(TWO), answers(rng, 64, "harm", "privacy"))
    with pytest.raises(CostError, match=r"^privacy: there are no costs of the source privacy$"):
        two(answers(rng, 64, "harm"))


def test_the_bound_is_the_sum_of_the_bounds(rng):
    two = ConstraintSet(profile(TWO), answers(rng, 64, "harm", "privacy"))
    assert two.score_bound() == pytest.approx(sum(part.step.score_bound() for part in two.parts))

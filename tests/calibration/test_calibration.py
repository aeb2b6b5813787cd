"""Calibration against known distributions, the training step itself, and the constraint's own code."""

import numpy as np
import pytest

from openrlhf_rad.authoring.words import parts
from openrlhf_rad.calibration import figures, report
from openrlhf_rad.calibration.figures import ScoredSample
from openrlhf_rad.calibration.findings import examine, needed_rollout
from openrlhf_rad.calibration.proposal import propose
from openrlhf_rad.method.settings import TransportSettings
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.profile import ConstraintSettings, RiskProfile

FORMS = ("no_worse", "improvement", "spectral", "expected")
EXACT = TransportSettings(indicator="exact")


def sample_of(cost_b, **more):
    return ScoredSample(np.asarray(cost_b, dtype=float), [f"row {i}" for i in range(len(cost_b))], **more)


def profile_of(text):
    return RiskProfile.from_text(text, "p.yaml")


def proposal_of(cost_b, text="risk: cvar α=0.9", rollout=1024, **more):
    sample = sample_of(cost_b, **more)
    return sample, propose(sample, parts(profile_of(text))[0], rollout)


def kinds(cost_b, text="risk: cvar α=0.9", rollout=1024, **more):
    return [finding.kind for finding in examine(*proposal_of(cost_b, text, rollout, **more))]


@pytest.fixture
def normal():
    return np.random.default_rng(0).normal(size=2000)


def test_the_fall_is_the_violation_at_the_start(normal):
    """When the policy is the reference; RadStep is the oracle."""
    normal = normal[:300]
    for text in (
        "risk: wang η=0.75",
        "risk: wang η=0.75\nconstraint: {form: improvement}",
        "risk: wang η=0.75\nconstraint: {form: spectral, level: 0.5}",
        "risk: wang η=0.75\nconstraint: {form: expected, level: -0.3}",
        "risk: wang η=0.75\nconstraint: {level: 0.1, margin: 30% of reference spread}",
    ):
        profile = profile_of(text).with_overrides({"transport.indicator": "exact"})
        step = RadStep(profile, normal)
        _, proposal = proposal_of(normal, text)
        violation = step(normal).metrics["violation"] / step.spread
        assert proposal.asked.fall == pytest.approx(violation)


@pytest.mark.parametrize("gradient", ["leave_one_out", "spacing", "tilted"])
@pytest.mark.parametrize("risk", ["cvar α=0.8", "mean", "exponential κ=3"])
def test_the_score_spread_is_that_of_the_training_step(risk, gradient, normal):
    cost_b = np.exp(normal[:400]).round(1)  # with ties
    profile = profile_of(f"risk: {risk}\nconstraint: {{gradient: {gradient}, margin: 100, floor: -1e6}}")
    step = RadStep(profile.with_overrides({"transport.indicator": "exact"}), cost_b)
    measured = figures.measure(sample_of(cost_b), profile.risk, profile.constraint)
    assert measured.score_spread.value == pytest.approx(step(cost_b).metrics["score_std"])
    assert measured.spread.value == pytest.approx(step.spread)
    assert measured.risk.value == pytest.approx(profile.risk.risk(cost_b))


def test_a_cost_far_from_zero_loses_no_digits(normal):
    near = figures.measure(sample_of(normal), make_spectrum("linear"), ConstraintSettings())
    far = figures.measure(sample_of(normal * 10 + 1e7), make_spectrum("linear"), ConstraintSettings())
    assert far.spread.value == pytest.approx(10 * near.spread.value, rel=1e-6)
    assert far.spread.low == pytest.approx(10 * near.spread.low, rel=1e-6)
    assert far.score_spread.value == pytest.approx(near.score_spread.value, rel=1e-6)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Normal costs of mean 3 and spread 2; the proposed level and margin are shares of the true spread."""
    generator = np.random.default_rng(7)
    hits = {"level": 0, "margin": 0, "risk": 0, "mean": 0, "score": 0}
    large = figures.measure(
        sample_of(generator.normal(3, 2, size=200_000)), make_spectrum("power", gamma=2), ConstraintSettings()
    )
    rounds = 80
    for _ in range(rounds):
        _, proposal = proposal_of(generator.normal(3, 2, size=200), "risk: power γ=2", rollout=200)
        truth = {
            "level": (report.scaled(proposal.figures.spread, proposal.ask.slack), proposal.ask.slack * 2),
            "margin": (report.scaled(proposal.figures.spread, proposal.ask.margin), proposal.ask.margin * 2),
            # The expected larger of two normal costs lies σ/√π above the mean.
            "risk": (proposal.figures.risk, 3 + 2 / np.sqrt(np.pi)),
            "mean": (proposal.figures.mean, 3),
            "score": (proposal.figures.score_spread, large.score_spread.value),
        }
        for name, (estimate, true) in truth.items():
            hits[name] += estimate.low <= true <= estimate.high
    # 95 % of 80 is 76; fewer than 69 would happen once in 1,000 times.
    assert {name: count for name, count in hits.items() if count < 69} == {}


def test_answers_to_one_prompt_are_not_independent(normal):
    cost_b = np.repeat(normal[:200], 5)
    alone = figures.measure(sample_of(cost_b), make_spectrum("mean"), ConstraintSettings())
    together = ScoredSample(cost_b, [f"prompt {i // 5}" for i in range(1000)])
    joined = figures.measure(together, make_spectrum("mean"), ConstraintSettings())
    ratio = (joined.mean.high - joined.mean.low) / (alone.mean.high - alone.mean.low)
    assert ratio == pytest.approx(np.sqrt(5), rel=0.15)


def test_a_policy_that_meets_the_calibrated_constraint_sees_its_price_fall():
    """At level 0, and at a small one in small rollouts, sampling alone would look like a violation."""
    generator = np.random.default_rng(3)
    cost_b = generator.exponential(size=4000)
    text = (
        "risk: cvar α=0.75\nconstraint: {level: 0.01 of reference spread, margin: 0.41 of reference spread}"
    )
    profile = profile_of(text).with_overrides({"transport.indicator": "exact"})
    _, proposal = proposal_of(cost_b, text, rollout=64)
    calibrated = report.calibrated(profile, proposal, "cost")
    assert report.values(proposal, "spread")["constraint.margin"].endswith("of reference spread")

    def mean_violation(tried, fall):
        step = RadStep(tried, cost_b)
        moved = cost_b - fall * step.spread
        draws = np.random.default_rng(4)
        return np.mean([step(draws.choice(moved, 64)).metrics["violation"] for _ in range(150)])

    assert mean_violation(profile, 0.41) > 0
    assert mean_violation(calibrated, proposal.ask.margin) < 0
    # And it is no weaker: the reference violates it by the fall that was asked for.
    assert mean_violation(calibrated, 0) == pytest.approx(0.4 * cost_b.std(), rel=0.25)


def test_ten_rollouts_at_the_reference_move_the_price_by_its_balance(normal):
    text = "risk: wang η=0.75"
    _, proposal = proposal_of(normal, text, rollout=512, reward_b=3 * normal[::-1])
    calibrated = report.calibrated(profile_of(text), proposal, "cost")
    step = RadStep(calibrated.with_overrides({"transport.indicator": "exact"}), normal)
    draws = np.random.default_rng(5)
    for _ in range(10):
        step(draws.choice(normal, 512))
    moved = step.dual.value - calibrated.dual.initial
    assert moved == pytest.approx(proposal.figures.balance.value, rel=0.2)
    assert calibrated.dual.max == pytest.approx(10 * proposal.figures.balance.value, rel=0.01)


def test_at_the_balance_the_cost_outweighs_any_reward(normal):
    """Above λ_eq, r + λ s lowers the risk at first order, even where the reward is the cost itself."""
    worst = normal.copy()
    _, proposal = proposal_of(normal, "risk: mean", reward_b=worst)
    score_b = -(normal - normal.mean()) / normal.std()
    for factor, lowers in ((1.01, True), (0.99, False)):
        price = factor * proposal.figures.balance.value
        slope = -np.cov(score_b, worst + price * score_b)[0, 1]
        assert (slope < 0) == lowers


class TestFindings:
    def test_sound_costs_raise_none(self, normal):
        assert kinds(normal) == []
        assert kinds(np.exp(normal)) == []

    def test_an_inverted_sign_is_proven_by_labels(self, normal):
        harmful = (normal + np.random.default_rng(1).normal(size=2000) > 1).astype(np.int8)
        assert kinds(normal, harmful_b=harmful) == []
        sample, proposal = proposal_of(-normal, harmful_b=harmful)
        (finding,) = examine(sample, proposal)
        assert finding.kind == "inverted"
        assert finding.proven
        chance = np.random.default_rng(2).integers(-1, 2, size=2000).astype(np.int8)
        assert kinds(normal, harmful_b=chance) == ["unrelated"]

    def test_labels_outvote_the_side_of_the_tail(self, normal):
        skewed = -np.exp(normal)
        assert kinds(skewed, harmful_b=(skewed > -0.5).astype(np.int8)) == []

    def test_a_long_left_tail_looks_inverted(self, normal):
        assert kinds(-np.exp(normal)) == ["inverted"]
        assert not examine(*proposal_of(-np.exp(normal)))[0].proven
        safe_marked_high = (np.random.default_rng(1).random(2000) < 0.9).astype(float)
        assert "inverted" in kinds(safe_marked_high, "risk: mean")

    @pytest.mark.parametrize(
        "text",
        [
            "constraint: {form: expected, level: 0}",
            "constraint: {form: spectral, level: -1}",
            "constraint: {form: no_worse, level: 2, margin: 1}",
            "constraint: {form: improvement, level: 0}",
        ],
    )
    def test_a_threshold_that_is_met_already_is_inert(self, text, normal):
        """Costs that average −6.7 against a threshold of 0, and its like."""
        sample, proposal = proposal_of(normal - 6.7, f"risk: mean\n{text}")
        assert [finding.kind for finding in examine(sample, proposal)] == ["inert"]
        mended = report.calibrated(profile_of(f"risk: mean\n{text}"), proposal, "cost")
        _, again = proposal_of(normal - 6.7, mended.to_yaml())
        assert again.asked.fall == pytest.approx(0.4, abs=0.02)

    def test_too_little_is_nearly_inert(self, normal):
        assert kinds(normal, "risk: mean\nconstraint: {form: spectral, level: 0.01}") == ["inert"]

    def test_more_than_the_distribution_holds_is_infeasible(self, normal):
        wide = "risk: mean\nconstraint: {form: spectral, level: 5}"
        sample, proposal = proposal_of(normal, wide)
        assert [finding.kind for finding in examine(sample, proposal)] == ["infeasible"]
        mended = report.calibrated(profile_of(wide), proposal, "spread")
        assert kinds(normal, mended.to_yaml()) == []

    def test_a_mean_of_rare_ones_cannot_fall_by_the_usual_share_of_the_spread(self):
        """A tenth of ones: the mean is a third of the spread, and 0.4 spreads are asked."""
        cost_b = np.where(np.random.default_rng(1).random(2000) < 0.9, 0.0, 1.0)
        assert "infeasible" in kinds(cost_b, "risk: mean")
        assert "infeasible" not in kinds(cost_b, "risk: cvar α=0.9")

    def test_a_level_that_noise_meets(self, normal):
        """Quantiles of 32 answers lie below the reference's by 0.16 spreads by chance alone, at CVaR 0.9."""
        text = "risk: cvar α=0.9\nconstraint: {{form: improvement, margin: 0, level: {}}}"
        sample, proposal = proposal_of(normal, text.format(0.1), rollout=32)
        assert proposal.rollout.value == pytest.approx(0.16, abs=0.02)
        found = examine(sample, proposal)[0]
        assert (found.kind, found.text) == (
            "inert",
            "the reference itself meets the constraint, by noise: 32 of its own answers show a gap of 0.167"
            " on average, and 0.1 is asked; take a margin, larger rollouts or a higher level",
        )
        assert "inert" not in kinds(normal, text.format(0.3), rollout=32)

    def test_a_share_of_a_negative_risk_does_not_fit(self, normal):
        text = "risk: mean\nconstraint: {form: spectral, level: 20% of reference risk}"
        sample, proposal = proposal_of(normal - 6, text)
        (finding,) = examine(sample, proposal)
        assert finding.kind == "infeasible"
        assert "use spread" in finding.text
        assert proposal.ask.fall == 0.4

    def test_few_answers_in_the_tail(self, normal):
        (finding,) = examine(*proposal_of(normal[:100], rollout=64))
        assert finding.text == (
            "the weights of cvar α=0.9 rest on 10 of the 100 answers; at least 25 are needed to see a tail;"
            " score 250 answers"
        )
        (finding,) = examine(*proposal_of(normal, "risk: cvar α=0.95", rollout=20))
        assert finding.text == (
            "of a rollout of 20 answers 1 carry the weight; at least 3 are needed; take 60 a rollout"
        )

    def test_a_price_of_another_scale(self, normal):
        assert kinds(normal, reward_b=0.001 * normal) == ["price"]
        assert kinds(normal, reward_b=1000 * normal) == ["price"]
        assert kinds(normal, reward_b=normal) == []

    def test_a_flat_score(self):
        cost_b = np.array([0.0] * 60 + [1.0] * 40)
        sample, proposal = proposal_of(cost_b, "risk: cvar α=0.9")
        assert "flat" in [finding.kind for finding in examine(sample, proposal)]
        assert set(report.values(proposal, "cost")) == {"constraint.level", "constraint.margin"}


def test_the_rollout_that_is_needed_tells_the_fall(normal):
    _, proposal = proposal_of(normal, "risk: wang η=0.75", rollout=128)
    n = needed_rollout(proposal)
    draws = np.random.default_rng(6)
    risk = make_spectrum("wang", eta=0.75)
    errors = np.array([risk.risk(draws.choice(normal, n)) for _ in range(400)]) - risk.risk(normal)
    assert np.quantile(np.abs(errors), 0.95) == pytest.approx(0.5 * proposal.ask.fall, rel=0.25)

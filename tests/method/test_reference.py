"""What a constraint asks of reference costs: the shift by bisection, feasibility by enumerating policies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from openrlhf_rad.errors import ReferenceCostError
from openrlhf_rad.method.constraint import evaluate
from openrlhf_rad.method.constraint_set import ConstraintSet, Scored
from openrlhf_rad.method.particles import empirical_quantiles
from openrlhf_rad.method.reference import read_costs, resolve
from openrlhf_rad.method.settings import TransportSettings
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.profile import RiskProfile, load_profile, shipped_profiles

EXACT = TransportSettings(indicator="exact")
SHARES = {"0/1": (0.05, 0.1, 0.3), "1-5": ((0.6, 0.2, 0.1, 0.06, 0.04), (0.2, 0.2, 0.2, 0.2, 0.2))}
RISKS = st.sampled_from(["mean", "cvar α=0.7", "wang η=1", "power γ=3", "0.5*cvar(α=0.9) + 0.5*mean"])


def profile(text):
    return RiskProfile.from_text(text, "ask.yaml")


def flags(share, size=400):
    return np.repeat([0.0, 1.0], [size - round(share * size), round(share * size)])


def ratings(shares, size=400):
    return np.repeat([1.0, 2, 3, 4, 5], np.round(np.array(shares) * size).astype(int))


@given(
    seed=st.integers(0, 10_000),
    risk=RISKS,
    margin=st.floats(0.01, 3),
    kind=st.sampled_from(["ties", "heavy", "normal"]),
    below=st.sampled_from([0.0, 0.3]),
)
def test_the_shifted_reference_has_a_risk_lower_by_the_margin(seed, risk, margin, kind, below):
    rng = np.random.default_rng(seed)
    draws = {"ties": lambda: rng.integers(0, 4, 60), "heavy": lambda: rng.lognormal(size=60)}
    cost_r = np.sort(np.asarray(draws.get(kind, lambda: rng.normal(size=60))(), float))
    floor = float(cost_r[0]) - below
    one = profile(f"risk: {risk}\nconstraint: {{level: 0.1, margin: {margin}, floor: {floor!r}}}")
    ask = resolve(one.constraint, one.risk, cost_r)
    low, high = 0.0, 100.0
    for _ in range(80):  # the least shift that does it, or all the way
        middle = (low + high) / 2
        fallen = one.risk.risk(cost_r) - one.risk.risk(np.maximum(cost_r - middle, floor))
        low, high = (middle, high) if fallen < margin else (low, middle)
    target = one.risk.risk(np.maximum(cost_r - ask.shift, floor))
    if margin < one.risk.risk(cost_r) - floor:
        assert ask.shift == pytest.approx(high, rel=1e-9)
        assert one.risk.risk(cost_r) - target == pytest.approx(margin, rel=1e-9)
        assert ask.level == 0.1
    else:
        assert target == pytest.approx(floor)
        # What cannot be shifted comes off the slack: the promise ρ(C_θ) ≤ ρ(C_0) − m + τ stays.
        assert target + ask.level == pytest.approx(one.risk.risk(cost_r) - margin + 0.1)


def test_a_margin_that_no_quantile_is_too_low_for_is_the_shift():
    cost_r = np.random.default_rng(0).normal(size=256)
    step = RadStep(load_profile("medical"), cost_r)
    assert step.ask.shift == step.ask.margin == cost_r.std()


def policies(values, rng):
    """Distributions over the values: all corners, and random ones near and far from the least."""
    yield from np.eye(values.size)
    for strength in (0.1, 0.5, 1.0):
        weights = np.r_[3.0, np.full(values.size - 1, strength)]
        yield from rng.dirichlet(weights, 30)
    yield from (
        np.r_[1 - p, np.full(values.size - 1, p / (values.size - 1))] for p in np.geomspace(1e-6, 1, 20)
    )


def is_met(step, values, share_v, n=1000):
    """Whether a policy that draws these values meets the constraint, without sampling."""
    edges = np.cumsum(share_v) / share_v.sum()
    particle_n = values[np.minimum(np.searchsorted(edges, (np.arange(n) + 0.5) / n), values.size - 1)]
    reference_n = empirical_quantiles(step._reference, n, repeats=True)
    return evaluate(
        step.constraint.settings.form,
        particle_n,
        reference_n,
        step.constraint.risk.weights(n),
        level=step.ask.level,
        margin=step.ask.shift,
        floor=step.ask.least,
        transport=EXACT,
    ).satisfied


@pytest.mark.parametrize("name", shipped_profiles())
@pytest.mark.parametrize(
    "costs", [f"{kind} {place}" for kind, all_ in SHARES.items() for place in range(len(all_))]
)
def test_an_ask_is_refused_just_where_no_policy_meets_it(name, costs):
    kind, place = costs.split()
    shares = SHARES[kind][int(place)]
    cost_r = flags(shares) if kind == "0/1" else ratings(shares)
    values, rng = np.unique(cost_r), np.random.default_rng(1)
    step = RadStep(load_profile(name), cost_r, fixed_dual=0.0)
    met = [is_met(step, values, share_v) for share_v in policies(values, rng)]
    assert any(met) == step.ask.feasible
    # The reference never meets what a shipped profile asks: no constraint is inert.
    assert not is_met(step, *np.unique(cost_r, return_counts=True))
    if step.ask.feasible:
        RadStep(load_profile(name), cost_r)
    else:
        with pytest.raises(ReferenceCostError, match="no policy can meet the constraint"):
            RadStep(load_profile(name), cost_r)


@pytest.mark.parametrize("form", ["no_worse", "improvement", "spectral", "expected"])
@pytest.mark.parametrize("floor", [None, -0.5])
def test_the_number_that_could_be_asked_is_the_last_that_is_not_refused(form, floor):
    cost_r = np.random.default_rng(3).exponential(size=300).round(2)
    text = f"risk: power γ=2\nconstraint: {{form: {form}, floor: {'null' if floor is None else floor}}}"
    ask = resolve(profile(text).constraint, profile(text).risk, cost_r)
    most = ask.asking(ask.reach)
    further = most + (-1e-6 if form == "expected" else 1e-6)
    RadStep(profile(text).with_overrides({ask.key: most}), cost_r)
    with pytest.raises(ReferenceCostError, match="no policy can meet"):
        RadStep(profile(text).with_overrides({ask.key: further}), cost_r)


def test_a_refusal_says_what_could_be_asked():
    with pytest.raises(ReferenceCostError) as refusal:
        ConstraintSet(load_profile("uniform"), Scored({"cost": flags(0.1)}, [""] * 400))
    assert str(refusal.value) == (
        "no policy can meet the constraint: it asks that the risk mean fall by 0.12, and it would fall by 0.1"
        " if every answer cost 0, the least seen; the most that can be asked is constraint.margin: 0.16; to"
        " ask for half of it, write constraint.margin: 0.11; if answers can cost less, write constraint.floor"
    )
    ConstraintSet(load_profile("uniform"), Scored({"cost": flags(0.1)}, [""] * 400), fixed_dual=0.0)
    asked = load_profile("uniform").with_overrides({"constraint.margin": 0.11})
    ConstraintSet(asked, Scored({"cost": flags(0.1)}, [""] * 400))


def test_a_cost_below_the_floor_is_refused():
    one = profile("risk: mean\nconstraint: {floor: 0.5}")
    with pytest.raises(
        ReferenceCostError, match=r"constraint\.floor is 0\.5 and an answer .* costs 0; .* 0 or less"
    ):
        RadStep(one, flags(0.3))


@pytest.mark.parametrize("suffix", [".txt", ".npy", ".npz"])
def test_a_file_of_costs_holds_one_column(tmp_path, suffix):
    """Of two columns, a number and a cost, the numbers would be taken for costs."""
    path = tmp_path / f"costs{suffix}"
    save = {".txt": np.savetxt, ".npy": np.save, ".npz": lambda file, costs: np.savez(file, costs=costs)}[
        suffix
    ]
    for one in ([[1.0], [2.5]], [[1.0, 2.5]], [1.0, 2.5]):
        save(path, np.array(one))
        assert read_costs(path).tolist() == [1.0, 2.5]
    save(path, np.array([[0.0, 1.0], [1.0, 2.5]]))
    with pytest.raises(ReferenceCostError) as error:
        read_costs(path)
    assert str(error.value) == (
        f"{path} holds numbers of shape (2, 2); it must be one column of costs; save the costs alone"
    )


def doubts(text, cost_r, size=64, **more):
    scored = Scored({"cost": cost_r}, [""] * cost_r.size)
    return ConstraintSet(profile(text), scored, **more).check_batch(size)


def test_what_is_doubtful_is_said_before_the_first_update():
    """Nearly all there is; noise of the reference beside the ask; a level met by noise."""
    normal = np.random.default_rng(4).normal(size=256)
    assert doubts("risk: cvar α=0.9", normal) == []
    (nearly,) = doubts("risk: mean\nconstraint: {margin: 0.155, level: 0.06}", flags(0.1))
    assert nearly == (
        "cost: it asks that the risk fall by 0.095, of 0.1 at most, when every answer costs the least; for"
        " half of it write constraint.margin: 0.11"
    )
    (noisy,) = doubts("risk: cvar α=0.9\nconstraint: {form: spectral, level: 0.2}", normal)
    assert noisy.startswith("cost: 256 reference answers leave its violation uncertain by 0.1")
    assert int(noisy.rpartition(": ")[2]) == pytest.approx(256 * (5 * 1.84 / 16 / 0.2) ** 2, rel=0.4)
    small = "risk: cvar α=0.9\nconstraint: {form: improvement, margin: 0, level: 0.1}\ndual: {max: 20}"
    assert any(
        "the reference itself meets it, by noise: 32 of its own" in text for text in doubts(small, normal, 32)
    )
    assert doubts(small, normal, 32, fixed_dual=0.0) == []
    assert not any(
        "by noise" in text for text in doubts(small.replace("level: 0.1", "level: 0.4"), normal, 32)
    )


def test_a_fall_that_a_handful_of_answers_decides_is_refused():
    """One flag in 256 under Wang: feasible, but no rollout would show it."""
    rare = flags(1 / 256, 256)
    with pytest.raises(ReferenceCostError) as error:
        RadStep(load_profile("wang"), rare)
    assert str(error.value) == (
        "reference costs above 0, the least: 1 of 256; a fall of 0.02495 is asked, which must rest on 5 at"
        " least; take reference.samples: 2560, or prompts that draw more of them"
    )
    assert RadStep(load_profile("wang"), rare, fixed_dual=0.0).ask.feasible
    RadStep(load_profile("wang"), flags(5 / 256, 256))


def test_the_size_of_the_reference_makes_its_noise_a_fifth_of_the_ask():
    """The closed form of the influence variance of CVaR of normal costs; that of the mean is 1."""
    density = stats.norm.pdf(z := stats.norm.ppf(0.9)) / 0.1
    variance = ((1 + z * density - density**2) + 0.9 * (density - z) ** 2) / 0.1
    assert profile("risk: cvar α=0.9").reference_samples == pytest.approx(25 * variance / 0.4**2, rel=0.02)
    spectral = "risk: mean\nconstraint: {form: spectral, level: 0.1 of reference spread}"
    assert profile(spectral).reference_samples == pytest.approx(25 / 0.1**2, rel=0.02)
    assert profile("risk: mean").reference_samples == 256
    assert profile("risk: cvar α=0.9999").reference_samples == 4096
    assert profile("risk: mean\nreference: {samples: 10}").reference_samples == 10
    cvar = "risk: mean\nsegments: {child: cvar α=0.9}"
    assert profile(cvar).reference_samples == profile("risk: cvar α=0.9").reference_samples


KINDS = {
    "0/1": lambda harm_b: (harm_b > 1.2).astype(float),
    "rare 0/1": lambda harm_b: (harm_b > 1.45).astype(float),
    "1-5": lambda harm_b: np.clip(np.floor(harm_b + 2.5), 1, 5),
    "probability": lambda harm_b: 1 / (1 + np.exp(4 - 4 * harm_b)),
}


@pytest.mark.parametrize("name", ["medical", "uniform", "wang"])
@pytest.mark.parametrize("kind", KINDS)
def test_discrete_costs_end_met_or_are_refused_before_the_first_step(kind, name):
    """REINFORCE over 40 arms whose reward likes harm: the true violation of the last quarter, and λ."""
    rng, arms, batch, steps = np.random.default_rng(7), 40, 64, 160
    taste_k = rng.normal(size=arms)
    harm_k = 0.7 * taste_k + 0.7 * rng.normal(size=arms)

    def costs(arm_b):
        return KINDS[kind](harm_k[arm_b] + 0.3 * rng.normal(size=arm_b.size))

    reference = costs(rng.integers(arms, size=512))
    shipped = load_profile(name)
    ask = resolve(shipped.constraint, shipped.risk, reference)
    if not ask.feasible:
        with pytest.raises(ReferenceCostError, match="no policy can meet the constraint"):
            RadStep(shipped, reference)
        # half of what is possible, as the message says
        shipped = shipped.with_overrides({ask.key: ask.asking(ask.reach / 2)})
    step = RadStep(shipped, reference)
    logit_k, missed, dual = np.zeros(arms), [], []
    for t in range(steps):
        policy_k = np.exp(logit_k - logit_k.max())
        policy_k /= policy_k.sum()
        if t >= 3 * steps // 4:
            cost_b = costs(rng.choice(arms, 4000, p=policy_k))
            probe = RadStep(shipped.with_overrides({"transport.indicator": "exact"}), reference)
            missed.append(probe(cost_b).metrics["violation"] / step.spread)
            dual.append(step.dual.value)
        arm_b = rng.choice(arms, batch, p=policy_k)
        found = step(costs(arm_b))
        gain_b = taste_k[arm_b] + found.dual_variable * found.score_b
        gain_b -= gain_b.mean() + 0.1 * np.log(policy_k[arm_b] * arms)
        logit_k += 2.0 * (np.bincount(arm_b, gain_b, arms) - gain_b.sum() * policy_k) / batch
    assert np.mean(missed) < 0.1
    assert min(dual) < shipped.dual.max

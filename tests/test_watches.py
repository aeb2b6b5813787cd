"""Watches on synthetic runs: each speaks when it should, in these words, and on healthy noise hardly ever."""

import json

import numpy as np
import pytest
from scipy import stats

from openrlhf_rad.errors import ProfileError, WatchStop
from openrlhf_rad.harm import harm_auc, known_harm, refused
from openrlhf_rad.method.constraint_set import Scored
from openrlhf_rad.profile import RiskProfile, WatchSettings
from openrlhf_rad.profile.language import severities
from openrlhf_rad.watches import Watches, answer_metrics, at_start

STEPS = 100
DEFAULT_SEVERITY = severities(WatchSettings())


def healthy(rng, steps=STEPS):
    """A run that works: the violation falls to 0 and hovers there, λ follows, all else is noise."""
    violation_t = 0.5 * np.exp(-np.arange(steps) / 15) - 0.05 + 0.1 * rng.normal(size=steps)
    dual_t = np.clip(1 + 0.1 * np.cumsum(violation_t), 0, 10)
    return [
        {
            "step": t + 1,
            "violation": violation_t[t],
            "lambda": dual_t[max(t - 1, 0)],
            "lambda_next": dual_t[t],
            "risk": 2 - 0.5 * (1 - np.exp(-t / 15)) + 0.4 * rng.standard_t(3),
            "score_std": rng.gamma(4, 0.2),
            "fall_asked": 0.4,
            "fall_possible": 2.0,
            "harm_auc": np.clip(0.7 + 0.1 * rng.normal(), 0, 1),
            "sinkhorn_converged": float(rng.random() < 0.9),
            "marginal_error": 1e-6,
            "empty_share": rng.binomial(64, 0.01) / 64,
            "distinct_share": 1 - rng.binomial(64, 0.1) / 64,
            "response_length": 40 + 6 * rng.normal(),
            "entropy": max(0.0, 1.5 - 0.005 * t + 0.2 * rng.normal()),
        }
        for t in range(steps)
    ]


def changed(**columns):
    """The healthy run with other values: a number, or a function of the step from 0."""
    rows = healthy(np.random.default_rng(0))
    for t, row in enumerate(rows):
        row.update({name: value(t) if callable(value) else value for name, value in columns.items()})
    return rows


def make(most=10.0, **settings):
    return Watches({"cost": most}, WatchSettings(**settings))


def alarms(rows, watches=None):
    watches = watches or make()
    return [alarm for row in rows for alarm in watches.see(row)]


NOISE = np.random.default_rng(9).normal(size=STEPS)
SICK = {
    "inert": (
        changed(violation=lambda t: -0.2 + 0.02 * NOISE[t], **{"lambda": 0.0, "lambda_next": 0.0}),
        "step 20: the constraint was met in all 20 steps so far (violation -0.169); it asks for nothing that"
        " the reference does not do; lower constraint.level or raise constraint.margin",
    ),
    "dead": (
        changed(violation=0.4, score_std=lambda t: 0.0 if t >= 30 else 1.0),
        "step 50: the constraint is violated by 0.4 and no sample has felt it for 20 steps (all scores are"
        " equal); λ rises for nothing; take more samples a rollout, or a risk that looks at more of the tail",
    ),
    "at_cap": (
        changed(violation=0.3, lambda_next=lambda t: min(1.0 * t, 10.0)),
        "step 30: λ has been at its maximum 10 for 20 steps and the constraint is still violated by 0.3;"
        " it asks that the risk fall by 0.4, of 2 at most, which leaves room: reward outweighs it; raise"
        " dual.max",
    ),
    "inverted": (
        changed(harm_auc=lambda t: 0.3 + 0.1 * NOISE[t]),
        "step 20: what is harmful costs less than what is not: they are in the right order in 32% of pairs"
        " over 20 steps; a cost must be higher for more harm; check the sign of the cost",
    ),
    "saturated": (
        changed(saturated=lambda t: float(t >= 10), risk=lambda t: 1.0 if t >= 10 else 0.9),
        "step 30: policy and reference have sat at the largest cost that occurs, 1, on all that the risk"
        " weighs for 20 steps; it sees no difference between them; for a flag take the profile flags, the"
        " mean, or a risk that weighs more of the answers",
    ),
    "no_control": (
        changed(
            risk=lambda t: 1 + 0.05 * t + 0.2 * NOISE[t],
            **{"lambda": lambda t: 1 + 0.05 * t, "lambda_next": 1.0},
        ),
        "step 40: λ rose from 1 to 2.95 in 40 steps and the risk rose with it, by 0.928; λ should lower it;"
        " check that the cost depends on the answer, and the learning rate",
    ),
    "transport": (
        changed(sinkhorn_converged=lambda t: float(t % 3 == 0), marginal_error=0.002),
        "step 20: the transport plan did not converge in 65% of the last 20 steps (marginal error 0.002); its"
        " gradient is approximate; raise transport.max_iterations or transport.epsilon, or set"
        " transport.indicator to exact",
    ),
    "empty": (
        changed(empty_share=lambda t: 0.01 * max(0, t - 30)),
        "step 45: 5% of the answers are empty, 0% were at first; an empty answer costs nothing and says"
        " nothing; let the reward punish it, or lower dual.max",
    ),
    "short": (
        changed(response_length=lambda t: 40.0 if t < 40 else 5.0),
        "step 52: answers have 19 tokens, 40 at first; costs may fall by saying less; look at samples.jsonl,"
        " and let the reward ask for substance",
    ),
    "alike": (
        changed(distinct_share=lambda t: 0.9 if t < 40 else 0.1),
        "step 51: 46% of the answers of a step are distinct, 90% were at first; the policy collapses; raise"
        " --algo.kl.init_coef or lower --actor.adam.lr",
    ),
    "entropy": (
        changed(entropy=lambda t: 1.6 * 0.95**t),
        "step 48: the policy's entropy is 0.244, 1.03 at first; it explores no more; raise"
        " --algo.kl.init_coef or lower --actor.adam.lr",
    ),
}


@pytest.mark.parametrize("watch", DEFAULT_SEVERITY)
def test_a_sick_run_is_named_once_in_these_words(watch):
    rows, message = SICK[watch]
    found = alarms(rows)
    assert [(alarm.watch, alarm.severity, alarm.message) for alarm in found] == [
        (watch, DEFAULT_SEVERITY[watch], message)
    ]


def test_healthy_runs_hardly_ever_alarm():
    """Fewer than 1 in 100 runs of 100 steps may be called sick, over all watches together."""
    rng = np.random.default_rng(1)
    spoken = sum(bool(alarms(healthy(rng))) for _ in range(200))
    assert spoken <= 2


@pytest.mark.parametrize("auc", [0.5, 0.55])
def test_a_cost_that_knows_nothing_of_harm_is_not_called_inverted(auc):
    rng = np.random.default_rng(2)
    found = [
        alarms([{"step": t, "harm_auc": auc + 0.15 * rng.normal()} for t in range(STEPS)]) for _ in range(300)
    ]
    assert sum(map(bool, found)) <= 3


def test_a_rising_lambda_with_a_risk_that_only_wavers_is_let_be():
    rng = np.random.default_rng(3)
    rows = [[{"step": t, "lambda": 1 + t, "risk": rng.lognormal()} for t in range(STEPS)] for _ in range(300)]
    assert sum(bool(alarms(run)) for run in rows) <= 3


def test_a_constraint_that_bound_once_is_not_inert():
    rows = changed(violation=lambda t: 0.1 if t == 3 else -0.2)
    assert alarms(rows) == []


def test_a_watch_speaks_again_after_its_condition_has_cleared():
    rows = changed(violation=0.3, lambda_next=lambda t: 1.0 if 40 <= t < 50 else 10.0)
    assert [alarm.message.split(":")[0] for alarm in alarms(rows)] == ["step 20", "step 70"]


def test_absent_metrics_keep_their_watches_silent():
    assert alarms([{"step": t, "violation": None} for t in range(STEPS)]) == []
    # λ held fixed: it is meant to stay where it is
    assert alarms(changed(violation=-0.2, lambda_next=10.0), make(None)) == []


def test_severity_decides_between_silence_words_and_a_stop():
    rows, message = SICK["empty"]
    assert alarms(rows, make(empty="off")) == []
    warned = make()
    assert [text for row in rows for text in warned.check(row)] == [message]
    stopping = make(empty="stop")
    with pytest.raises(WatchStop) as error:
        [stopping.check(row) for row in rows]
    assert str(error.value) == message


def test_a_window_of_the_user_s_decides_when():
    rows = changed(violation=0.3, lambda_next=10.0)
    assert alarms(rows, make(window=7))[0].message.startswith("step 7: ")


def test_a_profile_sets_them_and_its_mistakes_are_named_together():
    text = "risk: mean\nwatches: {window: 7, empty: stop, entropy: off, harmful_label: bad}"
    profile = RiskProfile.from_text(text)
    assert profile.watches == WatchSettings(window=7, empty="stop", entropy="off", harmful_label="bad")
    watches = Watches.of(profile, fixed_dual=False)
    (alarm,) = alarms(changed(violation=0.3, lambda_next=10.0), watches)
    assert alarm.message.startswith("step 7: ")
    assert alarms(changed(entropy=lambda t: 1.6 * 0.95**t), watches) == []
    with pytest.raises(ProfileError) as error:
        RiskProfile.from_text("risk: mean\nwatches: {window: 3, emtpy: stop, short: loud}", "p.yaml")
    names = ", ".join(["window", "harmful_label", *DEFAULT_SEVERITY])
    assert str(error.value).splitlines() == [
        "p.yaml:2:19: watches.window is 3; it must be a whole number of at least 5; 20 is the default",
        f"p.yaml:2:22: watches.emtpy is not a key of watches; the keys are {names}; did you mean empty?",
        "p.yaml:2:42: watches.short is loud; it must be one of off, warn, stop",
    ]


def test_watches_are_no_part_of_the_hash_and_read_back():
    plain = RiskProfile.from_text("risk: mean")
    loud = plain.with_overrides({"watches.inert": "stop", "watches.dead": "off"})
    assert loud.hash == plain.hash
    assert RiskProfile.from_text(loud.to_yaml()) == loud != plain


TWO = RiskProfile.from_text(
    "constraints: {harm: {risk: mean, dual: {max: 4}}, privacy: {risk: mean, dual: {max: 10}}}"
)


def test_every_constraint_of_several_is_watched_by_its_own_bounds():
    """λ of privacy stays at 10, its maximum; that of harm, the first, moves."""
    rows = healthy(np.random.default_rng(0))
    for row in rows:
        own = {f"harm/{name}": row[name] for name in ("violation", "lambda", "lambda_next", "risk")}
        own |= {
            f"{part}/fall_{which}": 0.4 for part in ("harm", "privacy") for which in ("asked", "possible")
        }
        row |= {**own, "privacy/violation": 0.2, "privacy/lambda_next": 10.0}
        row["harm/lambda_next"] = min(row["harm/lambda_next"], 3.9)
    found = alarms(rows, Watches.of(TWO, fixed_dual=False))
    assert [(alarm.watch, alarm.severity, alarm.message) for alarm in found] == [
        (
            "at_cap",
            "warn",
            "step 20: privacy: λ has been at its maximum 10 for 20 steps and the constraint is still violated"
            " by 0.2; it asks that the risk fall by 0.4, of 0.4 at most, when every answer costs the least:"
            " that is too much; lower what is asked",
        )
    ]
    assert alarms(rows, Watches.of(TWO, fixed_dual=True)) == []


def test_watches_of_several_go_on_from_a_checkpoint():
    asks = {"harm/fall_asked": 0.4, "harm/fall_possible": 2.0}
    rows = [{"step": t + 1, "harm/violation": 1.0, "harm/lambda_next": 4.0, **asks} for t in range(25)]
    first, resumed = Watches.of(TWO, fixed_dual=False), Watches.of(TWO, fixed_dual=False)
    assert alarms(rows[:12], first) == []
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    (alarm,) = alarms(rows[12:], resumed)
    assert alarm.message.startswith("step 20: harm: λ has been at its maximum 4 for 20 steps")


def test_a_policy_that_learns_to_evade_is_not_called_inverted():
    """Answers to harmful prompts may become the cheapest ones; the sign shows at first only."""
    assert alarms(changed(harm_auc=lambda t: 0.8 if t < 20 else 0.1)) == []


@pytest.mark.parametrize("stop", [1, 19, 33, 51, 70])
@pytest.mark.parametrize("watch", SICK)
def test_a_run_that_was_interrupted_hears_the_same(watch, stop):
    rows, _ = SICK[watch]
    first = make()
    before = alarms(rows[:stop], first)
    resumed = make()
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + alarms(rows[stop:], resumed) == alarms(rows)


def test_a_watch_of_an_earlier_version_begins_anew():
    rows, _ = SICK["inert"]
    resumed = make()
    resumed.load_state_dict({"speaking": [], "watches": {"inert": {"count": 3, "broken": True}}})
    assert alarms(rows, resumed) == alarms(rows)


def scored(cost_b, label="harmful", **other):
    labels = [label if i % 2 else "benign" for i in range(len(cost_b))]
    return Scored(
        {"cost": np.asarray(cost_b, dtype=float), **other}, labels, [f"p{i}" for i in range(len(cost_b))]
    )


def test_the_reference_shows_a_cost_that_is_turned_round():
    rng = np.random.default_rng(5)
    harm_b = rng.normal(size=256) + np.arange(256) % 2
    answers = [refused("Sure, first you")] * 256
    profile = RiskProfile.from_text("risk: cvar α=0.9")
    assert at_start(profile, answers, scored(harm_b)) == []
    (alarm,) = at_start(profile, answers, scored(-harm_b))
    assert (alarm.step, alarm.watch, alarm.severity) == (0, "inverted", "stop")
    assert alarm.message.startswith(
        "step 0: by the labels of the prompts, a harmful answer costs more than a safe"
    )
    quiet = RiskProfile.from_text("risk: cvar α=0.9\nwatches: {inverted: off}")
    assert at_start(quiet, answers, scored(-harm_b)) == []
    # Without a harmful label, and where every harmful prompt is refused, nothing is known.
    assert at_start(profile, answers, scored(-harm_b, label="hate")) == []
    assert at_start(profile, [refused("I'm sorry, but no.")] * 256, scored(-harm_b)) == []


def test_a_reference_that_knows_nothing_of_harm_hardly_ever_stops_a_run():
    rng = np.random.default_rng(6)
    profile = RiskProfile.from_text("risk: cvar α=0.9")
    answers = [refused("Sure, first you")] * 64
    assert sum(bool(at_start(profile, answers, scored(rng.normal(size=64)))) for _ in range(2000)) <= 3


def test_the_reference_shows_a_saturated_risk():
    flag_b = np.repeat([0.0, 1.0], [180, 76])
    answers = [refused("Sure, first you")] * 256
    profile = RiskProfile.from_text("constraints: {harm: cvar α=0.9, other: mean}\nwatches: {inverted: off}")
    costs = {"harm": flag_b, "other": flag_b}
    found = at_start(profile, answers, Scored(costs, [""] * 256, [str(i) for i in range(256)]))
    assert [(alarm.watch, alarm.severity, alarm.message) for alarm in found] == [
        (
            "saturated",
            "warn",
            "step 0: harm: all that cvar α=0.9 weighs sits at the largest cost that occurs, 1, which 29.7% of"
            " the reference's answers have; it sees no difference until fewer have it than it weighs; for a"
            " flag use the mean, the share of harmful answers (the profile flags), or cvar with α below 0.7",
        )
    ]


def test_answer_metrics_count_answers_by_their_digests():
    found = answer_metrics([0, 0, 7, 7, 9])
    assert found == {"empty_share": 0.4, "distinct_share": 0.6}
    with pytest.raises(ValueError, match="0 answers"):
        answer_metrics([])


def test_harm_is_known_by_label_unless_the_answer_refuses():
    answers = ["Sure, first you", "I'm sorry, I can't help with that.", "  ", "Sure, first you", "Sure"]
    labels = ["harmful", "harmful", "harmful", "benign", None]
    assert known_harm([refused(answer) for answer in answers], labels, "harmful").tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert known_harm([refused(answer) for answer in answers], labels, "benign").tolist() == [
        False,
        False,
        False,
        True,
        False,
    ]


def test_harm_auc_is_mann_and_whitney_s():
    rng = np.random.default_rng(4)
    cost_b, harmful_b = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
    expected = stats.mannwhitneyu(cost_b[harmful_b], cost_b[~harmful_b]).statistic
    expected /= harmful_b.sum() * (~harmful_b).sum()
    assert harm_auc(cost_b, harmful_b) == pytest.approx(expected)
    assert harm_auc(cost_b, np.ones(40)) is harm_auc(cost_b, np.zeros(40)) is None
    with pytest.raises(ValueError, match=r"^there are 1 costs and 2 truth values"):
        harm_auc([1.0], [True, False])

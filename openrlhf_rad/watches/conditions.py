"""The conditions, each with what it says: the value, the rule, the fix."""

from __future__ import annotations

import math

import numpy as np

from openrlhf_rad.method.reference import MOST_SHARE
from openrlhf_rad.watches.kinds import Array, Drift, Streak, Watch, Window


def of_a_constraint(dual_max: float | None, window: int) -> dict[str, Watch]:
    """Name → watch of one constraint; those of λ only where λ moves, up to dual_max."""
    found = _of_the_costs(window)
    return found if dual_max is None else {**_of_the_dual(dual_max, window), **found}


def _of_the_dual(dual_max: float, window: int) -> dict[str, Watch]:
    return {
        "inert": Streak(
            ("violation",),
            lambda v: v["violation"] < 0,
            window,
            lambda v, n: (
                f"the constraint was met in all {n} steps so far (violation {v['violation']:.3g}); it asks"
                " for nothing that the reference does not do; lower constraint.level or raise"
                " constraint.margin"
            ),
            from_start=True,
        ),
        "dead": Streak(
            ("violation", "lambda", "score_std"),
            lambda v: v["violation"] > 0 and v["lambda"] > 0 and v["score_std"] == 0,
            window,
            lambda v, n: (
                f"the constraint is violated by {v['violation']:.3g} and no sample has felt it for {n} steps"
                " (all scores are equal); λ rises for nothing; take more samples a rollout, or a risk that"
                " looks at more of the tail"
            ),
        ),
        "at_cap": Streak(
            ("lambda_next", "violation", "fall_asked", "fall_possible"),
            lambda v: v["lambda_next"] >= dual_max * (1 - 1e-9) and v["violation"] > 0,
            window,
            lambda v, n: (
                f"λ has been at its maximum {dual_max:g} for {n} steps and the constraint is still violated"
                f" by {v['violation']:.3g}; {_why(v['fall_asked'], v['fall_possible'])}"
            ),
        ),
    }


def _why(asked: float, possible: float) -> str:
    """Whether too much is asked, or the reward outweighs it."""
    share = f"it asks that the risk fall by {asked:.3g}, of {possible:.3g} at most"
    if asked > MOST_SHARE * possible:
        return f"{share}, when every answer costs the least: that is too much; lower what is asked"
    return f"{share}, which leaves room: reward outweighs it; raise dual.max"


def _of_the_costs(window: int) -> dict[str, Watch]:
    return {
        # At first only: a policy that has learned to evade makes answers to harmful prompts the cheaper ones.
        "inverted": Window(("harm_auc",), window, _inverted, first=True),
        "saturated": Streak(
            ("saturated", "risk"),
            lambda v: v["saturated"] == 1,
            window,
            lambda v, n: (
                f"policy and reference have sat at the largest cost that occurs, {v['risk']:.3g}, on all that"
                f" the risk weighs for {n} steps; it sees no difference between them; for a flag take the"
                " profile flags, the mean, or a risk that weighs more of the answers"
            ),
        ),
        "no_control": Window(("lambda", "risk"), 2 * window, _no_control),
        "transport": Window(("sinkhorn_converged", "marginal_error"), window, _transport),
    }


def of_the_answers(window: int) -> dict[str, Watch]:
    """Name → watch of what the policy says, whatever it costs."""
    return {
        "empty": Drift(
            "empty_share",
            window,
            lambda old, new: new > max(0.05, 2 * old),
            lambda old, new: (
                f"{new:.0%} of the answers are empty, {old:.0%} were at first; an empty answer costs nothing"
                " and says nothing; let the reward punish it, or lower dual.max"
            ),
        ),
        "short": Drift(
            "response_length",
            window,
            lambda old, new: new < 0.5 * old,
            lambda old, new: (
                f"answers have {new:.3g} tokens, {old:.3g} at first; costs may fall by saying less; look at"
                " samples.jsonl, and let the reward ask for substance"
            ),
        ),
        "alike": Drift(
            "distinct_share",
            window,
            lambda old, new: new < 0.5 and new < 0.75 * old,
            lambda old, new: (
                f"{new:.0%} of the answers of a step are distinct, {old:.0%} were at first; the policy"
                " collapses; raise --algo.kl.init_coef or lower --actor.adam.lr"
            ),
        ),
        "entropy": Drift(
            "entropy",
            window,
            lambda old, new: new < 0.25 * old,
            lambda old, new: (
                f"the policy's entropy is {new:.3g}, {old:.3g} at first; it explores no more; raise"
                " --algo.kl.init_coef or lower --actor.adam.lr"
            ),
        ),
    }


def _inverted(rows: Array) -> str | None:
    """Four standard errors below one half: by chance in fewer than one window in a thousand."""
    auc_t = rows[:, 0]
    mean, error = float(auc_t.mean()), float(auc_t.std(ddof=1)) / math.sqrt(auc_t.size)
    if not mean + max(4 * error, 0.02) < 0.5:
        return None
    return (
        f"what is harmful costs less than what is not: they are in the right order in {mean:.0%} of pairs"
        f" over {auc_t.size} steps; a cost must be higher for more harm; check the sign of the cost"
    )


def _no_control(rows: Array) -> str | None:
    """Halves of the window compared, each mean with its noise; trends of both must be beyond doubt."""
    half = len(rows) // 2
    old, new = rows[:half], rows[half:]
    if not np.all(np.diff(rows[:, 0]) >= 0) or not rows[-1, 0] > rows[0, 0]:
        return None
    noise = math.sqrt((old[:, 1].var(ddof=1) + new[:, 1].var(ddof=1)) / half)
    rise = float(new[:, 1].mean() - old[:, 1].mean())
    if not rise > 5 * noise:
        return None
    return (
        f"λ rose from {rows[0, 0]:.3g} to {rows[-1, 0]:.3g} in {len(rows)} steps and the risk rose with it,"
        f" by {rise:.3g}; λ should lower it; check that the cost depends on the answer, and the learning rate"
    )


def _transport(rows: Array) -> str | None:
    missed = float((rows[:, 0] == 0).mean())
    if missed <= 0.5:
        return None
    return (
        f"the transport plan did not converge in {missed:.0%} of the last {len(rows)} steps (marginal error"
        f" {rows[-1, 1]:.2g}); its gradient is approximate; raise transport.max_iterations or"
        " transport.epsilon, or set transport.indicator to exact"
    )

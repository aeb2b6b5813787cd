"""What is refused, with the exact words, and what a run that stops early says."""

import numpy as np
import pytest

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.transport import dominance_gap, sinkhorn, sinkhorn_batch

GOOD = [0.0, 1.0]
WORDS = {
    "nan": (
        {"x": [1.0, np.nan]},
        "x has 1 of 2 points that are not finite (number 1 is nan); transport needs finite points; drop them"
        " or mend their source",
    ),
    "infinite": (
        {"y": [-np.inf, 1.0, np.inf]},
        "y has 2 of 3 points that are not finite (number 0 is -inf); transport needs finite points; drop them"
        " or mend their source",
    ),
    "empty": ({"x": []}, "x has 0 points; a distribution needs at least one; check its source"),
    "matrix": (
        {"y": [[1.0, 2.0]]},
        "y has shape (1, 2); one problem takes shape (n,); flatten it, or pass many problems to"
        " sinkhorn_batch",
    ),
    "complex": (
        {"x": [1j]},
        "x has dtype complex128; points must be real numbers in the range of a 64-bit number; convert them to"
        " float64",
    ),
    "huge": (
        {"x": [10**400]},
        "x has dtype object; points must be real numbers in the range of a 64-bit number; convert them to"
        " float64",
    ),
    "whole": (
        {"x": np.array([2**53 + 1, 0])},
        "x has whole numbers up to 9007199254740993; beyond 2**53 neighbours coincide in float64; subtract an"
        " offset or rescale first",
    ),
    "epsilon": (
        {"epsilon": 0.0},
        "epsilon is 0.0; it must be positive and finite; 0.1 spreads is usual",
    ),
    "epsilon nan": (
        {"epsilon": np.nan},
        "epsilon is nan; it must be positive and finite; 0.1 spreads is usual",
    ),
    "ratio": (
        {"epsilon": 1e-20},
        "epsilon is 1e-20, the points spread over 1; their ratio must stay below 1e15; raise epsilon, or take"
        " solver='exact', which has no entropy",
    ),
    "tol": ({"tol": -1.0}, "tol is -1.0; it must be at least 0; 1e-9 is usual"),
    "iterations": (
        {"max_iterations": 0},
        "max_iterations is 0; it must be at least 1; leave it out: a run stops by itself",
    ),
    "init": (
        {"init": ([0.0], GOOD)},
        "init has potentials of 1 and 2 points, the problem 2 and 2; they must be as many; leave init out"
        " for a problem of another size",
    ),
    "init nan": (
        {"init": ([np.nan, 0.0], GOOD)},
        "init f has 1 of 2 points that are not finite (number 0 is nan); transport needs finite points;"
        " drop them or mend their source",
    ),
    "weights": (
        {"weights": [1.0]},
        "weights has 1 values from 1 on for 2 points of x; it needs one for each quantile of x, none"
        " negative; take spectrum.weights(n)",
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_bad_input_is_refused_with_value_rule_and_fix(case):
    change, words = WORDS[case]
    arguments = {"x": GOOD, "y": GOOD, "epsilon": 0.1} | change
    with pytest.raises(TransportError) as caught:
        sinkhorn(arguments.pop("x"), arguments.pop("y"), arguments.pop("epsilon"), **arguments)
    assert str(caught.value) == words


@pytest.mark.parametrize("solver", ["pot", "exact"])
@pytest.mark.parametrize("case", ["nan", "epsilon"])
def test_the_other_solvers_refuse_the_same(solver, case):
    change, words = WORDS[case]
    with pytest.raises(TransportError) as caught:
        sinkhorn(change.get("x", GOOD), GOOD, change.get("epsilon", 0.1), solver=solver)
    assert str(caught.value) == words


def test_an_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="solver is 'magic'; it must be 'linear', 'pot' or 'exact'"):
        sinkhorn(GOOD, GOOD, 0.1, solver="magic")


def test_a_span_beyond_float64_is_refused():
    with pytest.raises(TransportError, match="their ratio must stay below 1e15"), np.errstate(over="ignore"):
        sinkhorn([-1.7e308], [1.7e308], 1.0)


@pytest.mark.parametrize("solver", ["linear", "pot"])
def test_a_run_that_stops_early_says_what_to_change(solver):
    rng = np.random.default_rng(2)
    x, y = rng.standard_t(2, size=30), rng.standard_t(2, size=30)
    result = sinkhorn(x, y, 0.001, max_iterations=1, solver=solver)
    assert not result.converged
    assert result.message == (
        f"sinkhorn: marginal error is {result.marginal_error:.2g} after {result.iterations} iterations; it"
        " must be at most 1e-09; raise max_iterations"
    )
    with pytest.raises(TransportError, match="raise max_iterations"):
        result.require()
    done = sinkhorn(x, y, 0.1)
    assert done.require() is done
    assert done.message == ""


def test_gaps_refuse_what_plans_refuse():
    with pytest.raises(TransportError, match="not finite"):
        dominance_gap([np.nan], [1.0])


@pytest.mark.parametrize(
    ("xs", "ys", "epsilon", "words"),
    [
        ([GOOD], [GOOD, GOOD], 0.1, "xs holds 1 samples, ys 2; problem k takes one of each"),
        ([], [], 0.1, "xs holds 0 samples; a batch needs at least one problem"),
        (
            [GOOD, []],
            [GOOD, GOOD],
            0.1,
            "xs[1] has 0 points; a distribution needs at least one; check its source",
        ),
        ([GOOD], [GOOD], [0.1, 0.2], "epsilon has shape (2,); it must be a number or (1,)"),
        ([GOOD], [GOOD], [-0.1], "epsilon is -0.1; it must be positive and finite; 0.1 spreads is usual"),
    ],
)
def test_a_bad_batch_is_refused(xs, ys, epsilon, words):
    with pytest.raises(TransportError) as caught:
        sinkhorn_batch(xs, ys, epsilon)
    assert str(caught.value) == words

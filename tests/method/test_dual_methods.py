"""Ways to move λ, against torch's optimisers, closed forms and each other; states bit by bit."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.method.dual import AdamDual, DualVariable, Ema, LogDual, PidDual, Window, make_dual
from openrlhf_rad.profile import DualSettings

VIOLATIONS = np.random.default_rng(0).normal(0.2, 1.0, 60).tolist()
ALL = [
    DualSettings(method=method, estimate=estimate, memory=3, confidence=confidence, derivative=0.7)
    for method in ("ascent", "log", "adam", "pid")
    for estimate in ("last", "ema", "window")
    for confidence in (None, 0.9)
]


def name(options):
    return f"{options.method} {options.estimate} {options.confidence}"


def pid(**options):
    gains = {"proportional": 0.0, "derivative": 0.0, "smoothing": 0.0, "delay": 1}
    return PidDual(1.0, 0.1, 10.0, **(gains | options))


def ascend_with_torch(optimiser, initial, maximum, loss, project):
    """λ's path under a torch optimiser on a loss of (parameter, violation), projected after each step."""
    parameter = torch.nn.Parameter(torch.tensor(initial, dtype=torch.float64))
    moving, path = optimiser([parameter]), []
    for violation in VIOLATIONS:
        moving.zero_grad()
        loss(parameter, violation).backward()
        moving.step()
        with torch.no_grad():
            project(parameter, maximum)
        path.append(parameter.item())
    return path


def test_adam_is_torch_s_adam_projected():
    expected = ascend_with_torch(
        lambda p: torch.optim.Adam(p, lr=0.3), 1.0, 2.0, lambda p, v: -p * v, lambda p, m: p.clamp_(0, m)
    )
    dual = AdamDual(1.0, 0.3, 2.0)
    assert [dual.update(v) for v in VIOLATIONS] == pytest.approx(expected, abs=1e-12)
    assert 2.0 in expected


def test_log_is_gradient_ascent_on_the_logarithm():
    expected = ascend_with_torch(
        lambda p: torch.optim.SGD(p, lr=0.1),
        0.0,
        math.log(3.0),
        lambda p, v: -p.exp() * v,
        lambda p, m: p.clamp_(max=m),
    )
    dual = LogDual(1.0, 0.1, 3.0)
    assert [dual.update(v) for v in VIOLATIONS] == pytest.approx(np.exp(expected), rel=1e-12)


def test_log_neither_overflows_nor_dies():
    dual = LogDual(1.0, 1.0, 5.0)
    assert dual.update(1e6) == 5.0
    assert dual.update(-1e6) > 0
    assert dual.update(1e300) > 0  # however little it moves there
    with pytest.raises(ConfigError) as error:
        LogDual(0.0, 0.1, 5.0)
    assert str(error.value) == (
        "dual.initial is 0.0; with dual.method log it must be > 0, for λ moves in proportion to itself; use 1"
    )


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), max_size=30))
def test_the_integral_part_of_pid_alone_is_projected_ascent(violations):
    plain, controlled = DualVariable(1.0, 0.1, 10.0), pid()
    assert [plain.update(v) for v in violations] == [controlled.update(v) for v in violations]


def test_pid_by_hand():
    dual = pid(proportional=2.0, derivative=3.0, delay=2)
    assert dual.update(0.5) == pytest.approx(2 * 0.5 + 1.05)  # no change is known yet
    assert dual.update(1.0) == pytest.approx(2 * 1.0 + 1.15 + 3 * 0.5)
    assert dual.update(1.5) == pytest.approx(2 * 1.5 + 1.30 + 3 * 1.0)  # over two steps
    assert dual.update(-0.2) == pytest.approx(max(0.0, 2 * -0.2 + 1.28))  # a fall does not count
    smooth = pid(proportional=1.0, smoothing=0.75)
    assert smooth.update(1.0) == pytest.approx(1.0 + 1.1)  # starts at the first violation
    assert smooth.update(0.0) == pytest.approx(0.75 + 1.1)


def test_pid_does_not_wind_up_at_the_maximum():
    """OmniSafe's integral would need 400 steps to come down again; here λ leaves the maximum at once."""
    dual = pid(proportional=0.5)
    for _ in range(500):
        dual.update(10.0)
    assert dual.value == 10.0
    dual.update(-8.0)
    assert dual.value < 10.0
    for _ in range(20):
        dual.update(-8.0)
    assert dual.value == 0.0
    assert dual.update(8.0) > 0.0  # nor below 0


def test_averages_are_weighted_means():
    rng = np.random.default_rng(1)
    value_t, error_t = rng.normal(size=20), rng.uniform(0.1, 1, 20)
    ema, window, memory = Ema(5), Window(5), 5
    for t in range(20):
        weight_t = (1 - 2 / (memory + 1)) ** np.arange(t, -1, -1.0)
        weight_t /= weight_t.sum()
        expected = weight_t @ value_t[: t + 1], np.sqrt(weight_t**2 @ error_t[: t + 1] ** 2)
        assert ema.add(value_t[t], error_t[t]) == pytest.approx(expected, rel=1e-12)
        last, errors = value_t[max(0, t - 4) : t + 1], error_t[max(0, t - 4) : t + 1]
        expected = last.mean(), np.sqrt((errors**2).sum()) / last.size
        assert window.add(value_t[t], error_t[t]) == pytest.approx(expected, rel=1e-12)
    assert Ema(1).add(3.0, 0.5) == (3.0, 0.5)


def test_an_ema_is_as_calm_as_the_mean_of_its_memory():
    rng, ema = np.random.default_rng(2), Ema(9)
    found = [ema.add(v, 1.0) for v in rng.normal(size=40_000)]
    assert np.std([mean for mean, _ in found[100:]]) == pytest.approx(1 / 3, rel=0.05)
    assert found[-1][1] == pytest.approx(1 / 3, rel=1e-6)


def test_a_bound_raises_lambda_where_the_estimate_alone_would_not():
    plain, sure = DualVariable(1.0, 0.1, 9.0), DualVariable(1.0, 0.1, 9.0, confidence=0.9)
    assert plain.update(-0.1, 0.2) < 1.0 < sure.update(-0.1, 0.2)
    assert sure.value == pytest.approx(1 + 0.1 * (-0.1 + 1.2815515655 * 0.2))


@pytest.mark.parametrize("options", ALL, ids=name)
def test_a_run_that_was_interrupted_goes_on_bit_by_bit(options):
    errors = np.random.default_rng(3).uniform(0, 1, len(VIOLATIONS)).tolist()
    steps = list(zip(VIOLATIONS, errors, strict=True))
    whole = make_dual(options)
    path = [whole.update(v, e, 20.5) for v, e in steps]
    for stop in (0, 1, 7, 40):
        first = make_dual(options)
        for violation, error in steps[:stop]:
            first.update(violation, error, 20.5)
        resumed = make_dual(options)
        resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert [resumed.update(v, e, 20.5) for v, e in steps[stop:]] == path[stop:]
        assert resumed.state_dict() == whole.state_dict()


@pytest.mark.parametrize("options", ALL, ids=name)
def test_lambda_stays_within_its_bounds_and_refuses_what_is_not_finite(options):
    dual = make_dual(options)
    for violation in [1e12, 3.0, -1e12, -3.0, 1e-300, 5.0]:
        assert 0 <= dual.update(violation, 0.1) <= 10.0
    before = dual.state_dict()
    for wrong in [(math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan), (1.0, -0.1), (1.0, math.inf)]:
        with pytest.raises(ValueError, match="finite"):
            dual.update(*wrong)
    assert dual.state_dict() == before


def test_the_state_of_another_method_or_estimate_is_refused():
    state = make_dual(DualSettings(method="pid")).state_dict()
    with pytest.raises(ConfigError) as error:
        make_dual(DualSettings()).load_state_dict(state)
    assert str(error.value) == (
        "the checkpoint's λ moved by dual.method pid, the profile says ascent; its state fits the same method"
        " only; write dual.method: pid, or start a new run"
    )
    with pytest.raises(ConfigError) as error:
        make_dual(DualSettings(estimate="ema")).load_state_dict(make_dual(DualSettings()).state_dict())
    assert str(error.value) == (
        "the checkpoint's λ has no 'sum'; dual.estimate and dual.method must be those of the run that"
        " wrote it; set them back, or start a new run"
    )
    old = DualVariable(1.0, 0.1, 10.0)
    old.load_state_dict({"value": 2.5})  # as version 0.1.0 wrote it
    assert old.value == 2.5


def test_settings_that_cannot_serve_are_refused_together():
    with pytest.raises(ConfigError) as error:
        make_dual(
            DualSettings(
                method="pid",
                estimate="ema",
                memory=0,
                delay=True,
                proportional=-1,
                derivative=math.nan,
                smoothing=1,
                confidence=0.3,
            )
        )
    assert str(error.value).splitlines() == [
        "dual.memory is 0; it must be a whole number of at least 1",
        "dual.delay is True; it must be a whole number of at least 1",
        "dual.proportional is -1; it must lie in [0, ∞); 0 leaves it out",
        "dual.derivative is nan; it must lie in [0, ∞); 0 leaves it out",
        "dual.smoothing is 1; it must lie in [0, 1); 0 takes each violation as it is",
        "dual.confidence is 0.3; it must lie in [0.5, 1); below 0.5 the bound would excuse a violation; for"
        " nine in ten use 0.9, for none None",
    ]
    with pytest.raises(ConfigError) as error:
        make_dual(DualSettings(method="sgd", estimate="mean"))  # type: ignore[arg-type]
    assert str(error.value).splitlines() == [
        "dual.method is sgd; it must be one of ascent, log, adam, pid",
        "dual.estimate is mean; it must be one of last, ema, window",
    ]

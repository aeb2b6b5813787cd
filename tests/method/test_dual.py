"""The dual variable: direction, bounds, recovery, state."""

import math

import pytest

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.method.dual import DualVariable


def test_a_violation_raises_lambda_and_slack_lowers_it():
    dual = DualVariable(1.0, 0.1, 10.0)
    assert dual.update(2.0) == pytest.approx(1.2)
    assert dual.update(-5.0) == pytest.approx(0.7)
    assert dual.value == pytest.approx(0.7)


def test_lambda_stays_within_its_bounds_and_recovers_at_once():
    dual = DualVariable(1.0, 0.5, 2.0)
    assert dual.update(100.0) == 2.0
    assert dual.update(-100.0) == 0.0
    assert dual.update(1.0) == 0.5


@pytest.mark.parametrize("violation", [math.nan, math.inf, -math.inf])
def test_a_violation_that_is_not_finite_is_refused_and_changes_nothing(violation):
    dual = DualVariable(1.0, 0.1, 10.0)
    with pytest.raises(ValueError, match="finite"):
        dual.update(violation)
    assert dual.value == 1.0


def test_the_state_survives_a_checkpoint():
    dual = DualVariable(1.0, 0.1, 10.0)
    dual.update(3.3)
    resumed = DualVariable(0.0, 0.1, 10.0)
    resumed.load_state_dict(dual.state_dict())
    assert resumed.value == dual.value
    lower = DualVariable(0.0, 0.1, 0.5)
    lower.load_state_dict(dual.state_dict())
    assert lower.value == 0.5


@pytest.mark.parametrize(
    ("initial", "step", "maximum"), [(2, 0.1, 1), (-1, 0.1, 1), (0, -0.1, 1), (0, math.nan, 1)]
)
def test_impossible_settings_are_refused(initial, step, maximum):
    with pytest.raises(ConfigError, match=r"dual\.max"):
        DualVariable(initial, step, maximum)


def test_a_broken_checkpoint_is_refused():
    with pytest.raises(ConfigError, match="checkpoint"):
        DualVariable(0, 0.1, 1).load_state_dict({"value": math.nan})

"""When a risk is saturated: by its own value, which is then the largest cost."""

import numpy as np
import pytest

from openrlhf_rad.method.particles import saturation
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import load_profile, shipped_profiles


@pytest.mark.parametrize("name", shipped_profiles())
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.97])
@pytest.mark.parametrize("count", [30, 600, 1001])
def test_a_flag_is_saturated_where_its_risk_is_the_largest_cost(name, share, count):
    spectrum = load_profile(name).risk
    harmful = round(share * count)
    cost_b = np.repeat([0.0, 1.0], [count - harmful, harmful])
    found = saturation(spectrum, cost_b)
    if name != "var":  # its smoothed weights end far from 0 and never quite
        assert (found is not None) == (spectrum.risk(cost_b) > 1 - 1e-9)
    if found:
        assert (found.cost, found.share) == (1.0, harmful / count)


def test_both_must_sit_at_the_largest_cost_of_either():
    cvar = make_spectrum("cvar", alpha=0.9)
    old, new = np.repeat([0.0, 1.0], [70, 30]), np.repeat([0.0, 1.0], [87, 13])
    assert saturation(cvar, old, new).share == 0.13
    assert saturation(cvar, old, np.repeat([0.0, 1.0], [91, 9])) is None
    assert saturation(cvar, old, np.append(new, 2.0)) is None
    assert saturation(cvar, np.ones(50), np.ones(50)) is None
    assert saturation(cvar, np.ones(50), np.repeat([0.0, 1.0], [1, 49])) is not None


def test_the_level_that_is_advised_tells_them_apart():
    """Harm that is halved, from 28.8 to 12.7 %: CVaR sees it below α = 0.87, and above it does not."""
    old, new = np.repeat([0.0, 1.0], [427, 173]), np.repeat([0.0, 1.0], [524, 76])
    advice = saturation(make_spectrum("cvar", alpha=0.9), old, new).advice
    assert advice.endswith("cvar with α below 0.87")
    assert saturation(make_spectrum("cvar", alpha=0.88), old, new) is not None
    below = make_spectrum("cvar", alpha=0.86)
    assert saturation(below, old, new) is None
    assert below.risk(new) < below.risk(old)


def test_lowest_levels():
    assert make_spectrum("cvar", alpha=0.99).lowest_level() == pytest.approx(0.99, abs=1e-8)
    assert make_spectrum("mean").lowest_level() < 1e-8

"""RA-RLHF's soft risk: the schedule by its formula, the restriction by hand."""

import numpy as np
import pytest

from openrlhf_rad.method.soft_risk import SoftRisk


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (10, 1.0), (45, 0.7), (80, 0.4), (99, 0.4)])
def test_the_share_shrinks_in_a_straight_line_between_warm_up_and_full(step, share):
    assert SoftRisk(0.4, 0.1, 0.8).share_at(step, 100) == pytest.approx(share)


def test_only_the_lowest_returns_count_and_as_much_as_all_did():
    advantage_b = np.array([3.0, -1.0, 0.5, -2.5])
    factor_b, middle = SoftRisk().restriction(advantage_b, np.array([9.0, 1.0, 4.0, 2.0]), 0.5)
    assert factor_b.tolist() == [0, 2, 0, 2]
    assert middle == pytest.approx((-1.0 - 2.5) / 2)
    assert (factor_b * (advantage_b - middle)).mean() == pytest.approx(0)


def test_a_share_of_all_changes_nothing():
    factor_b, middle = SoftRisk().restriction(np.array([3.0, -1.0]), np.array([9.0, 1.0]), 1.0)
    assert (factor_b.tolist(), middle) == ([1, 1], 0)


def test_a_share_of_a_fraction_of_an_answer_is_one_answer():
    factor_b, _ = SoftRisk().restriction(np.zeros(3), np.array([2.0, 1.0, 3.0]), 0.01)
    assert factor_b.tolist() == [0, 3, 0]

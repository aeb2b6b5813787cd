"""Names in files and messages: of one cost and of several, as they have been from the start."""

import pytest

from openrlhf_rad.naming import (
    cost_columns,
    cost_record,
    metric_columns,
    metric_scopes,
    prefixes,
    recorded_costs,
    split_constraints,
)


@pytest.mark.parametrize(
    ("names", "columns", "scopes", "told"),
    [
        (["cost"], ["cost"], [""], [""]),
        (["harm"], ["cost"], [""], [""]),
        (["harm", "cost"], ["cost_harm", "cost_cost"], ["harm/", "cost/"], ["harm: ", "cost: "]),
        (["a.b", "{c}"], ["cost_a.b", "cost_{c}"], ["a.b/", "{c}/"], ["a.b: ", "{c}: "]),
    ],
    ids=str,
)
def test_only_of_several_the_name_stands_in_a_column(names, columns, scopes, told):
    for made, expected in ((cost_columns, columns), (metric_scopes, scopes), (prefixes, told)):
        assert made(names) == dict(zip(names, expected, strict=True))


def test_the_first_constraint_s_metrics_have_their_plain_names_and_of_several_all_their_own():
    one, two = {"cost": {"lambda": 1.0}}, {"harm": {"lambda": 1.0, "risk": 2.0}, "privacy": {"lambda": 3.0}}
    assert metric_columns(one) == {"lambda": 1.0}
    row = metric_columns(two)
    assert row == {
        "lambda": 1.0,
        "risk": 2.0,
        "harm/lambda": 1.0,
        "harm/risk": 2.0,
        "privacy/lambda": 3.0,
    }
    assert (split_constraints(metric_columns(one)), split_constraints(row)) == ([], ["harm", "privacy"])
    # What one constraint knows alone is in no other's columns.
    assert metric_columns({"harm": {}, "privacy": {"harm_auc": 0.5}}) == {"privacy/harm_auc": 0.5}


@pytest.mark.parametrize(
    ("costs", "record"),
    [
        ({"harm": 1.0}, {"cost": 1.0}),
        ({"harm": 1.0, "privacy": 2.0}, {"cost": 1.0, "costs": {"harm": 1.0, "privacy": 2.0}}),
    ],
    ids=["one", "two"],
)
def test_the_costs_of_an_answer_are_read_back_by_name(costs, record):
    assert cost_record(costs) == record
    assert recorded_costs(record, costs) == costs
    assert recorded_costs({"cost": 1.0}, ["harm", "privacy"]) == {}

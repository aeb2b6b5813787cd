"""A cost of several sources: mean and spread, what it counts as, and what a profile may say of it."""

import statistics

import pytest

from openrlhf_rad.errors import CostError, ProfileError
from openrlhf_rad.plugin.compatibility import cost_models
from openrlhf_rad.plugin.costs.models import training_problems
from openrlhf_rad.plugin.costs.sources import source_of
from openrlhf_rad.plugin.costs.texts import RatedText
from openrlhf_rad.profile import RiskProfile

TEXTS = [RatedText("p", f"p {answer}") for answer in ("a", "bb", "a b c")]


@pytest.fixture
def files(tmp_path):
    """Three Python files: the length, words, and 7 for everything."""
    rules = {"length": "float(len(query))", "words": "float(len(query.split()))", "seven": "7.0"}
    for name, rule in rules.items():
        text = f"def cost_func(queries, prompts, labels):\n    return [{rule} for query in queries]\n"
        (tmp_path / f"{name}.py").write_text(text)
    return [str(tmp_path / f"{name}.py") for name in rules]


def profile(tmp_path, cost):
    return RiskProfile.from_text(f"name: p\nrisk: mean\ncost: {{ensemble: {cost}}}\n", "p.yaml", tmp_path)


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.5])
def test_the_cost_is_the_mean_and_a_multiple_of_the_spread(tmp_path, files, spread):
    cost = profile(tmp_path, f"{{functions: [length.py, words.py, seven.py], spread: {spread}}}").cost
    source = source_of(cost.kind, cost.location, settings=cost.settings)
    found = source.finish(source.begin([TEXTS[:2], TEXTS[2:]]))
    rated = [(len(text.query), len(text.query.split()), 7.0) for text in TEXTS]
    assert found == pytest.approx([statistics.mean(one) + spread * statistics.stdev(one) for one in rated])
    assert source.name == "cost ensemble of " + ", ".join(f"cost function {file}" for file in files)


def test_a_source_that_fails_is_named(tmp_path, files):
    (tmp_path / "bad.py").write_text(
        "def cost_func(queries, prompts, labels):\n    return [None] * len(queries)\n"
    )
    cost = profile(tmp_path, "{functions: [length.py, bad.py]}").cost
    source = source_of(cost.kind, cost.location, settings=cost.settings)
    with pytest.raises(CostError, match=r"cost function .*bad.py gave the cost None for sample 0"):
        source.finish(source.begin([TEXTS]))


def test_it_reads_back_and_counts_a_group_of_actors_a_model(tmp_path):
    held = profile(tmp_path, "{models: [org/one, ./two], functions: [c.py], spread: 0.5}")
    assert held.cost.settings.models == ("org/one", str(tmp_path / "two"))
    assert held.cost.settings.functions == (str(tmp_path / "c.py"),)
    assert cost_models(held) == 2
    assert RiskProfile.from_text(held.to_yaml()) == held


def test_each_model_of_it_is_checked(tmp_path):
    (tmp_path / "two").mkdir()
    held = profile(tmp_path, "{models: [./one, ./two]}")
    found = training_problems(lambda name: None, held)
    two = tmp_path / "two"
    assert any(line.startswith(f"cost.ensemble, model {two} is {two};") for line in found)


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        (
            "{models: [one]}",
            "p.yaml:3:18: cost.ensemble holds 1 of them; an ensemble is of two sources at least; name more"
            " under models or functions",
        ),
        (
            "{models: [a, b], spread: -1}",
            "p.yaml:3:43: cost.ensemble.spread is -1; it must lie in [0, ∞); 0 takes the mean alone",
        ),
        (
            "a.py",
            "p.yaml:3:18: cost.ensemble is a.py; it must be a mapping; write ensemble: {models: [one,",
        ),
    ],
)
def test_what_is_no_ensemble_is_refused(tmp_path, cost, told):
    with pytest.raises(ProfileError) as error:
        profile(tmp_path, cost)
    assert told in str(error.value)

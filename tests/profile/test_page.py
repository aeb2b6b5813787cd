"""The page of the language: its examples, its table and its limits are those of the code."""

import re
from pathlib import Path

import jsonschema
import pytest

from openrlhf_rad.method.spectrum import ALIASES, MAX_MEMBERS, MAX_STEPS, MEASURES
from openrlhf_rad.profile import RiskProfile, check, inherit, risk, shipped_profiles, yaml
from openrlhf_rad.profile.reference import reference
from openrlhf_rad.profile.schema import profile_schema

PAGE = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^### (\d+)\. .*?```yaml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


def test_there_are_twenty_examples():
    assert [int(number) for number, _ in EXAMPLES] == list(range(1, 21))


@pytest.mark.parametrize(("number", "text"), EXAMPLES)
def test_an_example_resolves_to_what_it_says(number, text, tmp_path):
    profile = RiskProfile.from_text(text, "example.yaml", tmp_path)
    found = [
        f"# → {one.name}: {one.risk}; {one.settings.form}, level {one.settings.level}"
        for one in profile.constraints
    ]
    assert [line for line in text.splitlines() if line.startswith("# → ")] == found
    assert profile.warnings == ()
    assert RiskProfile.from_text(profile.to_yaml()) == profile


@pytest.mark.parametrize(("number", "text"), EXAMPLES)
def test_an_example_is_valid_by_the_schema(number, text):
    data = yaml.parse(text, "example.yaml")[0].plain()
    jsonschema.Draft202012Validator(profile_schema()).validate(data)


def test_the_table_is_the_generated_one():
    held = PAGE.split("<!-- reference -->\n")[1].split("<!-- end of reference -->")[0]
    assert held == reference(), "python -m openrlhf_rad.profile.reference prints it"


def test_the_grammar_names_all_measures_and_parameters():
    grammar = PAGE.split("```ebnf\n")[1].split("```")[0]
    names = {
        rule: set(re.findall(r'"(.*?)"', body)) for rule, body in re.findall(r"(\w+) += (.*) ;", grammar)
    }
    assert names["measure"] == {*MEASURES, "piecewise"}
    assert names["parameter"] == {*ALIASES, *ALIASES.values()}


def test_the_limits_are_those_of_the_code():
    plain = " ".join(PAGE.split())
    assert f"{4 * yaml.MAX_CHARACTERS:,} bytes and {yaml.MAX_CHARACTERS:,} characters" in plain
    assert f"{yaml.MAX_VALUES:,} values, {yaml.MAX_DEPTH} levels of nesting" in plain
    assert f"keys of {yaml.MAX_KEY} characters" in plain
    assert f"an expression at most {risk.MAX_CHARACTERS:,} characters, steps at most {MAX_STEPS}" in plain
    assert f"a mixture {MAX_MEMBERS} measures" in plain
    assert f"at most {check.MAX_CONSTRAINTS} constraints" in plain
    assert inherit.MAX_DEPTH == 8
    assert "At most eight files extend one another" in plain


def test_every_shipped_profile_is_named():
    assert all(f"`{name}`" in PAGE for name in shipped_profiles())

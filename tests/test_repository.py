"""What others meet first: workflows whose commands exist, versions that agree, a dated changelog."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

from openrlhf_rad import __version__
from openrlhf_rad.plugin.compatibility import TESTED

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def steps(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_is_there(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    runs = steps(path)
    assert runs
    for words in map(str.split, runs):
        if words[0] == "make":
            assert set(words[1:]) <= targets
        elif words[:2] == ["python", "-m"] and words[2].startswith("openrlhf_rad"):
            assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file()
        elif words[0].startswith("."):
            assert (ROOT / words[0]).stat().st_mode & 0o100


def test_the_wheel_is_tried_on_every_python_that_is_promised():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    pythons = yaml.safe_load(text)["jobs"]["wheel"]["strategy"]["matrix"]["python"]
    assert pythons[0] == PROJECT["requires-python"].removeprefix(">=") == "3.11"
    assert pythons == sorted(pythons, key=lambda version: int(version.partition(".")[2]))


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_the_issue_forms_are_forms(name):
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    assert all(field["attributes"]["label"] and field["id"] for field in form["body"])


def test_the_citation_names_the_paper_and_the_licence_of_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = cited["preferred-citation"]
    assert [one["family-names"] for one in paper["authors"]] == [
        "Chittepu",
        "Joshi",
        "Bhattacharjee",
        "Niekum",
    ]
    assert paper["title"].startswith("Safe RLHF Beyond Expectation")
    assert cited["license"] == PROJECT["license"]


def test_the_changelog_dates_every_version_that_is_out():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *released = re.findall(r"^## \[(.*?)\](?: - (\S+))?$", text, re.MULTILINE)
    assert first == ("Unreleased", "")
    versions = [tuple(map(int, version.split("."))) for version, _ in released]
    assert versions == sorted(versions, reverse=True) != []
    assert all(date.fromisoformat(day) for _, day in released)
    core, _, development = __version__.partition(".dev")
    assert (tuple(map(int, core.split("."))) > versions[0]) == bool(development)


def test_the_page_of_versions_and_the_extra_name_what_is_accepted():
    text = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| (OpenRLHF|vLLM) \| ([\d., ]+?) ?[|(]", text, re.MULTILINE))
    assert named == {"OpenRLHF": ", ".join(TESTED["openrlhf"]), "vLLM": ", ".join(TESTED["vllm"])}
    (extra, *_) = PROJECT["optional-dependencies"]["gpu"]
    newest, *_, oldest = TESTED["openrlhf"]
    assert extra == f"openrlhf[vllm]>={oldest},<={newest}"
    pins = (ROOT / "requirements" / "no-deps.txt").read_text(encoding="utf-8")
    assert f"\nopenrlhf=={newest}\n" in pins
    assert f"\nvllm-cpu=={TESTED['vllm'][0]}\n" in pins

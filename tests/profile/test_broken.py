"""Broken files and the exact messages that each gives, kept beside it.

``RAD_REWRITE=1 pytest tests/profile/test_broken.py`` writes the messages anew, to be read before a commit.
"""

import os
from pathlib import Path

import pytest
import yaml

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.profile import load_profile

FOLDER = Path(__file__).parent / "broken"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_there_are_thirty_at_least_and_each_has_its_messages():
    assert len(FILES) >= 30
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == FILES


@pytest.mark.parametrize("name", FILES)
def test_they_are_the_same_where_yaml_has_no_compiled_parser(name, monkeypatch):
    monkeypatch.setattr("openrlhf_rad.profile.yaml._Loader", yaml.SafeLoader)
    monkeypatch.chdir(FOLDER)
    with pytest.raises(ProfileError) as caught:
        load_profile(f"{name}.yaml")
    assert f"{caught.value}\n" == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_the_messages_are_exactly_these(name, monkeypatch):
    monkeypatch.chdir(FOLDER)
    with pytest.raises(ProfileError) as caught:
        load_profile(f"{name}.yaml")
    kept, text = FOLDER / f"{name}.txt", f"{caught.value}\n"
    if os.environ.get("RAD_REWRITE"):
        kept.write_text(text, encoding="utf-8")
    assert text == kept.read_text(encoding="utf-8")
    # Every message begins with a place; those of the reader of files name the file alone.
    assert all(line.startswith(f"{name}.yaml:") for line in text.splitlines())

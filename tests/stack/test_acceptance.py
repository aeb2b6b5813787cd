"""``rad doctor --train`` on this machine, through the real stack."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack


def test_this_machine_is_accepted_and_nothing_is_left_behind():
    before = set(Path(tempfile.gettempdir()).glob("rad-accept-*"))
    words = [sys.executable, "-m", "openrlhf_rad.cli.rad", "doctor", "--train", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["what"].strip(): one for one in json.loads(done.stdout)["findings"]}
    assert found["training"]["found"].startswith("4 steps, ")
    assert found["weights reach the engine"]["status"] == "ok"
    assert set(Path(tempfile.gettempdir()).glob("rad-accept-*")) == before

"""Nothing of a run may be written to by group or others, whatever the umask; nor hold a secret."""

import os
import stat

import numpy as np
import pytest

from openrlhf_rad.files import keep_from_others
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.runs.folder import Reference, RunFolder


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077])
def mask(request):
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def test_no_file_of_a_run_is_writable_by_others(tmp_path, mask):
    run = RunFolder.create(tmp_path / "a" / "run")
    run.write_command("rad-train")
    run.write_profile(RiskProfile.from_text("risk: mean"))
    run.append_metrics({"step": 1})
    run.write_reference(Reference({"cost": np.ones(2)}, np.ones(2), ["a", "b"], ["", ""]))
    for path in [tmp_path / "a" / "run", *run.path.iterdir()]:
        assert mode(path) & 0o022 == 0
        # Who may read is the user's choice.
        assert mode(path) == (0o755 if path.is_dir() else 0o644) & ~mask


def test_a_folder_that_was_open_is_closed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    assert mode(RunFolder.create(tmp_path / "run").path) == 0o755


def test_what_a_process_makes_later_is_the_owner_s(tmp_path, mask):
    keep_from_others()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("x")
    assert mode(tmp_path / "model") == 0o755 & ~mask
    assert mode(tmp_path / "model" / "weights") == 0o644 & ~mask


def test_the_profile_of_a_run_holds_no_secret(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    profile = RiskProfile.from_text("risk: mean\ncost: {remote_url: 'https://me:hunter2@h/?key=hunter2'}")
    run.write_profile(profile)
    assert "hunter2" not in (run.path / "profile.resolved.yaml").read_text()
    assert run.read_profile().hash == profile.hash

"""Checkpoints after a kill or a power cut at any moment: whole, or not gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin.resume import other_format
from openrlhf_rad.runs import checkpoints
from openrlhf_rad.runs.checkpoints import newest, settle


def write(folder: Path, tag: str, *, sealed: bool = True, size: int = 100) -> Path:
    """Save as OpenRLHF and DeepSpeed do: files, then the tag's name; sealed only at the end."""
    checkpoints.begin(folder, tag)
    held = folder / tag
    held.mkdir(exist_ok=True)
    (held / "mp_rank_00_model_states.pt").write_bytes(b"m" * size)
    (held / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"o" * size)
    (folder / "latest").write_text(tag)
    checkpoints.flush_all(held)
    if sealed:
        checkpoints.seal(folder, tag, "profile")
    return held


def test_the_newest_whole_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    actor = tmp_path / "_actor"
    for step in (8, 16, 100):
        write(actor, f"global_step{step}")
    (actor / "latest").write_text("global_step8")
    found = settle(tmp_path)
    assert found is not None
    assert (found.tag, found.step, found.profile) == ("global_step100", 100, "profile")
    assert (actor / "latest").read_text() == "global_step100"
    assert str(found) == f"step 100 in {tmp_path}"


@pytest.mark.parametrize("loss", ["no seal", "cut off", "missing file", "empty latest", "half a manifest"])
def test_a_save_that_was_interrupted_is_not(tmp_path: Path, loss: str) -> None:
    actor = tmp_path / "_actor"
    write(actor, "global_step8")
    held = write(actor, "global_step16", sealed=loss not in ("no seal", "empty latest"))
    if loss == "cut off":
        (held / "mp_rank_00_model_states.pt").write_bytes(b"m" * 99)
    if loss == "missing file":
        (held / "mp_rank_00_model_states.pt").unlink()
    if loss == "empty latest":
        (actor / "latest").write_text("")
    if loss == "half a manifest":
        manifest = held / checkpoints.MANIFEST
        manifest.write_text(manifest.read_text()[:20])
    found = settle(tmp_path)
    assert found is not None
    assert found.tag == "global_step8"
    assert (actor / "latest").read_text() == "global_step8"


def test_what_a_save_left_half_done_is_taken_away(tmp_path: Path) -> None:
    write(tmp_path / "_actor", "global_step8")
    write(tmp_path / "_actor", "global_step16", sealed=False)
    settle(tmp_path)
    assert sorted(entry.name for entry in (tmp_path / "_actor").iterdir()) == ["global_step8", "latest"]


def test_a_step_that_is_saved_again_counts_only_once_it_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "_actor", "global_step8")
    write(tmp_path / "_actor", "global_step8", sealed=False)
    assert newest(tmp_path) is None


def test_policy_and_critic_must_be_of_one_step(tmp_path: Path) -> None:
    for step in (8, 16):
        write(tmp_path / "_actor", f"global_step{step}")
    write(tmp_path / "_critic", "global_step8")
    write(tmp_path / "_critic", "global_step16", sealed=False)
    found = settle(tmp_path)
    assert found is not None
    assert found.step == 8
    assert (tmp_path / "_actor" / "latest").read_text() == "global_step8"


def test_a_kill_before_the_first_checkpoint_leaves_nothing_to_load(tmp_path: Path) -> None:
    """OpenRLHF loads whatever has a folder, so there must be none."""
    write(tmp_path / "_actor", "global_step8", sealed=False)
    assert settle(tmp_path) is None
    assert not (tmp_path / "_actor").exists()
    assert settle(tmp_path) is None


def test_a_checkpoint_of_openrlhf_alone_is_neither_loaded_nor_lost(tmp_path: Path) -> None:
    held = tmp_path / "_actor" / "global_step8"
    held.mkdir(parents=True)
    (held / "mp_rank_00_model_states.pt").write_bytes(b"m")
    with pytest.raises(ConfigError) as error:
        settle(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / '_actor'} holds checkpoints, but none that a run with RAD has finished: there is no λ"
        " to go on with; start a new run with another --ckpt.path, or leave out --ckpt.load_enable"
    )
    assert (held / "mp_rank_00_model_states.pt").exists()


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        ("float32", "float32", ""),
        (
            "bfloat16",
            "float32",
            ", which was trained in bfloat16; this run computes in float32: it is not the same run bit for"
            " bit",
        ),
        (
            "",
            "float32",
            ", which was trained in a GPU's bfloat16; this run computes in float32: it is not the same run"
            " bit for bit",
        ),
    ],
)
def test_another_number_format_is_said(tmp_path, monkeypatch, then, now, words) -> None:
    held = write(tmp_path / "_actor", "global_step8", sealed=False)
    checkpoints.seal(held.parent, held.name, "profile", then)
    found = settle(tmp_path)
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", now)
    assert found is not None
    assert other_format(found) == words

"""``rad calibrate``: files in, a page and a checked profile out."""

import json
from pathlib import Path

import numpy as np
import pytest
from openrlhf_rad.cli.rad import app
from typer.testing import CliRunner

from openrlhf_rad.profile import load_profile


@pytest.fixture
def rad(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    return lambda *words: CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


@pytest.fixture
def scores(tmp_path):
    """400 answers to 100 prompts, harm with a long right tail."""
    generator = np.random.default_rng(0)
    cost_b = np.exp(generator.normal(size=400)) - 3
    rows = [
        {
            "prompt": f"p{i // 4}",
            "cost": c,
            "reward": generator.normal(),
            "label": "harmful" if c > -1 else "safe",
        }
        for i, c in enumerate(cost_b)
    ]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "flipped.csv").write_text(
        "harm,verdict\n" + "".join(f"{-r['cost']},{r['label']}\n" for r in rows)
    )
    return rows


@pytest.mark.parametrize("name", ["medical", "uniform", "safe-rlhf", "general-assistant"])
@pytest.mark.parametrize("unit", ["cost", "spread"])
def test_the_profile_that_is_written_is_sound_and_calibrated(rad, scores, name, unit):
    done = rad("calibrate", "scores.jsonl", "--profile", name, "--unit", unit, "--out", "p.yaml")
    assert done.exit_code == 0
    assert rad("profile", "check", "p.yaml", "--strict").exit_code == 0
    profile, before = load_profile("p.yaml"), load_profile(name)
    assert profile.risk == before.risk
    assert profile.constraint.level.unit == unit
    text = Path("p.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}, calibrated on scores.jsonl: 400 answers to 100 prompts,\n")
    for key in ("level", "initial", "step", "max"):
        lines = text.splitlines()
        place = next(i for i, line in enumerate(lines) if line.startswith(f"  {key}: "))
        assert lines[place - 1].startswith("  # ")
    # Calibrating what is calibrated changes nothing but the last digit.
    assert (
        rad("calibrate", "scores.jsonl", "--profile", "p.yaml", "--unit", unit, "--out", "q.yaml").exit_code
        == 0
    )
    again = load_profile("q.yaml")
    assert again.dual.max == pytest.approx(profile.dual.max)
    assert again.constraint.level.value == pytest.approx(profile.constraint.level.value, rel=0.02)


def test_the_page_is_narrow_and_plain_and_marks_the_level(rad, scores):
    done = rad("calibrate", "scores.jsonl", "--profile", "cvar")
    assert [line for line in done.stdout.splitlines() if len(line) > 60] == []
    assert "\x1b" not in done.stdout
    cost_b = np.array([row["cost"] for row in scores])
    risk = load_profile("cvar").risk.risk(cost_b)
    assert f"cvar α=0.75 of the reference: {risk:.3g}" in done.stdout
    assert f"cvar α=0.75 asked for: {risk - 0.4 * cost_b.std():.3g}" in done.stdout
    assert "▲" in done.stdout


def test_proven_inversion_writes_nothing(rad, scores, tmp_path):
    words = ["calibrate", "flipped.csv", "--profile", "medical", "--cost-column", "harm"]
    done = rad(*words, "--label-column", "verdict", "--out", "p.yaml")
    assert done.exit_code == 1
    text = " ".join(done.stdout.split())
    assert (
        "! the sign of the cost is inverted: by the labels, a harmful answer costs more than a safe one"
        in text
    )
    assert (
        "cost by column harm: higher is more harmful labels by column verdict are taken for harmful: harmful,"
        " for safe: safe flipped.csv:2: cost" in text
    )
    assert done.stderr == "p.yaml is not written: see the lines marked !\n"
    assert not (tmp_path / "p.yaml").exists()
    # Without labels it is a suspicion: a warning, or an error with --strict.
    assert rad(*words, "--out", "p.yaml").exit_code == 0
    assert rad(*words, "--strict").exit_code == 1


def test_labels_of_any_wording(rad, scores, tmp_path):
    rows = [{**row, "label": "grün" if row["label"] == "safe" else "rot"} for row in scores]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = rad("calibrate", "l.jsonl", "--profile", "medical")
    assert plain.exit_code == 0
    assert "! label holds 'grün', neither harmful nor safe" in " ".join(plain.stdout.split())
    named = rad("calibrate", "l.jsonl", "--profile", "medical", "--label-column", "label")
    assert named.exit_code == 2
    assert named.stderr == (
        "error: l.jsonl: label holds 'grün', neither harmful nor safe; name the harmful one with --harmful\n"
    )
    assert rad("calibrate", "l.jsonl", "--profile", "medical", "--harmful", "rot", "--strict").exit_code == 0
    assert rad("calibrate", "l.jsonl", "--profile", "medical", "--harmful", "grün").exit_code == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "cost\n1\nx\n",
            'error: s.csv:3: cost is "x"; it must be a finite number; mend the row or remove it\n',
        ),
        (
            "harm\n1\n",
            "error: s.csv:1: the column cost is missing, the columns are harm; add it, or name the column by"
            " --column cost=NAME\n",
        ),
        (
            "cost\n1\n2\n",
            "error: s.csv: it has 2 costs; at least 8 are needed; score more answers of the reference, for"
            " instance 256\n",
        ),
        (
            "cost\n" + "1\n" * 9,
            "error: s.csv: all 9 values of cost are 1; a constraint on a distribution needs costs that"
            " differ; check that the cost source answers each response on its own\n",
        ),
    ],
)
def test_scores_that_cannot_serve(rad, tmp_path, text, error):
    (tmp_path / "s.csv").write_text(text)
    done = rad("calibrate", "s.csv", "--profile", "medical")
    assert done.exit_code in {1, 2}
    assert done.stderr == error
    assert done.stdout == ""


def test_files_are_not_overwritten_unasked(rad, scores, tmp_path):
    (tmp_path / "p.yaml").write_text("mine")
    words = ["calibrate", "scores.jsonl", "--profile", "medical", "--out", "p.yaml"]
    assert rad(*words).exit_code == 2
    assert (tmp_path / "p.yaml").read_text() == "mine"
    assert rad(*words, "--force").exit_code == 0


def test_a_picture_of_the_costs(rad, scores, tmp_path):
    words = ["calibrate", "scores.jsonl", "--profile", "medical", "--plot", "c.png"]
    assert rad(*words).exit_code == 0
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert rad(*words[:-1], "c.gif").exit_code == 2


def test_parquet_gives_the_same_page(rad, scores):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(scores), "scores.parquet")
    pages = [rad("calibrate", f"scores.{form}", "--profile", "wang").stdout for form in ("jsonl", "parquet")]
    # Above the picture, labels are shown with their place in the file.
    assert len({page.partition("costs of the reference")[2] for page in pages}) == 1


def test_one_of_several_constraints_is_calibrated_and_the_others_stay(rad, scores, hospital):
    words = ["calibrate", "scores.jsonl", "--profile", "hospital.yaml", "--out", "p.yaml", "--force"]
    done = rad(*words)
    assert done.exit_code == 2
    assert done.stderr == (
        "error: --constraint is missing; the constraints of hospital are harm, harm.pediatrics, privacy,"
        " privacy.pediatrics; write --constraint harm\n"
    )
    assert "did you mean privacy?" in rad(*words, "--constraint", "privac").stderr
    before = {one.name: one for one in load_profile(hospital).constraints}
    for name, one in before.items():
        assert rad(*words, "--constraint", name).exit_code == 0
        assert rad("profile", "check", "p.yaml").exit_code == 0
        after = {one.name: one for one in load_profile("p.yaml").constraints}
        assert list(after) == list(before)
        assert [other for other in before if after[other] != before[other]] == [name]
        assert after[name].settings.level.unit == "cost"
        assert after[name].risk == one.risk
        assert Path("p.yaml").read_text(encoding="utf-8").count("λ_eq") == 3

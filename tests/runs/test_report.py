"""Summary, table and plots of a made-up run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from rich.cells import cell_len
from rich.console import Console

from openrlhf_rad.errors import ConfigError, CostError, EnvironmentProblem
from openrlhf_rad.method.transport import dominance_gap
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.report.pictures import plot_run
from openrlhf_rad.report.terminal import LEVELS, print_report, quantile_sketch, sparkline
from openrlhf_rad.runs import RunFolder
from openrlhf_rad.runs.folder import Reference
from openrlhf_rad.runs.summary import summarise
from openrlhf_rad.words import number

PROFILE = RiskProfile.from_text("medical: wang η=0.75")


def costs_of(run: RunFolder, kind: str) -> np.ndarray:
    return np.array([row["cost"] for row in run.read_answers(kind)])  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    rng = np.random.default_rng(0)
    run = RunFolder.create(tmp_path / "run")
    run.write_profile(PROFILE)
    for step in range(1, 13):
        value = 0.1 * step - 0.5
        run.append_metrics(
            {
                "step": step,
                "lambda": 1 + step / 10,
                "constraint_value": value,
                "constraint_level": 0.2,
                "violation": 0.2 - value,
                "risk": None if step == 3 else 2 - value,
                "reference_risk": 2.0,
                "seconds_step": 10.5,
            }
        )
    run.write_reference(Reference({"cost": rng.gamma(2, 1, 100)}, np.zeros(100), ["p"] * 100, [""] * 100))
    before = rng.gamma(2, 1, 96)
    for kind, cost_b in (("before", before), ("after", 0.6 * rng.permutation(before))):
        rows = [
            {
                "prompt": f"prompt {i // 2} [bold]",
                "answer": f"\x1b[31m答え 😀 {i} of {kind} " + "word " * (i % 90),
                "label": "benign" if i % 4 < 2 else "harmful",
                "reward": float(rng.normal()),
                "cost": float(cost),
            }
            for i, cost in enumerate(cost_b)
        ]
        run.write_answers(kind, rows)  # type: ignore[arg-type]
    return run


def report(run: RunFolder, width: int) -> str:
    stream = io.StringIO()
    print_report(run, Console(file=stream, width=width))
    return stream.getvalue()


def test_summary_holds_the_facts_and_the_identity_of_the_gaps(run: RunFolder) -> None:
    summary = summarise(run)
    assert summary == run.read_summary() == json.loads((run.path / "summary.json").read_text())
    assert summary["profile"] == {"name": "medical", "hash": PROFILE.hash, "risk": "wang η=0.75"}
    assert (summary["prompts"], summary["answers"], summary["steps"]) == (48, 96, 12)
    assert summary["seconds"] == pytest.approx(126)
    assert summary["versions"]["numpy"] == np.__version__
    rows = {row["name"]: row for row in summary["rows"]}
    before, after = costs_of(run, "before"), costs_of(run, "after")
    below = rows["gap_below"]["difference"]["value"]
    above = rows["gap_above"]["difference"]["value"]
    assert below == pytest.approx(dominance_gap(after, before, PROFILE.weights(96)))
    assert above == pytest.approx(dominance_gap(before, after, PROFILE.weights(96)), abs=1e-12)
    # Eq. (16); and scaling all costs by 0.6 scales the risk.
    assert rows["risk"]["difference"]["value"] == pytest.approx(above - below)
    assert rows["risk"]["after"]["value"] == pytest.approx(0.6 * rows["risk"]["before"]["value"])


def test_verdict_says_what_fell_and_what_is_not_shown(run: RunFolder) -> None:
    text = "\n".join(summarise(run)["verdict"])
    assert "Mean cost fell by" in text
    # 48 prompts are too few for a tail.
    assert "Risk of the profile: no change shown" in text
    assert "CVaR 0.90 of the cost: no change shown" in text
    assert "there is no interval" in text
    assert "Mean reward: no change shown" in text
    assert "includes 0" in text
    assert "No quantile that the risk weighs is more costly than before." in text


def test_a_fall_that_an_independent_cost_does_not_see_is_doubted(run: RunFolder) -> None:
    summary = summarise(run, lambda prompts, answers: np.array([float(len(text) % 7) for text in answers]))
    assert any("policy may exploit its cost model" in text for text in summary["warnings"])
    assert {"independent_mean", "independent_cvar_90"} <= {row["name"] for row in summary["rows"]}
    with pytest.raises(CostError, match=r"returned shape \(1,\) with 1 values that are not finite"):
        summarise(run, lambda prompts, answers: np.array([np.nan]))


@pytest.mark.parametrize("width", [60, 80, 140])
def test_report_fits_its_width_and_has_no_escapes_when_piped(run: RunFolder, width: int) -> None:
    summarise(run, lambda prompts, answers: np.array([float(len(text)) for text in answers]))
    text = report(run, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    order = [
        text.index(mark) for mark in ("○ before", "λ", "Risk of the profile", "mean cost", "may be harmful")
    ]
    assert order == sorted(order)
    assert "[bold]" in text
    worst = int(np.argmax(costs_of(run, "before"))) // 2
    assert f"» prompt {worst} [bold]" in text


def test_report_without_summary_says_what_to_do(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match="summarise the run first"):
        report(run, 60)


def test_sketch_places_marks_in_proportion() -> None:
    lines = quantile_sketch(np.arange(101.0), np.arange(101.0) / 2, 60).plain.splitlines()[1:-1]
    assert len(lines) == len(LEVELS)
    # Levels 0.1 … 0.99 of 0 … 100 lie at 10 … 99, halves at 5 … 49.5; 52 columns span 5 … 99.
    for line, level in zip(lines, LEVELS, strict=True):
        old = np.ceil(101 * level) - 1
        for mark, value in (("○", old), ("●", old / 2)):
            assert line.index(mark) - 8 == pytest.approx(51 * (value - 5) / (99 - 5), abs=1)
    assert "◉" in quantile_sketch(np.ones(5), np.ones(5), 60).plain


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, None, 7], 10) == "▁·█"
    assert sparkline([3, 3], 10) == "▁▁"
    assert len(sparkline(list(range(1000)), 25)) == 25
    assert sparkline([None], 5) == "·"
    assert sparkline([], 5) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (-1.2345, "−1.23"), (12345.6, "12346"), (0.00012345, "0.000123")],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert number(value) == text


def test_plots_are_pictures_of_the_run(run: RunFolder) -> None:
    paths = plot_run(run)
    names = {f"{stem}.{form}" for stem in ("quantiles", "training", "costs") for form in ("png", "svg")}
    assert {path.name for path in paths} == names == {path.name for path in run.plots.iterdir()}
    for path in paths:
        if path.suffix == ".svg":
            assert "</svg>" in path.read_text()[-100:]
            continue
        pixels = image.imread(path)
        assert min(pixels.shape[:2]) > 500
        # Blue pixels draw the curve after training (#0072B2); most of the page stays white.
        blue = (pixels[..., 0] < 0.2) & (pixels[..., 1] < 0.6) & (pixels[..., 2] > 0.6)
        white = (pixels[..., :3] > 0.97).all(axis=-1)
        assert blue.sum() > 500
        assert 0.3 < white.mean() < 0.98


def test_an_interrupted_run_still_gets_its_training_plot(run: RunFolder) -> None:
    (run.path / "heldout_after.jsonl").unlink()
    assert {path.stem for path in plot_run(run)} == {"training"}
    (run.path / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match="neither steps nor held-out answers"):
        plot_run(run)


def test_costs_that_are_all_equal_can_be_shown(run: RunFolder) -> None:
    rows = [{"prompt": "p", "answer": "", "label": None, "reward": None, "cost": 1.0}]
    run.write_answers("before", rows)
    run.write_answers("after", rows)
    assert len(plot_run(run)) == 6
    summary = summarise(run)
    assert "reward_mean" not in {row["name"] for row in summary["rows"]}
    none = "there is no interval: it rests on too few answers, or none of them changed"
    assert f"Mean cost: no change shown; 0, and {none}." in summary["verdict"]
    assert "(empty)" in report(run, 60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_while_summarising(run: RunFolder) -> None:
    (run.path / ".summary.json.partial").symlink_to("/dev/full")
    with pytest.raises(EnvironmentProblem, match="disk is full"):
        summarise(run)
    assert not (run.path / "summary.json").exists()

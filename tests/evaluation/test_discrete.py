"""Flags and ratings: eval.json, the terminal, the page, calibrate and show say what the risk means there."""

import io

import numpy as np
from openrlhf_rad.cli.rad import app
from rich.console import Console
from typer.testing import CliRunner

from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.compare import Analysis
from openrlhf_rad.evaluation.run import Job, run
from openrlhf_rad.evaluation.sources import AnswerPlan, parse_sources
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.report.page import write_report
from openrlhf_rad.report.terminal import print_evaluation, print_report
from openrlhf_rad.runs.folder import Reference, RunFolder
from openrlhf_rad.runs.summary import summarise

FLAG = (
    "of a flag (0, 1) cvar α=0.9 says how often, not how bad: with 1 %, 5 %, 20 % of the answers at 1 it is"
    " 0.1, 0.5, 1; flat from 10 % on, where it is 1 whatever the share"
)
PROFILE = RiskProfile.from_text("tail: cvar α=0.9", "tail.yaml")


def flags(rows, share, seed):
    rng = np.random.default_rng(seed)
    return [row | {"cost": float(rng.random() < share)} for row in rows(150)]


def said(text):
    return " ".join(text.split())


def printed(show):
    console = Console(file=io.StringIO(), width=100)
    show(console)
    return said(console.file.getvalue())


def test_an_evaluation_says_it(write, rows, tmp_path):
    paths = [
        write(f"{name}.jsonl", flags(rows, share, i))
        for i, (name, share) in enumerate((("a", 0.2), ("b", 0.1)))
    ]
    sources = parse_sources(f"a={paths[0]}", f"b={paths[1]}", [])
    plan = AnswerPlan(tmp_path / "out", Columns())
    data = run(Job(PROFILE, sources, plan, Analysis(draws=200), command="rad eval"), lambda *_: None)
    (bound,) = data["constraints"]
    assert (bound["values"], bound["meaning"]) == ([0.0, 1.0], FLAG)
    assert f"{FLAG}." in printed(lambda console: print_evaluation(data, console, samples=0))
    assert f"O{FLAG[1:]}." in said(write_report([tmp_path / "out"]).read_text(encoding="utf-8"))
    # On a scale there is nothing to say.
    scale = [write(f"{name}.jsonl", rows(150, seed=i)) for i, name in enumerate("cd")]
    plan = AnswerPlan(tmp_path / "scale", Columns())
    job = Job(PROFILE, parse_sources(f"c={scale[0]}", f"d={scale[1]}", []), plan, Analysis(draws=200))
    (bound,) = run(job, lambda *_: None)["constraints"]
    assert (bound["values"], bound["meaning"]) == ([], None)


def test_the_report_of_a_run_says_it(tmp_path):
    rng = np.random.default_rng(0)
    folder = RunFolder.create(tmp_path / "run")
    folder.write_profile(PROFILE)
    folder.write_command("python -m openrlhf_rad")
    cost_r = (rng.random(100) < 0.3).astype(float)
    folder.write_reference(Reference({"cost": cost_r}, np.zeros(100), ["p"] * 100, [""] * 100))
    folder.append_metrics({"step": 1, "lambda": 1.0, "cost_mean": 0.3})
    for kind, share in (("before", 0.3), ("after", 0.1)):
        rows = [{"prompt": f"p{i}", "answer": "a b", "label": "", "reward": 0.0} for i in range(200)]
        folder.write_answers(kind, [row | {"cost": float(rng.random() < share)} for row in rows])
    summarise(folder)
    assert f"{FLAG}." in printed(lambda console: print_report(folder, console, samples=0))
    assert f"O{FLAG[1:]}." in said(write_report([folder.path]).read_text(encoding="utf-8"))


def test_calibrate_and_show_say_it(write, rows, tmp_path):
    scores, profile = write("scores.jsonl", flags(rows, 0.05, 3)), tmp_path / "tail.yaml"
    profile.write_text(PROFILE.to_yaml(), encoding="utf-8")
    done = CliRunner().invoke(app, ["calibrate", str(scores), "--profile", str(profile), "--no-labels"])
    assert FLAG in said(done.output)
    done = CliRunner().invoke(app, ["profile", "show", "flags"])
    mean = "with 1 %, 5 %, 20 % of the answers at 1 it is 0.01, 0.05, 0.2; nowhere flat"
    assert f"of a flag (0, 1) mean says how often, not how bad: {mean}" in said(done.output)
    done = CliRunner().invoke(app, ["profile", "explain", "flags"])
    assert f"Of a flag (0, 1) mean says how often, not how bad: {mean}." in said(done.output)

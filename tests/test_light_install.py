"""The wheel alone, in a fresh environment without torch, OpenRLHF or filelock: what promises to be light.

The environment holds what the wheel's metadata asks for, transitively, linked from that of the tests.
"""

import json
import os
import re
import subprocess
import sys
import threading
import venv
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from openrlhf_rad.profile import load_profile
from openrlhf_rad.runs import RunFolder

ROOT = Path(__file__).parents[1]
ABSENT = ("torch", "openrlhf", "ray", "vllm", "transformers", "filelock", "deepspeed")
RAD, TRAIN, PLAIN = "openrlhf_rad.cli.rad", "openrlhf_rad.cli.train", "openrlhf_rad"
MODELS = ("--baseline", "a=scores.jsonl", "--candidate", "b=better.jsonl")
#: Stands for the address of a server, which a test learns when it starts one.
URL = "http://server"
JUDGE = ("--model", "judge", "--base-url", f"{URL}/v1", "--yes")


def linked(site, requirements):
    """Link the distributions of some requirements, and what they ask for themselves."""
    waiting, seen = [Requirement(text) for text in requirements], set()
    while waiting:
        one = waiting.pop()
        name = one.name.lower().replace("_", "-")
        if name in seen or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        try:
            found = distribution(one.name)
        except PackageNotFoundError:  # a requirement of other systems
            continue
        waiting += [Requirement(text) for text in found.requires or ()]
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            if top != "__pycache__" and not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
    return seen


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Runs a module of the installed wheel in a folder of its own: ``light(RAD, "profile", "list")``."""
    folder = tmp_path_factory.mktemp("light")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "LICENSE", "openrlhf_rad", "cli", "risk_profiles"):
        subprocess.run(["cp", "-r", str(ROOT / name), tree], check=True)
    (tree / "README.md").touch()
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, tree]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
        (metadata,) = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        lines = packed.read(metadata).decode().splitlines()
    needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    assert not linked(site, needed) & set(ABSENT)
    python = folder / "venv" / "bin" / "python"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    (folder / "work").mkdir()

    extra = folder / "extra"
    extra.mkdir()
    assert not linked(extra, ["openai"]) & set(ABSENT)

    def run(module, *words, judge=False):
        """``judge``: with what the extra of that name brings."""
        return subprocess.run(
            [python, "-m", module, *words],
            cwd=folder / "work",
            capture_output=True,
            text=True,
            env={
                **environment,
                "COLUMNS": "200",
                "OPENRLHF_RAD_CACHE": str(folder / "cache"),
                **({"PYTHONPATH": str(extra)} if judge else {}),
            },
            check=False,
        )

    run.work = folder / "work"
    return run


def test_nothing_heavy_is_there(light):
    for name in ABSENT:
        assert light(name).returncode == 1
    assert "No module named torch" in light("torch").stderr


COMMANDS = {
    "help": (RAD, "--help"),
    "profile list": (RAD, "profile", "list"),
    "profile check": (RAD, "profile", "check", "medical"),
    "profile show": (RAD, "profile", "show", "medical"),
    "profile explain": (RAD, "profile", "explain", "medical"),
    "profile diff": (RAD, "profile", "diff", "cvar", "medical"),
    "profile weights": (RAD, "profile", "weights", "medical", "20"),
    "profile schema": (RAD, "profile", "schema"),
    "profile plot": (RAD, "profile", "plot", "cvar", "wang", "medical", "--out", "spectra.svg"),
    "calibrate": (RAD, "calibrate", "scores.jsonl", "--profile", "medical", "--no-labels"),
    "gate": (
        RAD,
        "gate",
        "--baseline",
        "a=scores.jsonl",
        "--candidate",
        "b=better.jsonl",
        "--profile",
        "medical",
    ),
    "prompts": (RAD, "prompts", "prompts.jsonl", "--out", "out.jsonl"),
    "profile init": (RAD, "profile", "init", "--yes", "--out", "mine.yaml", "--force"),
    "calibrate out": (
        RAD,
        "calibrate",
        "scores.jsonl",
        "--profile",
        "cvar",
        "--no-labels",
        "--out",
        "c.yaml",
    ),
    "eval": (RAD, "eval", *MODELS, "--profile", "medical", "--out", "eval", "--no-labels"),
    "eval, cost by a server": (
        *(RAD, "eval", "--baseline", "a=texts.jsonl", "--candidate", "b=short.jsonl", "--profile", "medical"),
        *("--set", f"cost.remote_url={URL}/costs", "--out", "served", "--no-labels"),
    ),
    "eval, cost by a judge": (
        *(RAD, "eval", "--baseline", "a=texts.jsonl", "--candidate", "b=short.jsonl", "--profile", "medical"),
        *("--set", "cost.judge.model=judge", "--set", f"cost.judge.base_url={URL}/v1"),
        *("--out", "judged", "--no-labels"),
    ),
    "report": (RAD, "report", "run"),
    "another command on the CPU": ("openrlhf_rad.plugin.cpu", "openrlhf.cli.serve_rm"),
    "pairs": (RAD, "pairs", "rated.jsonl", "--by", "harm", "--out", "pairs.jsonl"),
    "cost check": (RAD, "cost", "check", "rated.jsonl", "--column", "cost=rated"),
    "cost fit": (RAD, "cost", "fit", "labels.jsonl", "--model", "org/model", "--out", "cost"),
    "study": (RAD, "study", "study.yaml", "--dry-run"),
    "doctor": (RAD, "doctor"),
    "table of the keys": ("openrlhf_rad.profile.reference",),
    "contract of a release": ("openrlhf_rad.plugin.contract", "release"),
    "rad-train help": (TRAIN, "--help"),
    "report of rad-train": (TRAIN, "--report", "run"),
    "dry run": (TRAIN, "--preset", "tiny", "--dry-run"),
    "plain help": (PLAIN, "--rad.help"),
}
#: An evaluation by a cost function: scored, gated, shown, judged, and scored again with the verdict.
SCORED = (
    *(RAD, "eval", "--baseline", "a=texts.jsonl", "--candidate", "b=short.jsonl", "--profile", "cvar"),
    *("--set", "cost.function=cost.py", "--out", "scored", "--no-labels", "--keep-texts"),
)
EVALUATION = (
    SCORED,
    (RAD, "gate", "--eval", "scored"),
    (RAD, "report", "scored"),
    (RAD, "judge", "--eval", "scored", "--baseline", "a", "--candidate", "b", *JUDGE, "--out", "scored"),
    SCORED,
)
#: Commands whose answer depends on what they are given; each answers, without a traceback.
GROUPS = ("profile", "cost")
ANSWERS = {
    "cost fit": (3,),
    "another command on the CPU": (2,),
    "gate": (0, 1, 2),
    "doctor": (1,),
    "contract of a release": (1,),
}


@pytest.fixture(scope="module")
def given(light):
    """What the commands read: scores, answers, a cost, prompts, a run; a server that judges and rates."""
    for file, shift in (("scores", 0.0), ("better", -0.5)):
        write(light.work, file, (("cost", lambda i, by=shift: i / 400 + by), ("response", lambda i: f"r{i}")))
    rated = (
        ("prompt", lambda i: f"p{i // 2}"),
        ("answer", lambda i: f"a{i}"),
        ("unsafe", lambda i: i % 2),
        ("rated", lambda i: i % 2 + i / 1e4),
    )
    write(light.work, "rated", rated, 80)
    write(light.work, "texts", (("response", lambda i: "word " * (1 + i % 40)),), 240)
    write(light.work, "short", (("response", lambda i: "word " * (1 + i % 20)),), 240)
    (light.work / "cost.py").write_text(
        "def cost_func(queries, prompts, labels):\n    return [float(len(query)) for query in queries]\n"
    )
    (light.work / "prompts.jsonl").write_text('{"prompt": "how?", "label": "harmful"}\n')
    kinds = "{a: {count: 1, share: 1, reward: 0, cost: 1}, b: {count: 1, share: 1, reward: 1, cost: 2}}"
    (light.work / "study.yaml").write_text(f"profiles: [cvar]\nworld: {{kinds: {kinds}}}\n")
    (light.work / "release").mkdir()
    run = RunFolder.create(light.work / "run")
    run.write_profile(load_profile("medical"))
    run.write_command("python -m openrlhf_rad")
    run.append_metrics({"step": 1, "lambda": 1.0, "cost_mean": 0.5})
    for kind, worse in (("before", 1.0), ("after", 0.0)):
        rows = [{"prompt": f"p{i}", "answer": "a", "label": "", "reward": 0.0} for i in range(400)]
        run.write_answers(kind, [{**row, "cost": worse + i / 400} for i, row in enumerate(rows)])
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write(folder, name, columns, count=400):
    rows = [{"id": i, "prompt": f"p{i}", **{key: of(i) for key, of in columns}} for i in range(count)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


class Server(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that finds all answers equally harmful, and a server of costs.

    Alone an answer is the more harmful the longer it is.
    """

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/costs":
            made = {"rewards": [float(len(query)) for query in asked["query"]]}
        else:
            said = asked["messages"][0]["content"]
            rating = 1 + min(4, said.count("word ") // 8)
            message = {"role": "assistant", "content": str(rating) if "one whole number" in said else "[[C]]"}
            usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            made = {"model": "judge", "choices": choices, "usage": usage}
        body = json.dumps(made).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing: the server's own words are no output of the test."""


def answered(light, url, command):
    judge = any("judge" in word for word in command)
    done = light(*(word.replace(URL, url) for word in command), judge=judge)
    assert "Traceback" not in done.stderr
    assert done.stdout or done.stderr
    return done


@pytest.mark.parametrize("name", COMMANDS)
def test_a_light_command_runs(name, light, given):
    done = answered(light, given, COMMANDS[name])
    assert done.returncode in ANSWERS.get(name, (0,)), done.stderr + done.stdout


def test_an_evaluation_by_a_cost_function_is_scored_gated_shown_and_judged(light, given):
    """The costs are lengths: the baseline's are 1 to 40 words, the candidate's 1 to 20."""
    scored, gate, report, judge, again = (answered(light, given, command) for command in EVALUATION)
    assert [one.returncode for one in (scored, gate, report, judge, again)] == [0] * 5, (
        scored.stderr + gate.stdout
    )
    assert gate.stdout.startswith("PASS")
    assert (light.work / "scored" / "report.html").is_file()
    (pair,) = json.loads((light.work / "scored" / "eval.json").read_text())["comparisons"]
    assert pair["judge"]["overall"]["tie"]["value"] == 1.0


def test_every_command_of_the_docs_is_run_here():
    """Whatever ``rad`` command a page names, and each module that it runs by ``python -m``."""
    pages = "\n".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    named = {
        ("rad", *words.split())
        for words in re.findall(r"\brad ((?:profile|cost) [a-z]+|[a-z]+)", code_of(pages))
    }
    named |= {("module", one) for one in re.findall(r"python -m (openrlhf_rad[a-z_.]*)", pages)}
    run = {
        ("rad", *words[:2]) if words[0] in GROUPS else ("rad", words[0])
        for module, *words in [*COMMANDS.values(), *EVALUATION]
        if module == RAD
    }
    run |= {("module", module) for module, *_ in COMMANDS.values()}
    assert len(named) >= 20
    assert named - run == {("module", "openrlhf_rad.jobs.cost_model")}  # fits a model: needs torch


def code_of(page):
    """What a page shows as code, in lines or in blocks."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", rest)])


NEEDS = {
    "vllm": ("--prompts", "prompts.jsonl", "--set", "cost.function=cost.py"),
    "openrlhf": ("--set", "cost.model=org/cost"),
}


@pytest.mark.parametrize("package", NEEDS)
def test_an_evaluation_that_needs_models_names_the_extra(package, light, given):
    source = "texts.jsonl" if package == "openrlhf" else "org/model"
    models = (
        "--baseline",
        f"a={source}",
        "--candidate",
        f"b={source}",
        "--profile",
        "medical",
        "--no-labels",
    )
    done = light(RAD, "eval", *models, *NEEDS[package], "--out", f"by-{package}")
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f'error: {package} is not installed; pip install "openrlhf-rad[gpu]", or make install on a CPU'
    )
    assert "Traceback" not in done.stderr


def test_the_judge_names_its_extra(light, given):
    words = (
        "--baseline",
        "texts.jsonl",
        "--candidate",
        "short.jsonl",
        *JUDGE,
        "--out",
        "judged",
        "--cache",
        "none.sqlite",
    )
    done = light(RAD, "judge", *(word.replace(URL, given) for word in words))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        "error: the judge needs the package openai, which is not installed;"
        ' run: pip install "openrlhf-rad[judge]"'
    )


def test_what_needs_the_stack_names_the_extra(light):
    (light.work / "cost.py").write_text("def cost_func(queries, prompts, labels): ...\n")
    (light.work / "reward.py").write_text("def reward_func(queries, prompts, labels): ...\n")
    (light.work / "input.jsonl").write_text('{"input": "how?"}\n')
    plain = (
        "--actor.model_name_or_path org/model --data.prompt_dataset input.jsonl --reward.remote_url reward.py"
    )
    rad = "--rad.profile medical --rad.set cost.function=cost.py --rad.out out"
    for words in (plain, f"{plain} {rad}"):
        done = light(PLAIN, *words.split())
        assert done.returncode == 3
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines() == [
            f'error: {package} is not installed; pip install "openrlhf-rad[gpu]", or make install on a CPU'
            for package in ("openrlhf", "vllm")
        ]
    assert not (light.work / "out").exists()


def test_the_preparation_names_what_it_needs(light):
    done = light("openrlhf_rad.jobs.prepare", "--preset", "tiny")
    assert done.returncode == 3
    assert done.stderr == (
        'torch is not installed; pip install "openrlhf-rad[gpu]", or make install on a CPU\n'
    )


def test_the_doctor_says_what_is_fine(light):
    done = light(RAD, "doctor")
    assert done.returncode == 1
    assert "profiles, calibration, gates and reports need no more" in done.stdout
    assert done.stdout.count("✗") == 1

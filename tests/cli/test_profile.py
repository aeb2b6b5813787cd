"""``rad profile``: every command through Typer's runner, and as a process where the process matters."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from openrlhf_rad.cli.rad import app
from typer.testing import CliRunner

from openrlhf_rad.method.reference import resolve
from openrlhf_rad.profile import RiskProfile, load_profile, shipped_profiles

RAD = Path(sys.executable).with_name("rad")
BROKEN = "risk: cvar α=1.7\nconstraint: {levle: 3}\n"
BROKEN_PROBLEMS = [
    "bad.yaml:1:14: risk.alpha is 1.7; it must lie in (0, 1); for the worst 10 % use 0.9",
    "bad.yaml:2:14: constraint.levle is not a key of constraint; the keys are form, level, margin, floor,"
    " gradient, tails; did you mean level?",
]
READING = (
    ["list"],
    ["show", "medical"],
    ["show", "var"],
    ["explain", "general-assistant"],
    ["explain", "safe-rlhf"],
    ["diff", "medical", "wang"],
    ["diff", "uniform", "safe-rlhf"],
)


@pytest.fixture
def rad(tmp_path, monkeypatch):
    """Runs ``rad profile`` in an empty folder; the result has exit_code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")

    def run(*words, text=None):
        return CliRunner().invoke(app, ["profile", *map(str, words)], input=text, catch_exceptions=False)

    return run


class TestCheck:
    def test_errors_warnings_and_sound_files_in_one_go(self, rad, tmp_path):
        (tmp_path / "bad.yaml").write_text(BROKEN)
        (tmp_path / "good.yaml").write_text("risk: linear\n")
        done = rad("check", "bad.yaml", "var", "good.yaml")
        lines = done.stdout.splitlines()
        assert done.exit_code == 1
        assert lines[:2] == BROKEN_PROBLEMS
        assert "warning: var α=0.9 h=0.05 is not a coherent risk measure" in lines[2]
        assert lines[3] == f"var: valid, var α=0.9 h=0.05, hash {load_profile('var').hash[:12]}"
        assert lines[4].startswith("good.yaml: valid, linear, hash ")
        assert lines[5:] == ["3 files, 2 errors, 1 warning"]

    def test_warnings_pass_unless_strict(self, rad):
        assert rad("check", "var").exit_code == 0
        assert rad("check", "var", "--strict").exit_code == 1
        assert rad("check", "medical", "--strict").exit_code == 0

    def test_json(self, rad, tmp_path):
        (tmp_path / "bad.yaml").write_text(BROKEN)
        done = rad("check", "bad.yaml", "medical", "--format", "json")
        assert done.exit_code == 1
        bad, good = json.loads(done.stdout)
        assert (bad["file"], bad["valid"], bad["hash"]) == ("bad.yaml", False, None)
        assert bad["problems"][0] == {
            "severity": "error",
            "file": "bad.yaml",
            "line": 1,
            "column": 14,
            "message": BROKEN_PROBLEMS[0].removeprefix("bad.yaml:1:14: "),
        }
        assert good == {
            "file": "medical",
            "valid": True,
            "hash": load_profile("medical").hash,
            "problems": [],
        }

    def test_github_annotations_escape_what_github_reads(self, rad, tmp_path):
        (tmp_path / "a,b.yaml").write_text(BROKEN)
        done = rad("check", "a,b.yaml", "--format", "github")
        assert done.exit_code == 1
        assert done.stdout.splitlines()[0] == (
            "::error file=a%2Cb.yaml,line=1,col=14,title=risk profile::risk.alpha is 1.7; it must lie in"
            " (0, 1); for the worst 10 %25 use 0.9"
        )
        warning = rad("check", "var", "--format", "github").stdout
        assert warning.startswith("::warning file=var")
        assert rad("check", "medical", "--format", "github").stdout == ""

    def test_standard_input(self, rad):
        done = rad("check", "-", text=BROKEN)
        assert done.exit_code == 1
        assert done.stdout.splitlines()[0] == BROKEN_PROBLEMS[0].replace("bad.yaml", "<stdin>")
        assert rad("check", "-", text="risk: mean\n").exit_code == 0
        refused = rad("check", "-", text=b"risk: \xff")
        assert refused.stdout.startswith("<stdin>: byte 6 is not UTF-8; save the text as UTF-8\n")
        flood = rad("check", "-", text="a" * 3_000_000)
        assert flood.exit_code == 1
        assert "at most" in flood.stdout

    def test_a_file_that_is_not_there(self, rad):
        done = rad("check", "medcal.yaml", "medicla")
        assert done.exit_code == 1
        first, second, total = done.stdout.splitlines()
        assert first == (
            "medcal.yaml: there is no such file; give a path or a shipped name; did you mean medical?"
        )
        assert second.startswith("medicla: no risk profile is called medicla; shipped are ")
        assert total == "2 files, 2 errors, 0 warnings"


@pytest.mark.parametrize("words", READING)
def test_pages_fit_a_narrow_terminal_and_a_pipe(rad, words):
    done = rad(*words)
    assert done.exit_code == 0
    assert [line for line in done.stdout.splitlines() if len(line) > 60] == []
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("words", [["list"], ["show", "medical"], ["diff", "medical", "wang"]])
def test_no_colour_is_honoured_on_a_terminal(words):
    """``script`` gives the process a terminal of its own; colours are there, and none with NO_COLOR."""

    def shown(**environment):
        command = " ".join([str(RAD), "profile", *words])
        done = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", **environment},
        )
        return done.stdout

    def colours(text):
        return [
            code for code in ("\x1b[3", "\x1b[9", "\x1b[1;3") if f"{code}6m" in text or f"{code}3m" in text
        ]

    assert colours(shown(NO_COLOR="1")) == []
    if words != ["list"]:
        assert colours(shown()) != []


@pytest.mark.parametrize(
    "words", [*READING, ["check", "medical"], ["weights", "medical", "8"], ["schema"], ["--help"]]
)
def test_no_command_imports_anything_heavy(words):
    code = (
        "import sys; from openrlhf_rad.cli.rad import app\n"
        f"try: app({['profile', *words]!r})\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'ot', 'ray', 'pyarrow', 'scipy.stats'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_has_its_pages(rad, name):
    assert name in rad("list").stdout
    shown, explained = rad("show", name), rad("explain", name)
    assert (shown.exit_code, explained.exit_code) == (0, 0)
    assert "█" in shown.stdout
    assert load_profile(name).risk.formula[:8] in shown.stdout
    assert "What it does not promise" in explained.stdout


def test_show_counts_the_weight_of_the_tail(rad):
    text = rad("show", "medical").stdout
    for share in (
        "worst  1 % of answers     10 %",
        "worst  5 % of answers     50 %",
        "10 % of answers    100 %",
    ):
        assert share in text
    assert "lies at least 40 %" in " ".join(rad("show", "wang").stdout.split())


def test_under_the_form_expected_the_mean_is_what_counts(rad, tmp_path):
    (tmp_path / "p.yaml").write_text("risk: cvar α=0.9\nconstraint: {form: expected}\n")
    assert "the mean cost of all answers" in rad("show", "p.yaml").stdout


class TestDiff:
    def test_words_settings_and_exit_codes(self, rad, tmp_path):
        (tmp_path / "a.yaml").write_text("risk: cvar α=0.9\ndual: {initial: 2}\n")
        (tmp_path / "b.yaml").write_text(
            "name: a\nrisk: cvar α=0.95\nconstraint: {margin: 100% of reference spread}\n"
        )
        done = rad("diff", "a.yaml", "b.yaml")
        text = " ".join(done.stdout.split())
        assert done.exit_code == 0
        assert "B puts 2 times the weight on the worst 1 % (20 % against 10 %)." in text
        assert "Both put 100 % of their weight on the worst 10 %." in text
        assert "B never judges a model less risky than A does, whatever its costs." in text
        assert (
            "B asks for a risk lower by 80 % of the reference's spread, more than A, which asks for 40 % of"
            " the reference's spread." in text
        )
        assert "risk.alpha 0.9 0.95" in text
        assert "dual.initial 2 1" in text
        assert rad("diff", "a.yaml", "b.yaml", "--exit-code").exit_code == 1

    def test_the_same_profile_differs_in_nothing(self, rad):
        done = rad("diff", "medical", "medical", "--exit-code")
        assert done.exit_code == 0
        assert done.stdout.splitlines()[-1] == "No setting differs."

    def test_a_picture_too(self, rad, tmp_path):
        assert rad("diff", "medical", "wang", "--plot", "d.svg").exit_code == 0
        assert "svg" in ElementTree.parse(tmp_path / "d.svg").getroot().tag


class TestPlot:
    def test_pictures_are_written_and_are_the_same_twice(self, rad, tmp_path):
        for name in ("a.svg", "b.svg", "a.png", "a.pdf"):
            assert rad("plot", "medical", "wang", "linear", "--out", name).exit_code == 0
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")

    def test_names_stand_inside_the_picture_and_apart(self):
        from openrlhf_rad.authoring.drawing import curves, figure_of

        names = ["medical", "wang", "linear", "power", "uniform", "general-assistant"]
        figure = figure_of(curves([(name, load_profile(name)) for name in names]))
        figure.canvas.draw()
        for axes in figure.axes:
            boxes = [text.get_window_extent() for text in axes.texts]
            assert [text.get_text() for text in axes.texts if text.get_text() not in names] == []
            assert len(boxes) == len(names)
            assert all(
                figure.bbox.contains(box.x1, box.y1) and figure.bbox.contains(box.x0, box.y0) for box in boxes
            )
            if axes is not figure.axes[2]:
                assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])

    def test_what_cannot_be_drawn_is_refused_at_once(self, rad):
        done = rad("plot", "medical", "--out", "a.gif")
        assert done.exit_code == 2
        assert done.stderr == (
            "error: a.gif: its ending is .gif; pictures are written as .png, .svg, .pdf; write for instance"
            " --out a.svg\n"
        )
        assert "at most 8 can be told apart" in rad("plot", *["medical"] * 9, "--out", "a.png").stderr
        assert "cannot be written" in rad("plot", "medical", "--out", "no/a.png").stderr


class TestWeights:
    def test_csv_json_and_npy_hold_the_same(self, rad, tmp_path):
        expected = load_profile("wang").weights(16)
        lines = rad("weights", "wang", 16).stdout.splitlines()
        assert lines[0] == "level,weight"
        table = np.loadtxt(lines[1:], delimiter=",")
        np.testing.assert_array_equal(table[:, 1], expected)
        np.testing.assert_allclose(table[:, 0], (np.arange(16) + 0.5) / 16)
        data = json.loads(rad("weights", "wang", 16, "--format", "json").stdout)
        assert data["weights"] == {"cost": expected.tolist()}
        assert rad("weights", "wang", 16, "--format", "npy", "--out", "w.npy").exit_code == 0
        np.testing.assert_array_equal(np.load(tmp_path / "w.npy"), expected)

    def test_npy_goes_through_a_pipe(self):
        words = [RAD, "profile", "weights", "medical", "1000", "--format", "npy"]
        done = subprocess.run(words, capture_output=True, check=True)
        np.testing.assert_array_equal(np.load(io.BytesIO(done.stdout)), load_profile("medical").weights(1000))

    def test_a_reader_that_leaves_early_does_no_harm(self):
        command = f"{RAD} profile weights medical 200000 | head -1"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("level,weight\n", "")

    def test_at_least_one(self, rad):
        assert rad("weights", "wang", 0).exit_code == 64


class TestSchema:
    def test_it_is_the_schema_of_the_language(self, rad, tmp_path):
        from openrlhf_rad.profile.schema import profile_schema

        assert json.loads(rad("schema").stdout) == profile_schema()
        assert rad("schema", "--out", "s.json").exit_code == 0
        assert json.loads((tmp_path / "s.json").read_text()) == profile_schema()

    def test_what_init_writes_satisfies_it(self, rad, tmp_path):
        from jsonschema import Draft202012Validator

        from openrlhf_rad.profile.yaml import parse

        assert rad("init", "--yes", "--out", "p.yaml").exit_code == 0
        validator = Draft202012Validator(json.loads(rad("schema").stdout))
        data = parse((tmp_path / "p.yaml").read_text(), "p.yaml")[0].plain()
        assert list(validator.iter_errors(data)) == []
        assert list(validator.iter_errors({**data, "levle": 1})) != []


class TestInit:
    def test_the_defaults_make_a_valid_file(self, rad, tmp_path):
        assert rad("init", "--yes").exit_code == 0
        path = tmp_path / "my-assistant.yaml"
        assert rad("check", path, "--strict").exit_code == 0
        assert path.read_text().count("#") >= 8
        again = rad("init", "--yes")
        assert again.exit_code == 2
        assert again.stderr == (
            "error: my-assistant.yaml: it is there already; it would be overwritten; name another or add"
            " --force\n"
        )
        assert rad("init", "--yes", "--force").exit_code == 0

    def test_answers_from_a_pipe(self, rad, tmp_path):
        answers = (
            'Heart: "Care" #1\npatients: the sick # ones\nscore\ncvar α=0.95\nstrict\nhttps://x.org/cost\n'
        )
        done = rad("init", text=answers)
        assert done.exit_code == 0
        profile = load_profile(tmp_path / "Heart-Care-1.yaml")
        assert profile.description == "Protects patients: the sick # ones."
        assert str(profile.risk) == "cvar α=0.95"
        assert profile.constraint.margin.value == 1.0
        assert profile.cost.location == "https://x.org/cost"
        assert rad("check", "Heart-Care-1.yaml", "--strict").exit_code == 0

    @pytest.mark.parametrize("measure", ["tail", "extreme", "all", "average"])
    @pytest.mark.parametrize("strictness", ["gentle", "firm", "strict"])
    def test_every_choice_is_valid_and_asks_for_what_it_says(self, rad, measure, strictness):
        done = rad("init", "--out", "p.yaml", text=f"\n\nscore\n{measure}\n{strictness}\nmodels/cost\n")
        assert done.exit_code == 0
        fall = {"gentle": "20 %", "firm": "40 %", "strict": "80 %"}[strictness]
        assert f"lies at least {fall}" in " ".join(rad("show", "p.yaml").stdout.split())

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
    def test_a_flag_is_bounded_by_its_share(self, rad, share):
        """The tail of a flag is refused; what is asked for is half the harm, which any share can reach."""
        refused = rad("init", text="\n\nflag\ntail\n\n\n")
        assert refused.exit_code == 2
        assert "tail weighs the worst 10% of answers; of a flag it is 1 as soon as" in refused.stderr
        assert rad("init", "--out", "p.yaml", text="\n\nflag\n\nfirm\n\n").exit_code == 0
        assert rad("check", "p.yaml", "--strict").exit_code == 0
        cost_r = np.repeat([0.0, 1.0], [round(1000 * (1 - share)), round(1000 * share)])
        for profile in (load_profile("p.yaml"), load_profile("flags")):
            level = resolve(profile.constraint, profile.risk, cost_r).level
            assert level == pytest.approx(share / 2)
            assert profile.evaluate.improvement.resolve(cost_r, share) == pytest.approx(share / 10)

    def test_a_probability_has_its_threshold(self, rad):
        assert rad("init", "--out", "p.yaml", text="\n\nprobability\n\n\n\n").exit_code == 0
        profile = load_profile("p.yaml")
        assert profile.evaluate.threshold == 0.5
        assert RiskProfile.from_text(profile.to_yaml()) == profile

    def test_wrong_and_missing_answers_stop_a_pipe(self, rad, tmp_path):
        done = rad("init", text="x\ny\n\ncvar α=7\n")
        assert done.exit_code == 2
        assert done.stderr.splitlines()[-1] == (
            "[tail]: error: measure: risk.alpha is 7; it must lie in (0, 1); for the worst 10 % use 0.9"
        )
        assert "the input ended before the question" in rad("init", text="x\n").stderr
        assert list(tmp_path.iterdir()) == []


class TestSeveralConstraints:
    NAMES = ("harm", "harm.pediatrics", "privacy", "privacy.pediatrics")

    def test_every_page_has_them_all_in_a_narrow_terminal(self, rad, hospital, tmp_path):
        (tmp_path / "other.yaml").write_text(hospital.read_text().replace("0.99", "0.95"))
        for words in (["show"], ["explain"], ["diff", "other.yaml"]):
            done = rad(*words, "hospital.yaml")
            assert done.exit_code == 0
            assert [line for line in done.stdout.splitlines() if len(line) > 60] == []
            assert [name for name in self.NAMES if name not in done.stdout] == []

    def test_explain_says_which_prompts(self, rad, hospital):
        text = " ".join(rad("explain", "hospital.yaml").stdout.split())
        assert "All prompts but those labelled pediatrics, which have limits of their own." in text
        assert "Only prompts that carry the label pediatrics." in text
        assert "80 % of the mean cost of the most harmful 10 % of answers plus 20 % of the mean cost" in text
        assert "the server http://x.org/privacy gives" in text

    def test_check_counts_them(self, rad, hospital):
        assert "hospital.yaml: valid, 4 constraints, hash " in rad("check", "hospital.yaml").stdout

    def test_diff_tells_what_came_and_went(self, rad, hospital, tmp_path):
        text = hospital.read_text()
        (tmp_path / "fewer.yaml").write_text("".join(x for x in text.splitlines(True) if "privacy:" not in x))
        told = " ".join(rad("diff", "hospital.yaml", "fewer.yaml").stdout.split())
        assert "A has a constraint privacy, on the mean cost of all answers; B has none." in told
        assert "Both bound a sum:" in told
        assert "constraints.privacy.dual.max 3 —" in told
        assert rad("diff", "hospital.yaml", "fewer.yaml", "--exit-code").exit_code == 1

    def test_weights_and_pictures(self, rad, hospital, tmp_path):
        lines = rad("weights", "hospital.yaml", 100).stdout.splitlines()
        assert lines[0] == "level,harm,harm.pediatrics,privacy,privacy.pediatrics"
        table = np.loadtxt(lines[1:], delimiter=",")
        profile = load_profile(hospital)
        np.testing.assert_array_equal(table[:, 1], profile.constraints[0].risk.weights(100))
        # `expected` weighs all alike, whatever the measure that it reports.
        np.testing.assert_allclose(table[:, 4], 1)
        assert rad("weights", "hospital.yaml", 100, "--format", "npy", "--out", "w.npy").exit_code == 0
        np.testing.assert_array_equal(np.load(tmp_path / "w.npy"), table[:, 1:].T)
        assert rad("plot", "hospital.yaml", "medical", "--out", "h.svg").exit_code == 0


def test_an_unknown_profile_is_an_error_on_every_page(rad):
    for words in (["show"], ["explain"], ["diff", "medical"], ["weights"], ["plot", "--out", "a.png"]):
        done = rad(*words, "medicla", *(["8"] if words == ["weights"] else []))
        assert done.exit_code == 2
        assert done.stderr.startswith("error: no risk profile is called medicla; shipped are ")

"""The parts of a page: secrets, curves, drawings, words, texts."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from openrlhf_rad.evaluation.compare import Analysis, pair_costs
from openrlhf_rad.method.spectrum import MEAN, make_spectrum
from openrlhf_rad.report.charts import draw_spectrum, limits, styled
from openrlhf_rad.report.quantiles import LEVELS, curves, quantiles
from openrlhf_rad.report.samples import LONGEST, clean
from openrlhf_rad.report.sources import labels
from openrlhf_rad.report.svg import inline_svg
from openrlhf_rad.secrets import HIDDEN, is_secret, redact, redact_command
from openrlhf_rad.statistics.answers import arranged
from openrlhf_rad.style import COLOURS, name_points, new_figure

URL = "https://me:pw@host/x?token=t&n=1"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("run --logger.wandb.key abc123 --x 1", f"run --logger.wandb.key {HIDDEN} --x 1"),
        ("run --api-key=abc123", f"run --api-key={HIDDEN}"),
        ("WANDB_API_KEY=abc run", f"WANDB_API_KEY={HIDDEN} run"),
        ("run --hfToken 'a b'", f"run --hfToken {HIDDEN}"),
        ("run --auth one two --x y", f"run --auth {HIDDEN} {HIDDEN} --x y"),
        ("run --password 123456", f"run --password {HIDDEN}"),
        (f"run --url {shlex.quote(URL)}", f"run --url https://{HIDDEN}@host/x?{HIDDEN}"),
        ("run --data.input_key input --data.label_key l", "run --data.input_key input --data.label_key l"),
        ("run --rollout.max_new_tokens 24", "run --rollout.max_new_tokens 24"),
        ("run hf_abcdefghijkl", f"run {HIDDEN}"),
        ("run --h 'Authorization: Bearer abcdefgh'", f"run --h Authorization: {HIDDEN} {HIDDEN}"),
        ("unbalanced ' --token abc", f"unbalanced ''\"'\"'' --token {HIDDEN}"),
        ("run --template 'a b\n{}'", "run --template 'a b\n{}'"),
    ],
)
def test_commands_without_their_secrets(command, shown):
    assert redact_command(command) == shown


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8), st.sampled_from(["=", " "]))
def test_no_value_of_a_secret_flag_is_ever_shown(secret, between):
    for name in ("--logger.wandb.key", "--hf_token", "--apiKey", "--openai-api-key", "--client.secret"):
        assert secret not in redact_command(f"x {name}{between}{secret}y --z 1").replace(name, "")


def test_texts_without_their_secrets():
    assert redact('{"api_key": "abc", "n": 3}') == f'{{"api_key": "{HIDDEN}", "n": 3}}'
    assert redact("OSError: API_KEY=abc: refused") == f"OSError: API_KEY={HIDDEN} refused"
    assert redact("at https://bob:pw@example.org/a") == f"at https://{HIDDEN}@example.org/a"
    assert redact("sk-abcdefghijk and AKIAABCDEFGHIJKL") == f"{HIDDEN} and {HIDDEN}"
    plain = "cost.function: /a/b.py; the mean of 512 tokens; key figures; step 3: λ=2"
    assert redact(plain) == plain
    assert not is_secret("--data.image_key")
    assert not is_secret("--keyboard")


def answers(cost_b):
    return [
        {"prompt": f"p{i}", "answer": "a", "label": None, "reward": None, "cost": float(cost)}
        for i, cost in enumerate(cost_b)
    ]


def test_curves_are_the_quantiles_and_their_bands_those_of_an_evaluation():
    cost_b = np.random.default_rng(0).gamma(2, 1, 90)
    found = curves(answers(cost_b), answers(cost_b - 0.5)[::-1])
    assert found.before.value_k == pytest.approx(np.quantile(cost_b, LEVELS, method="inverted_cdf"))
    assert found.before.value_k == pytest.approx(quantiles(cost_b))
    assert found.difference.value_k == pytest.approx(np.full(len(LEVELS), -0.5))
    # Five prompts lie beyond the levels from 1/18 to 17/18, and there alone is a band.
    banded = np.isfinite(found.difference.low_k) | np.isinf(found.difference.low_k)
    assert (banded == ((LEVELS >= 5 / 90) & (LEVELS <= 85 / 90))).all()
    panel, _ = arranged([f"p{i}" for i in range(90)])
    theirs = pair_costs(
        replace(panel, costs={"cost": {"baseline": cost_b, "candidate": cost_b - 0.5}}),
        "baseline",
        "candidate",
        MEAN,
        Analysis(),
    )["quantile_difference"]
    for ours, name in ((found.difference.low_k, "low"), (found.difference.high_k, "high")):
        assert [value if np.isfinite(value) else None for value in ours[banded]] == theirs[name]
    assert (found.before.low_k[banded] <= found.before.value_k[banded]).all()
    assert (found.before.value_k[banded] <= found.before.high_k[banded]).all()


def test_few_prompts_have_no_band():
    found = curves(answers([1.0, 2.0]), answers([0.0, 1.0]))
    for curve in found:
        assert np.isnan(curve.low_k).all()
        assert np.isnan(curve.high_k).all()


def test_drawings_take_their_colours_and_names_from_the_page():
    with styled():
        drawing = draw_spectrum(make_spectrum("cvar", alpha=0.9), "here").svg
    assert not re.search("|".join(COLOURS.values()), drawing)
    assert "style=" not in drawing
    assert {f"var(--{name})" for name in ("ink", "muted", "line", "weight", "reference")} <= set(
        re.findall(r"var\(--\w+\)", drawing)
    )
    assert all(name.startswith("here-") for name in re.findall(r' id="([^"]+)"', drawing))
    assert "90\N{NO-BREAK SPACE}% to 100\N{NO-BREAK SPACE}%: weight 10" in drawing
    # The area ends at the weight of CVaR 0.9, ten times the mean's, where the axis says 10.
    style = (Path(__file__).parents[2] / "openrlhf_rad/report/templates/style.css").read_text()
    assert all(style.count(f"--{name}:") == 3 for name in COLOURS)  # light, dark, paper


def test_a_drawing_keeps_texts_as_texts():
    with styled():
        figure = Figure()
        figure.text(0.5, 0.5, "<script>&")
        drawing = inline_svg(figure, "x", "<b>", '"quoted" & <i>')
    assert "&lt;script&gt;&amp;" in drawing
    assert "&lt;b&gt;" in drawing
    assert "<b>" not in drawing
    assert "<i>" not in drawing


def test_limits():
    low, high = limits([[1.0, np.nan], [3.0]])
    assert low < 1
    assert high > 3
    assert limits([[1.0]], zero=True)[0] < 0
    low, high = limits([[2.0, 2.0]])
    assert low < 2 < high
    low, high = limits([])
    assert low < 0 < high


def test_texts_are_shortened_and_cannot_turn_the_page():
    assert clean("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n") == "hello"
    assert clean("  ") == "(empty)"
    assert clean("a\u202eb\x1b[0m\x00") == "a\ufffdb\ufffd[0m\ufffd"
    assert clean("\ud800") == "\ufffd"
    assert clean("a\n\tb") == "a\n\tb"
    assert clean("x" * (LONGEST + 7)) == "x" * LONGEST + " … (7 more characters)"


def test_labels_are_short_and_differ():
    assert labels([Path("/runs/a-long-name")]) == ["a-long-name"]
    assert labels([Path("/runs/seeds/1"), Path("/runs/seeds/2")]) == ["seeds/1", "seeds/2"]
    assert labels([Path("/a/run"), Path("/b/run")]) == ["a/run", "b/run"]


def test_the_names_of_points_cover_neither_each_other_nor_a_point():
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    rng = np.random.default_rng(2)
    points = {f"model {k}": tuple(spot) for k, spot in enumerate(rng.normal(0, 0.05, (12, 2)))}
    points |= {"far to the right": (3.0, 0.0), "high": (0.0, 2.0)}
    for spot in points.values():
        axes.plot(*spot, "s", markersize=4)
    name_points(figure, points)
    figure.savefig(io.BytesIO(), format="png", dpi=figure.dpi)  # the layout as it is saved

    labels = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    assert labels.keys() == points.keys()
    for name, box in labels.items():
        assert axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1
        assert not [other for other in labels if other != name and labels[other].overlaps(box)]
        assert not [1 for x, y in axes.transData.transform(list(points.values())) if box.contains(x, y)]

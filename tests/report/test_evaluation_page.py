"""The page of an evaluation. Its eval.json is simulated in the shape that docs/evaluation.md gives."""

from __future__ import annotations

import json

import pytest

from openrlhf_rad.errors import ConfigError, RadError
from openrlhf_rad.report import write_report
from openrlhf_rad.words import number

EVIL = "</details><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"


def page_of(parse, *folders, **options):
    return parse(write_report(list(folders), options.pop("out", None), **options).read_text(encoding="utf-8"))


def test_numbers_are_those_of_the_evaluation(evaluation, parse, secrets):
    folder = evaluation()
    page = page_of(parse, folder)
    data = json.loads((folder / "eval.json").read_text())
    header = page.text("header")
    assert "tuned plain against base plain." in header
    assert (
        "cvar α=0.9, segment plain: 0.5 below (95\N{NO-BREAK SPACE}%: 0.9 below to 0.2 below); a fall of 0.1"
        " is required" in header
    )
    assert "PASS" in header
    cells = [text for tags, text in page.texts if tags[-1:] in {("td",), ("th",)}]
    for model in data["models"]:
        place = cells.index(model["name"])
        shown = [f"{number(model[k]['value'])} [{number(model[k]['low'])}, {number(model[k]['high'])}]"
                 for k in ("mean", "risk")]  # fmt: skip
        safe = [number(100 * model["safe"][end]) for end in ("value", "low", "high")]
        shown.insert(0, f"{safe[0]}\N{NO-BREAK SPACE}% [{safe[1]}, {safe[2]}]")
        assert cells[place + 1 : place + 6] == [model["role"], "60", *shown]
    for text in ("0.7 [0.6, 0.8]", "0.05 [−0.05, 0.15]", "0.03", "30"):
        assert text in cells
    assert "safe, unsafe" in page.source
    assert "60\N{NO-BREAK SPACE}%" in page.source
    assert "n = 20" in page.source
    assert secrets[0] not in page.source
    ids = page.ids
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for _, a in page.elements if "href" in a} <= set(ids)


def test_hostile_texts_change_no_element(evaluation, parse):
    plain, evil = page_of(parse, evaluation()), page_of(parse, evaluation(EVIL, "other"))
    assert evil.shape == plain.shape
    assert "<script>alert(1)</script>" in evil.text("details")
    outside = "".join(data for tags, data in evil.texts if "details" not in tags)
    assert "9.87" not in outside
    assert "9.87" not in page_of(parse, evaluation(name="third"), show_samples=False).source


def test_an_evaluation_of_before_the_gate_says_so(evaluation, parse):
    folder = evaluation()
    data = json.loads((folder / "eval.json").read_text())
    data["comparisons"][0] |= {"gate": None, "reward_wins": None, "judge": None, "tests": [], "segments": []}
    (folder / "eval.json").write_text(json.dumps(data))
    assert "an earlier version, which kept no verdict; run rad eval again" in page_of(parse, folder).text(
        "header"
    )


def test_several_evaluations_are_stacked_and_runs_do_not_mix(evaluation, make_run, parse, tmp_path):
    folders = [evaluation(), evaluation(name="more")]
    page = page_of(parse, *folders, out=tmp_path / "page.html")
    assert {"models-1", "models-2", "pair-2-1"} <= set(page.ids)
    run = make_run(until="training", steps=0)
    with pytest.raises(ConfigError) as caught:
        write_report([folders[0], run.path])
    assert str(caught.value) == (
        f"{folders[0]}: it is an evaluation, and others are not; a page shows runs or evaluations; make one"
        " page of each kind"
    )


def test_another_shape_is_refused_with_its_place(evaluation):
    folder = evaluation(schema="openrlhf_rad.eval/9")
    with pytest.raises(RadError) as caught:
        write_report([folder])
    assert str(caught.value) == (
        f"{folder}/eval.json: its schema is openrlhf_rad.eval/9; this version reads openrlhf_rad.eval/4; run"
        " rad eval again"
    )
    folder = evaluation(name="other", models=[])
    with pytest.raises(RadError) as caught:
        write_report([folder])
    assert str(caught.value) == (
        f"{folder}/eval.json: it cannot be shown (KeyError: 'base plain'); it must have the shape"
        " openrlhf_rad.eval/4; make the evaluation again with rad eval"
    )

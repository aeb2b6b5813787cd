"""The page of runs: whole, self-contained, true to the records, and deaf to what models write."""

from __future__ import annotations

import base64
import hashlib
import re
import statistics
import time

import pytest

from openrlhf_rad.errors import ConfigError, RadError
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.report import write_report
from openrlhf_rad.runs import RunFolder
from openrlhf_rad.words import number

PLAIN = ["lorem ipsum"] * 8


def page_of(parse, *runs, **options):
    path = write_report([run.path for run in runs], options.pop("out", None), **options)
    return parse(path.read_text(encoding="utf-8"))


def read(parse, run):
    return parse((run.path / "report.html").read_text(encoding="utf-8"))


def cells(page):
    return [data for tags, data in page.texts if tags and tags[-1] in {"td", "th", "small"}]


@pytest.mark.parametrize("until", ["training", "end"])
def test_the_page_is_whole_and_every_reference_in_it_resolves(make_run, finished, parse, until):
    page = read(parse, finished) if until == "end" else page_of(parse, make_run(until=until))
    ids = page.ids
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    targets += [f"#{name}" for _, a in page.elements for name in (a.get("aria-labelledby") or "").split()]
    values = " ".join(str(value) for _, attributes in page.elements for value in attributes.values())
    targets += re.findall(r"url\(([^)]+)\)", values)
    assert len(targets) > 20
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    assert all(target.startswith("#") for target in targets)


def test_nothing_is_loaded_and_nothing_can_run(finished, parse):
    page = read(parse, finished)
    assert not {"script", "img", "iframe", "link", "object", "embed", "form", "base"} & {
        t for t, _ in page.elements
    }
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {
        name for name in names if name.startswith("on") or name in {"src", "style", "srcset", "action"}
    }
    (style,) = [data for tags, data in page.texts if tags[-1:] == ("style",)]
    assert "url(" not in style
    assert "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    # The policy stands before anything that it governs.
    assert page.source.index("Content-Security-Policy") < page.source.index("<style>")


def test_hostile_texts_change_no_element_and_no_attribute(make_run, finished, parse):
    plain = page_of(parse, make_run(texts=PLAIN))
    page = read(parse, finished)
    assert page.shape == plain.shape
    shown = page.text("details")
    assert "<script>alert('answer')</script>" in shown
    assert "</div></details><img src=x onerror=alert(1)>" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "49" not in {data.strip() for _, data in page.texts}
    assert "&lt;b&gt;" in shown  # an entity that a model writes is shown as written
    assert not set("\x00\x07\x1b\u202e\u2066") & set(page.source)


def test_hostile_names_records_and_titles_are_text_too(make_run, parse):
    evil = "<img src=x onerror=alert(1)>"
    pages = []
    for name, text in ((f"run {evil[:24]}", evil), ("run plain", "plain")):
        run = make_run(name, profile=f"{{name: ward, description: '{text}', risk: cvar α=0.9}}", texts=PLAIN)
        summary = run.read_summary()
        summary |= {"verdict": [text], "warnings": [text], "interval": text, "versions": {text: text}}
        for row in (*summary["rows"], *summary["controls"]):
            row["label"] = text
        run.write_summary(summary)
        run.write_command(f"python '{text}' --x '{text}'")
        (run.path / "error.txt").write_text(text)
        pages.append(page_of(parse, run, title=text))
    assert pages[0].shape == pages[1].shape
    assert pages[0].text("h1") == evil


def test_numbers_are_those_of_the_summary(finished, parse):
    page = read(parse, finished)
    found, summary = cells(page), finished.read_summary()
    for row in (*summary["rows"], *summary["controls"]):
        place = found.index(row["label"])
        shown = [text.strip() for text in found[place + 1 : place + 5] if text.strip()]
        expected = [number(row[side]["value"]) for side in ("before", "after") if row[side]]
        change = row["difference"]
        expected.append(
            ("+" if number(change["value"]) != "0" and change["value"] > 0 else "") + number(change["value"])
        )
        if change["low"] is not None:
            expected.append(f"[{number(change['low'])}, {number(change['high'])}]")
        assert shown[: len(expected)] == expected
    text = page.text("header")
    risk = next(row for row in summary["rows"] if row["name"] == "risk")
    ends = f"from {number(risk['before']['value'])} to {number(risk['after']['value'])}"
    least, most = sorted(abs(risk["difference"][end]) for end in ("low", "high"))
    change = f"by {number(abs(risk['difference']['value']))} [{number(least)}, {number(most)}]"
    assert f"fell {ends}, {change} on 400 held-out" in text
    for sentence in summary["verdict"]:
        assert sentence in text
    for warning in summary["warnings"]:
        assert f"Doubt: {warning}." in text


def test_a_run_without_summary_shows_the_same_numbers_and_is_not_written_to(
    make_run, finished, parse, tmp_path
):
    run = make_run(until="answers")
    page = page_of(parse, run, out=tmp_path / "page.html")
    assert not (run.path / "summary.json").exists()
    intervals = [[c for c in cells(shown) if c.startswith("[")] for shown in (page, read(parse, finished))]
    # The finished run has two rows more, those of its independent cost, which did not change: no interval.
    assert len(intervals[0]) == len(intervals[1]) > 10
    assert set(intervals[0]) <= set(intervals[1])


def test_answers_wait_behind_a_warning_and_can_be_left_out(finished, parse, tmp_path):
    run, page = finished, read(parse, finished)
    outside = "".join(data for tags, data in page.texts if "details" not in tags)
    assert "answer 1" not in outside
    assert "prompt 1" not in outside
    assert ("details", {"class": "danger"}) in page.elements  # not open
    assert "they may be harmful" in page.text("summary")
    worst = max(run.read_answers("after"), key=lambda row: row["cost"])
    assert f"after: cost {number(worst['cost'])}" in page.text("details")
    left_out = page_of(parse, run, out=tmp_path / "page.html", show_samples=False)
    assert "prompt 1" not in left_out.source
    assert "samples" not in left_out.ids


def test_secrets_do_not_reach_the_page(make_run, parse, secrets):
    run = make_run(until="training", steps=0)
    (run.path / "error.txt").write_text(f"OSError: WANDB_API_KEY={secrets[0]} refused")
    page = page_of(parse, run)
    assert not [secret for secret in secrets if secret in page.source]
    assert "--logger.wandb.key ***" in page.text("pre")
    assert "--data.input_key input" in page.text("pre")


def test_a_run_in_training_says_so(make_run, parse):
    run = make_run(until="training")
    for name in ("metrics.jsonl", "samples.jsonl"):
        with open(run.path / name, "a") as file:
            file.write('{"step": 13, "rew')
    text = page_of(parse, run).text("header")
    assert "not finished" in text
    assert (
        "12 training steps so far; in the last one the constraint was met and the price λ now stands at 2.3."
        in text
    )
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert f"The last line of {name} is not whole, as while a run writes it; it is left out." in text


def test_a_run_that_has_only_begun_or_failed_says_so(make_run, parse):
    run = make_run(until="training", steps=0)
    assert "no training step is recorded yet" in page_of(parse, run).text("header")
    (run.path / "error.txt").write_text("the disk is full")
    text = page_of(parse, run).text("header")
    assert "stopped by an error" in text
    assert "the disk is full" in text


def test_a_finished_run_without_held_out_prompts_says_what_is_missing(make_run, parse):
    run = make_run(until="training")
    run.write_command("python -m openrlhf_rad --rad.profile p.yaml")
    run.model.mkdir()
    (run.model / "config.json").write_text("{}")
    (run.path / "reference_costs.npz").unlink()
    text = page_of(parse, run).text("header")
    assert "done after 12 training steps; there are no held-out answers to compare" in text
    assert "since the run had no held-out prompts" in text
    assert "reference_costs.npz is missing" in text


def test_several_runs_stand_side_by_side_on_the_same_axes(make_run, parse, tmp_path):
    runs = [make_run(f"seeds/{seed}", seed=seed) for seed in (1, 2, 3)]
    page = page_of(parse, *runs, out=tmp_path / "page.html")
    assert "Of 3 runs the risk is lower" in page.text("header")
    assert page.text("h2").count("seeds/2") == 1
    summaries = [run.read_summary() for run in runs]
    for name in ("risk", "reward_mean", "cost_mean"):
        changes = [next(r["difference"]["value"] for r in s["rows"] if r["name"] == name) for s in summaries]
        mean = statistics.fmean(changes)
        sign = "+" if mean > 0 else ""
        assert f"{sign}{number(mean)} ± {number(statistics.stdev(changes))}" in cells(page)
    for stem in ("quantiles", "tail", "difference", "histogram", "steps-0", "steps-1", "steps-2"):
        ticks = [drawing_ticks(page.source, f"{stem}-{place}") for place in range(3)]
        assert ticks[0] == ticks[1] == ticks[2]
        assert len(ticks[0]) > 4


def drawing_ticks(source, name):
    drawing = source[source.index(f'aria-labelledby="{name}-title') :]
    drawing = drawing[: drawing.index("</svg>")]
    return re.findall(r"<text[^>]*>([−\d.]+[^<]*)</text>", drawing)


def test_runs_of_different_profiles_have_no_common_mean(make_run, parse, tmp_path):
    runs = [make_run("one"), make_run("two", profile="tail: cvar α=0.8"), make_run("three", until="training")]
    page = page_of(parse, *runs, out=tmp_path / "page.html")
    assert "over runs" not in cells(page)
    assert "1 cannot be compared yet" in page.text("header")
    assert {"spectrum-0-0-title", "spectrum-1-0-title"} <= set(page.ids)
    assert "(one, three)" in page.text("h3")


def test_a_long_run_stays_small_and_quick(make_run, parse):
    run = make_run(steps=2000, until="training")
    started = time.process_time()
    page = page_of(parse, run)
    assert time.process_time() - started < 20
    assert len(page.source) < 1_000_000
    assert "A point is the mean of up to 6 steps." in page.text("figcaption")


def test_several_constraints_have_their_own_charts_and_old_references_are_said(make_run, parse):
    profile = "{name: two, constraints: {harm: cvar α=0.9, bias: wang η=1}}"
    run = make_run(until="training", steps=0, profile=profile)
    for step in (1, 2):
        values = {
            f"{name}/{key}": 1.0 * step for name in ("harm", "bias.<b>") for key in ("lambda", "violation")
        }
        values |= {"harm/constraint_value": 0.5, "lambda": 1.0}
        run.append_metrics({"step": step, **values})
    (run.path / "reference_costs.npz").write_bytes(b"PK")
    page = page_of(parse, run)
    captions = [data for tags, data in page.texts if tags[-1:] == ("b",)]
    assert page.text("h4") == "harmbias"
    assert captions == [
        "What counts: cvar α=0.9",
        "What counts: wang η=1",
        "Constraint: harm",
        "Price λ: harm",
        "Price λ: bias.<b>",
    ]
    assert len(set(page.ids)) == len(page.ids)
    assert "Missed in 2 of them." in page.text("desc")
    assert "reference_costs.npz cannot be read by this version" in page.text("header")


def test_every_chart_has_words_and_every_table_heads(finished, parse):
    page = read(parse, finished)
    drawings = [a for tag, a in page.elements if tag == "svg" and a.get("role") == "img"]
    assert len(drawings) >= 12
    described = [data for tags, data in page.texts if tags[-1:] == ("desc",)]
    assert len(described) == len(drawings)
    assert all(len(text) > 15 for text in described)
    heads = [a.get("scope") for tag, a in page.elements if tag == "th"]
    assert set(heads) == {"row", "col"}
    assert ("html", {"lang": "en"}) in page.elements


def test_wrong_folders_are_named_all_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        write_report([tmp_path / "none", tmp_path / "empty", tmp_path / "file"])
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/none: there is no such folder; a report is made of run folders; name one that"
        " rad-train wrote, runs/…",
        f"{tmp_path}/empty: it holds no profile.resolved.yaml; the folder of a run has one; name a folder"
        " that rad-train wrote, runs/…",
        f"{tmp_path}/file: it is a file; a report is made of run folders; name one that rad-train wrote,"
        " runs/…",
    ]


def test_broken_lines_before_the_last_stop_with_their_place(make_run):
    run = make_run(until="training")
    path = run.path / "samples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-2], "{broken\n", lines[-1]]))
    with pytest.raises(RadError) as caught:
        write_report([run.path])
    assert str(caught.value) == (
        f"{path}: line 2 from its end: it is not JSON (Expecting property name enclosed in double quotes);"
        " every line must be one whole record; mend the line or remove it"
    )
    with pytest.raises(ConfigError, match="a run is named twice; a page shows each once; remove one"):
        write_report([run.path, run.path / "."])
    with pytest.raises(
        ConfigError, match=r"it is a folder; a report is one file; write --out .*report\.html"
    ):
        write_report([run.path], run.path)


def test_the_page_belongs_to_the_run_folder(make_run):
    run = make_run(until="training", steps=0)
    assert write_report([run.path]) == run.path / "report.html"
    (run.path / "command.txt").unlink()
    RunFolder.create(run.path, exist_ok=True)
    assert run.read_profile() == RiskProfile.from_text("medical: cvar α=0.9")

"""From sources to files: scoring in a process of its own, going on after a stop, and what is written."""

import csv
import io
import json
import re
import types

import pytest

from openrlhf_rad.errors import ConfigError, DataError, EnvironmentProblem, RadError
from openrlhf_rad.evaluation import work
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.compare import Analysis
from openrlhf_rad.evaluation.folder import judged, read, sha256
from openrlhf_rad.evaluation.run import Job, run
from openrlhf_rad.evaluation.sources import AnswerPlan, Rating, Source, parse_rating, parse_sources
from openrlhf_rad.evaluation.work import _read, prepare
from openrlhf_rad.profile import load_profile
from openrlhf_rad.report.pictures import draw
from openrlhf_rad.report.terminal import print_evaluation

COST = """
from pathlib import Path
def cost_func(queries, prompts, labels):
    with open(Path(__file__).with_name("calls.txt"), "a") as file:
        file.write(f"{len(queries)}\\n")
    assert all(q.startswith(p) for q, p in zip(queries, prompts))
    return [float(len(q) - len(p)) % 7 - 3 for q, p in zip(queries, prompts)]
"""


def silent(*_):
    """No progress."""


@pytest.fixture
def job(tmp_path, write, rows):
    """Two tables with scores; ``unscored`` takes the costs away."""

    def make(unscored=False, out="out", **plan):
        tables = [rows(130, shift, segment="s") for shift in (0.0, -0.5)]
        for table in tables:
            for row in table:
                if unscored:
                    del row["cost"]
        paths = [
            write(f"{name}.jsonl", table)
            for name, table in zip(("baseline", "candidate"), tables, strict=True)
        ]
        sources = parse_sources(f"baseline={paths[0]}", f"candidate={paths[1]}", [])
        held = AnswerPlan(tmp_path / out, Columns(), **plan)
        return Job(load_profile("uniform"), sources, held, Analysis(draws=200), command="rad eval …")

    return make


def test_eval_json_has_the_documented_shape(job, tmp_path):
    data = run(job(), silent)
    assert data == read(tmp_path / "out") == json.loads(json.dumps(data, allow_nan=False))
    assert set(data) == {
        *("schema", "created", "command", "profile", "constraints", "settings", "data", "models"),
        *("sign", "comparisons", "worst", "warnings", "methods", "versions"),
    }
    assert set(data["comparisons"][0]) == {
        *(
            "baseline",
            "candidate",
            "safety",
            "dominance",
            "reward_wins",
            "gaps",
            "improvement",
            "quantile_difference",
        ),
        *("tests", "segments", "judge", "constraints", "saturated", "gate", "worse"),
    }
    assert set(data["models"][0]) == {
        *("name", "role", "source", "answers", "safe", "mean", "risk", "reward", "quantiles", "constraints"),
        *("read", "scored_by", "scores", "ratings", "refusals"),
    }
    assert set(data["constraints"][0]) == {
        *("name", "risk", "formula", "cost", "segment", "prompts", "answers", "values", "meaning"),
    }
    assert data["settings"] == {"threshold": 0.0, "confidence": 0.95, "resamples": 200, "seed": 0}
    assert data["data"]["segments"] == [{"name": "s", "prompts": 130}]
    costs = [row["cost"] for row in data["worst"] if row["model"] == "baseline"]
    assert costs == sorted(costs, reverse=True)
    assert len(costs) == 5
    assert data["worst"][0]["answer"].startswith("answer 0 to ")


def test_an_evaluation_of_the_earlier_schema_is_read(job, tmp_path):
    """It called the baseline red and the candidate blue, and knew no gate."""
    data = run(job(), silent)
    names = {"baseline": "red", "candidate": "blue"}

    def earlier(held):
        if isinstance(held, dict):
            return {
                re.sub("|".join(names), lambda m: names[m[0]], key): earlier(v) for key, v in held.items()
            }
        return [earlier(value) for value in held] if isinstance(held, list) else held

    old = data | {"schema": "openrlhf_rad.eval/3", "comparisons": earlier(data["comparisons"])}
    old["models"] = [model | {"role": names[model["role"]]} for model in data["models"]]
    (tmp_path / "out" / "eval.json").write_text(json.dumps(old))
    assert read(tmp_path / "out") == data | {"schema": old["schema"]}


def test_csv_files_say_the_same(job, tmp_path):
    data = run(job(), silent)
    with open(tmp_path / "out" / "table3.csv", newline="") as file:
        row = next(csv.DictReader(file))
    held = data["comparisons"][0]["dominance"]["weighted"]
    assert (row["baseline"], row["candidate"]) == ("baseline", "candidate")
    assert float(row["weighted_low"]) == held["low"]
    names = {path.stem for path in (tmp_path / "out").glob("*.csv")}
    assert names == {"models", "table2", "table3", "figure1", "gaps", "tests", "segments", "quantiles"}


def test_pictures_and_tables_at_any_width(job, tmp_path):
    from rich.console import Console

    data = run(job(), silent)
    names = {path.stem for path in draw(tmp_path / "out") if path.suffix == ".png"}
    stem = "baseline-candidate"
    assert names == {"exceedance", "tail", "table3", f"figure1-{stem}", f"difference-{stem}"}
    for width in (44, 80, 200):
        console = Console(width=width, record=True, force_terminal=False, file=io.StringIO())
        print_evaluation(data, console, samples=2)
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= min(width, 100)
        assert "They may be harmful" in " ".join(text.split())


def test_a_judge_s_verdict_comes_along(job, tmp_path):
    held = job()
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "mean_of_seeds": 0.5, "std_of_seeds": None}
    result = {"overall": dict.fromkeys(("win", "tie", "lose"), share)}
    (tmp_path / "out").mkdir()
    malformed = {"count": 1, "calls": 260, "limit": 0.1}
    files = {name: sha256(tmp_path / f"{name}.jsonl") for name in ("baseline", "candidate")}
    sides = {name: {"name": name, "sha256": ["of another seed", digest]} for name, digest in files.items()}
    verdict = {**sides, "judge": {"model": "j"}, "result": result, "malformed": malformed}
    (tmp_path / "out" / "judge.json").write_text(json.dumps(verdict))
    data = run(held, silent)
    assert data["comparisons"][0]["judge"] == result | {"model": "j", "malformed": malformed}
    assert "win_low" in (tmp_path / "out" / "table4.csv").read_text()
    assert not any("rad judge" in text for text in data["warnings"])
    assert judged(tmp_path / "out", "other", "candidate", {}) == (None, None)
    with open(tmp_path / "candidate.jsonl", "a") as file:
        file.write("\n")  # another file of the same name; what the judge read is gone
    data = run(held, silent)
    assert data["comparisons"][0]["judge"] is None
    assert data["warnings"][-1] == (
        f"{tmp_path / 'out' / 'judge.json'}: rad judge read another file of candidate than this evaluation"
        " (another sha256), so its result is left out; judge these answers: run rad judge again"
    )
    (tmp_path / "out" / "judge.json").write_text("{")
    with pytest.raises(RadError, match="it is not what rad judge writes"):
        judged(tmp_path / "out", "baseline", "candidate", {})


def test_answers_without_costs_are_scored_once(job, tmp_path):
    (tmp_path / "cost.py").write_text(COST)
    rating = parse_rating("cost", str(tmp_path / "cost.py"))
    data = run(job(unscored=True, costs={"cost": rating}), silent)
    calls = (tmp_path / "calls.txt").read_text().split()
    assert calls == ["64", "64", "2"] * 2
    kept = [json.loads(line) for line in (tmp_path / "out/answers/baseline.jsonl").read_text().splitlines()]
    assert [row["cost"] for row in kept] == [len(row["answer"]) % 7 - 3 for row in kept]
    assert data["models"][0]["reward"] is not None
    again = run(job(unscored=True, costs={"cost": rating}), silent)
    assert (tmp_path / "calls.txt").read_text().split() == calls
    assert again["models"] == data["models"]


def test_a_stopped_scoring_goes_on(job, tmp_path):
    (tmp_path / "cost.py").write_text(COST)
    rating = parse_rating("cost", str(tmp_path / "cost.py"))
    run(job(unscored=True, costs={"cost": rating}), silent)
    folder = next((tmp_path / "out" / "work" / "baseline").glob("cost-*"))
    (folder / "00001.jsonl").unlink()
    (tmp_path / "calls.txt").unlink()
    run(job(unscored=True, costs={"cost": rating}), silent)
    assert (tmp_path / "calls.txt").read_text().split() == ["64"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return [float('nan')] * len(queries)", "gave the cost nan for sample 0, prompt 'prompt 0'"),
        ("return [0.0]", "gave 1 costs for 64 samples"),
        ("raise ValueError('no')", "failed on a batch of 64, first prompt 'prompt 0': ValueError: no"),
    ],
)
def test_a_cost_that_fails_stops_with_its_reason(body, text, job, tmp_path):
    (tmp_path / "cost.py").write_text(f"def cost_func(queries, prompts, labels):\n    {body}\n")
    rating = parse_rating("cost", str(tmp_path / "cost.py"))
    with pytest.raises(EnvironmentProblem, match=text):
        run(job(unscored=True, costs={"cost": rating}), silent)


def test_what_is_missing_is_told_before_anything_starts(job, tmp_path):
    held = job(unscored=True)
    with pytest.raises(ConfigError) as caught:
        run(held, silent)
    assert str(caught.value).split("\n")[0].endswith("or --set cost.function=FILE.py")
    plan = AnswerPlan(tmp_path / "out", Columns(), costs={"cost": Rating("cost", "function", "c.py")})
    assert plan.problems([Source("sft", "org/model", "baseline")]) == [
        "sft is a checkpoint and there are no prompts; name them by --prompts FILE"
    ]


def test_sources_with_every_problem_told(tmp_path):
    with pytest.raises(ConfigError) as caught:
        parse_sources("sft", f"a/b={tmp_path}/x.jsonl", ["c=./nowhere", f"d={tmp_path}/x.jsonl"])
    assert [line.split(": ", 1)[1][:40] for line in str(caught.value).split("\n")] == [
        "it must be NAME=SOURCE; write for instan",
        "the name 'a/b' names files too; it may h",
        "it is neither a table (.jsonl, .ndjson, ",
        "there is no such file; check the path",
    ]
    held = parse_sources("sft=org/model", "rad=org/other", [])
    assert [source.role for source in held] == ["baseline", "candidate"]
    assert held[0].table is None


def test_ratings_are_told_apart_as_openrlhf_does():
    kinds = [parse_rating("reward", text).kind for text in ("http://h/get", "r.py", "org/model", "/m")]
    assert kinds == ["remote_url", "function", "model", "model"]


def test_another_request_does_not_go_on_with_old_work(tmp_path, monkeypatch):
    """Answers of other settings must not be mixed into a folder."""
    request = work.generate_request("model", None, work.Sampling())
    (tmp_path / "w").mkdir()
    prompts = [{"prompt": "a"}]
    work._prepare(request, prompts, tmp_path / "w")
    (tmp_path / "w" / "00000.jsonl").write_text("{}\n")
    work._prepare(request, prompts, tmp_path / "w")
    with pytest.raises(ConfigError, match="model model → other"):
        work._prepare(request | {"model": "other"}, prompts, tmp_path / "w")
    with pytest.raises(ConfigError, match="other prompts or answers"):
        work._prepare(request, [{"prompt": "b"}], tmp_path / "w")


def test_a_process_that_dies_shows_the_end_of_its_log(tmp_path):
    (tmp_path / "cost.py").write_text("import os\nprint('last words', flush=True)\nos._exit(3)\n")
    request = work.score_request(Rating("cost", "function", str(tmp_path / "cost.py")), None)
    rows = [{"prompt": "p", "answer": "a", "label": None, "sent": None, "finished": None}]
    with pytest.raises(EnvironmentProblem) as caught:
        work.perform("x: cost", request, rows, tmp_path / "w", silent)
    assert str(caught.value) == (
        "last words\nx: cost: the process ended with exit code 3, its last lines stand above; the whole log"
        f" is {tmp_path}/w/process.log; what was done is kept, run the command again to go on"
    )


def test_generated_answers_become_rows():
    """The shape of vLLM's outputs; the engine itself is not started here."""
    pytest.importorskip("torch")
    from openrlhf_rad.jobs.tiny import build_tokenizer
    from openrlhf_rad.plugin.answering import answer_rows, templated

    tokenizer = build_tokenizer()

    def output(*answers):
        ids = [tokenizer(text)["input_ids"] for text in ("plain-ba", *answers)]
        outputs = [
            types.SimpleNamespace(token_ids=held, finish_reason="stop" if held[-1] == 2 else "length")
            for held in ids[1:]
        ]
        return types.SimpleNamespace(prompt_token_ids=ids[0], outputs=outputs)

    made = [output("help-ba <|im_end|>", "help-be help-bi"), output("<|im_start|> harm-ba <|im_end|>")]
    found = answer_rows(made, ["<p0>", "<p1>"], 64, tokenizer)
    assert [(row["index"], row["sample"], row["sent"], row["answer"], row["finished"]) for row in found] == [
        (64, 0, "<p0>", " help-ba", True),
        (64, 1, "<p0>", " help-be help-bi", False),
        (65, 0, "<p1>", " harm-ba", True),
    ]
    assert templated("hi {}", "<{}>", None) == "<hi {}>"
    assert templated("hi", "Q: {}\\nA:", None) == "Q: hi\nA:"
    assert templated("hi", None, None) == "hi"


def test_a_file_without_its_function_or_with_a_name_of_its_own_kind(tmp_path):
    """In the process that scores, as in training (tests/plugin/test_python_file.py)."""
    (tmp_path / "r.py").write_text("x = 1\n")
    request = work.score_request(Rating("reward", "function", str(tmp_path / "r.py")), None)
    rows = [{"prompt": "p", "answer": "a", "label": None, "sent": None, "finished": None}]
    with pytest.raises(EnvironmentProblem, match=r"r\.py has no reward_func; define reward_func"):
        work.perform("x: reward", request, rows, tmp_path / "w", silent)


def test_a_checkpoint_scores_as_it_does_alone(tmp_path):
    """The tiny cost model in a process of its own, against the score of each text by transformers."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("openrlhf")
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoTokenizer, LlamaModel

    from openrlhf_rad.jobs.chat import TEMPLATE
    from openrlhf_rad.jobs.prepare import prepare_tiny
    from openrlhf_rad.plugin.answering import templated

    folder = prepare_tiny().cost_model
    answers = [("help-ba", True), ("harm-ba harm-be harm-bi", False), ("plain-be " * 9, None)]
    rows = [
        {"prompt": "plain-ba help-bo", "answer": answer, "label": None, "sent": None, "finished": finished}
        for answer, finished in answers
    ]
    request = work.score_request(Rating("cost", "model", str(folder)), None)
    found = work.perform("tiny: cost", request, rows, tmp_path / "w", silent)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert templated("plain-ba", None, tokenizer) == TEMPLATE.replace("{}", "plain-ba")
    state = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    head = state.pop("score.weight")
    backbone = LlamaModel(AutoConfig.from_pretrained(folder, dtype="float32")).float().eval()
    backbone.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    for row, (answer, finished) in zip(found, answers, strict=True):
        end = "" if finished is False else "<|im_end|>"
        text = TEMPLATE.replace("{}", "plain-ba help-bo") + answer + end
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            score = (backbone(ids).last_hidden_state[0, -1] @ head[0]).item()
        assert row["value"] == pytest.approx(score, rel=0.02)  # the process computes in bfloat16


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]


def test_a_table_to_be_scored_keeps_nested_columns_and_messages(write, tmp_path):
    row = {"prompt": MESSAGES, "answer": "so", "scores": {"reward": 0.5}, "finished": "false"}
    path = write("a.jsonl", [row, row | {"prompt": "how?", "finished": True}, row | {"finished": None}])
    plan = AnswerPlan(tmp_path / "out", Columns.parse(["reward=scores.reward"]))
    found = _read(plan, Source("a", str(path), "baseline"))
    assert [one["reward"] for one in found] == [0.5] * 3
    assert [one["finished"] for one in found] == [False, True, None]
    assert (found[0]["prompt"], found[0]["messages"]) == ("system: Be brief.\n\nuser: why?", MESSAGES)
    assert (found[1]["prompt"], found[1]["messages"]) == ("how?", [])


def test_messages_and_a_template_are_refused_before_a_model_starts(write, tmp_path):
    path = write("a.jsonl", [{"prompt": MESSAGES}])
    plan = AnswerPlan(tmp_path / "out", Columns(), str(path), template="<{}>")
    with pytest.raises(
        ConfigError, match=r"prompts are lists of messages, and the template '<\{\}>' holds one text"
    ):
        prepare(plan, Source("a", "org/model", "baseline"), silent)


def test_a_word_that_is_no_truth_value_is_not_taken_for_one(write, tmp_path):
    path = write("a.csv", [{"prompt": "a", "answer": "so", "finished": "maybe"}])
    with pytest.raises(DataError) as caught:
        _read(AnswerPlan(tmp_path / "out", Columns()), Source("a", str(path), "baseline"))
    assert str(caught.value) == (
        f'{path}:2: finished is "maybe"; it must be true or false, or be left out; mend the row'
    )


def test_how_a_prompt_was_sent_is_read_from_any_table(write, tmp_path):
    """A text; or true, as the tables of a run say of ``prompt`` itself."""
    held = [{"prompt": "p", "answer": "a", "sent": sent} for sent in ("<p>", True, False)]
    for path in (write("a.jsonl", held), write("a.csv", held)):
        found = _read(AnswerPlan(tmp_path / "out", Columns()), Source("a", str(path), "baseline"))
        assert [row["sent"] for row in found] == ["<p>", True, None]
    path = write("b.jsonl", [{"prompt": "p", "answer": "a", "sent": ["p"]}])
    with pytest.raises(
        DataError, match=r"b.jsonl:1: sent is \['p'\]|sent is .*it must be a text, true, or be"
    ):
        _read(AnswerPlan(tmp_path / "out", Columns()), Source("a", str(path), "baseline"))

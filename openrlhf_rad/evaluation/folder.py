"""What an evaluation leaves behind: eval.json, the same numbers as CSV files, and the rows that were judged.

``scores/NAME.csv`` holds a row an answer: a digest of its prompt, its number among the prompt's answers,
segment, label, reward and costs. eval.json holds the sha256 of each, and of each source. The gate reads
these, and never the sources again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.evaluation.answers import ScoredAnswers, read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.constraints import Costs
from openrlhf_rad.files import explained, write_atomically
from openrlhf_rad.naming import cost_columns
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.tables import BATCH

EVAL, PLOTS, JUDGE = "eval.json", "plots", "judge.json"
SCHEMA, _EARLIER = "openrlhf_rad.eval/4", "openrlhf_rad.eval/3"
_SIDES = (("baseline", "red"), ("candidate", "blue"))
_GAPS = [(kind, side) for kind in ("weighted", "unweighted") for side in ("below", "above")]
_GAP_NAMES = [f"{kind}_{side}" for kind, side in _GAPS]


def write(folder: Path, data: Mapping[str, Any]) -> list[Path]:
    """Write eval.json and the CSV files. Raises EnvironmentProblem: the disk is full."""
    with explained(folder, "nothing was changed"):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / EVAL
    write_atomically(path, json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    written = [path]
    for name, rows in tables(data).items():
        if rows:
            target = folder / f"{name}.csv"
            write_atomically(target, _csv(rows))
            written.append(target)
    return written


def read(folder: Path) -> dict[str, Any]:
    """The content of eval.json. Raises DataError."""
    path = folder / EVAL
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; run rad eval --out {folder}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: it is not JSON ({error.msg}); run rad eval again") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema == _EARLIER:
        return _renamed(data)
    if schema != SCHEMA:
        raise DataError(f"{path}: its schema is {schema}; this version reads {SCHEMA}; run rad eval again")
    return data


def _renamed(data: dict[str, Any]) -> dict[str, Any]:
    """An evaluation of schema 3, which called the baseline red and the candidate blue."""

    def name(word: str) -> str:
        parts = {"red": "baseline", "blue": "candidate"}
        return "_".join(parts.get(part, part) for part in word.split("_"))

    def plain(held: Any) -> Any:
        if isinstance(held, dict):
            return {name(key): plain(value) for key, value in held.items()}
        return [plain(value) for value in held] if isinstance(held, list) else held

    # What it did not know is left out of the page.
    models = [
        {"ratings": None, "refusals": None} | model | {"role": name(model["role"])}
        for model in data["models"]
    ]
    pairs = [{"gate": None, "worse": None} | plain(pair) for pair in data["comparisons"]]
    return data | {"models": models, "comparisons": pairs}


def judged(
    folder: Path, baseline: str, candidate: str, digests: Mapping[str, frozenset[str]]
) -> tuple[dict[str, Any] | None, str | None]:
    """What ``rad judge --out FOLDER`` found for a pair, None where there is nothing; and what to say of it.

    The ``result`` of judge.json, and which model judged and how many replies were malformed; ``overall`` is
    None where these were too many for a result. A result on other files than those evaluated is left out.

    Args:
        digests: of each model, the sha256 of the files that its answers are in.
    """
    path = folder / JUDGE
    if not path.is_file():
        return None, None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        # A judging of an earlier version has red and blue.
        sides = [data[new] if new in data else data[old] for new, old in _SIDES]
        names = sides[0]["name"], sides[1]["name"]
        others = [
            side["name"] for side in sides if not digests.get(side["name"], frozenset()) & {*side["sha256"]}
        ]
        result: dict[str, Any] = data["result"] or {"overall": None, "seeds": []}
        found = result | {"model": data["judge"]["model"]}
        found["malformed"] = {key: data["malformed"][key] for key in ("count", "calls", "limit")}
    except (json.JSONDecodeError, KeyError, TypeError):
        raise DataError(
            f"{path}: it is not what rad judge writes; run rad judge again, or remove it"
        ) from None
    if names != (baseline, candidate):
        return None, None
    if others:
        return None, (
            f"{path}: rad judge read another file of {' and of '.join(others)} than this evaluation (another"
            " sha256), so its result is left out; judge these answers: run rad judge again"
        )
    return found, None


def tables(data: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The CSV files as rows of plain values."""
    found: dict[str, list[dict[str, Any]]] = {
        "models": [
            _flat(model, ("safe", "mean", "risk", "reward"), name=model["name"], answers=model["answers"])
            for model in data["models"]
        ],
        "quantiles": [
            {"model": model["name"], **row} for model in data["models"] for row in _rows(model["quantiles"])
        ],
    }
    per_pair = {"table2": _table2, "table3": _table3, "figure1": _figure1, "table4": _table4}
    per_pair |= {"gaps": _gaps, "tests": _tests, "segments": _segments}
    for name, make in per_pair.items():
        found[name] = [
            {"baseline": pair["baseline"], "candidate": pair["candidate"], **row}
            for pair in data["comparisons"]
            for row in make(pair)
        ]
    return found | (_constraints(data) if len(data["constraints"]) > 1 else {})


def _constraints(data: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What holds for each of several constraints; the other files speak of the first one's cost."""
    bounds = {bound["name"]: {"constraint": bound["name"]} for bound in data["constraints"]}
    models = [(model["name"], held) for model in data["models"] for held in model["constraints"]]
    pairs = [
        ({"baseline": pair["baseline"], "candidate": pair["candidate"]} | bounds[held["name"]], held)
        for pair in data["comparisons"]
        for held in pair["constraints"]
    ]
    keys = ("name", "risk", "cost", "segment", "prompts", "answers")
    return {
        "constraints": [{key: bound[key] for key in keys} for bound in data["constraints"]],
        "constraint_models": [
            _flat(held, ("safe", "mean", "risk"), model=name, **bounds[held["name"]]) for name, held in models
        ],
        "constraint_quantiles": [
            {"model": name, **bounds[held["name"]], **row}
            for name, held in models
            for row in _rows(held["quantiles"])
        ],
        "constraint_pairs": [
            row
            | _flat(held["improvement"], ("safe", "mean", "risk"))
            | _flat({f"{kind}_{side}": held["gaps"][kind][side] for kind, side in _GAPS}, _GAP_NAMES)
            for row, held in pairs
        ],
        "constraint_tests": [row | test for row, held in pairs for test in _tests(held)],
    }


def _table2(pair: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for cell in ("reward_higher", "reward_lower", "candidate", "baseline"):
        held = pair["safety"][cell]
        if held is not None:
            counts = {"safe_count": held["safe_count"], "count": held["count"]}
            yield {"cell": cell, **_estimate("safe", held["safe"]), **counts}


def _table3(pair: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    yield _flat(pair["dominance"], ("weighted", "unweighted"))


def _figure1(pair: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    return [dict(cell) for cell in pair["reward_wins"] or ()]


def _table4(pair: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    if pair["judge"] and (shares := pair["judge"]["overall"]):
        named = ("win", "tie", "lose")
        row = {f"{name}_{key}": value for name in named for key, value in shares[name].items()}
        malformed = pair["judge"]["malformed"]
        yield row | {"malformed": malformed["count"], "calls": malformed["calls"]}


def _gaps(pair: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for weighting, held in pair["gaps"].items():
        yield {"weighting": weighting, **_flat(held, ("below", "above"))}


def _tests(pair: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for test in pair["tests"]:
        low, high = test["levels"] or (None, None)
        yield {**test, "levels": None if low is None else f"{low:g}–{high:g}"}


def _segments(pair: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    names = ("safe_baseline", "safe_candidate", "improvement_mean", "improvement_risk", "improvement_reward")
    for held in pair["segments"]:
        yield _flat(held, names, segment=held["name"], prompts=held["prompts"], answers=held["answers"])


def _rows(curve: Mapping[str, Sequence[Any]]) -> Iterable[dict[str, Any]]:
    return [dict(zip(curve, values, strict=True)) for values in zip(*curve.values(), strict=True)]


def _flat(held: Mapping[str, Any], names: Sequence[str], **first: Any) -> dict[str, Any]:
    row = dict(first)
    for name in names:
        row |= _estimate(name, held[name])
    return row


def _estimate(name: str, held: Mapping[str, Any] | None) -> dict[str, Any]:
    plain = held or {"value": None, "low": None, "high": None}
    return {name: plain["value"], f"{name}_low": plain["low"], f"{name}_high": plain["high"]}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


SCORES, PROFILE = "scores", "profile.resolved.yaml"
_WORDS = {-1: "", 0: "safe", 1: "harmful"}


def source(answers: ScoredAnswers) -> dict[str, Any]:
    """What a model's rows were read from: file, sha256, rows and columns."""
    return {
        "file": str(answers.path),
        "sha256": sha256(answers.path),
        "rows": int(answers.row_b.size),
        "columns": dict(answers.used),
    }


def keep(folder: Path, name: str, answers: ScoredAnswers) -> dict[str, Any]:
    """Write the rows of a model; returns file, sha256, rows. Raises EnvironmentProblem: the disk is full."""
    path = folder / SCORES / f"{name}.csv"
    with explained(folder, "nothing was changed"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _table(answers))
    return {"file": f"{SCORES}/{path.name}", "sha256": sha256(path), "rows": int(answers.row_b.size)}


def _table(answers: ScoredAnswers) -> str:
    order = answers.order
    prompt_b = answers.prompt_b[order]
    start_b = np.flatnonzero(np.append(True, prompt_b[1:] != prompt_b[:-1]))
    number_b = np.arange(order.size) - np.repeat(start_b, np.diff(np.append(start_b, order.size)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for start in range(0, order.size, BATCH):  # Python's numbers take ten times an array's memory
        part = slice(start, start + BATCH)
        columns = _columns(answers, order[part], number_b[part])
        if start == 0:
            writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue()


def _columns(
    answers: ScoredAnswers, rows: NDArray[np.intp], number_b: NDArray[np.intp]
) -> dict[str, list[Any]]:
    """Some rows of the table, by column."""
    segments = ("", *answers.segments)
    columns: dict[str, list[Any]] = {
        "prompt": [f"{digest:016x}" for digest in answers.prompt_b[rows].tolist()],
        "sample": number_b.tolist(),
        "segment": [segments[place + 1] for place in answers.segment_b[rows].tolist()],
        "label": [_WORDS[code] for code in answers.harmful_b[rows].tolist()],
    }
    if answers.reward_b is not None:
        columns["reward"] = answers.reward_b[rows].tolist()
    named = cost_columns(answers.costs)
    return columns | {named[name]: cost_b[rows].tolist() for name, cost_b in answers.costs.items()}


def keep_profile(folder: Path, profile: RiskProfile) -> dict[str, Any]:
    """Write the profile as it was applied, overrides and all; returns file and sha256."""
    write_atomically(folder / PROFILE, f"# profile hash: {profile.hash}\n{profile.to_yaml()}")
    return {"file": PROFILE, "sha256": sha256(folder / PROFILE)}


def kept(
    folder: Path, data: Mapping[str, Any], names: Sequence[str], columns: Columns, costs: Costs
) -> dict[str, ScoredAnswers]:
    """The rows of some models as they were evaluated. Raises DataError for files that were changed since."""
    rows = {row["name"]: row for row in data["models"]}
    unknown = [name for name in names if name not in rows]
    if unknown:
        held = f"it holds {', '.join(rows)}"
        raise ConfigError(f"{folder}: there is no model {unknown[0]}; {held}; name two of them")
    paths = {name: _unchanged(folder, rows[name]["scores"]) for name in names}
    return {name: read_answers(path, columns, None, costs) for name, path in paths.items()}


def kept_profile(folder: Path, data: Mapping[str, Any]) -> RiskProfile:
    """The profile of the evaluation. Raises DataError, ProfileError."""
    path = _unchanged(folder, data["profile"])
    return RiskProfile.from_text(path.read_text(encoding="utf-8"), str(path))


def _unchanged(folder: Path, record: Mapping[str, Any]) -> Path:
    path = folder / str(record["file"])
    if not path.is_file():
        raise DataError(f"{path}: there is no such file, and eval.json names it; run rad eval again")
    if sha256(path) != record["sha256"]:
        raise DataError(f"{path}: it was changed after the evaluation (another sha256); run rad eval again")
    return path


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

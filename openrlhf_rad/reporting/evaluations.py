"""An evaluation for a page: eval.json, whose shape is in docs/evaluation.md, read and put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, RadError
from openrlhf_rad.reporting import evaluation_charts as draw
from openrlhf_rad.reporting.charts import Chart, Heading
from openrlhf_rad.reporting.samples import clean
from openrlhf_rad.reporting.tables import Values
from openrlhf_rad.runs.records import parse_line
from openrlhf_rad.runs.summary import number
from openrlhf_rad.secrets import redact, redact_command

EVALUATION = "eval.json"
SCHEMA = "openrlhf_rad.eval/1"

_BADGES = {"lower": "risk lower", "higher": "risk higher", "unclear": "no difference shown"}
_NAMES = {"risk": "risk", "mean": "mean cost", "safe": "safe answers", "reward": "mean reward"}


@dataclass(frozen=True)
class Evaluation:
    """The content of an eval.json and where it stands."""

    path: Path
    label: str
    data: Mapping[str, Any]


def read_evaluation(folder: Path, label: str) -> Evaluation:
    """Read the evaluation of a folder. Raises RadError when it is broken, ConfigError for another schema."""
    path = folder / EVALUATION
    data = parse_line(path.read_text(encoding="utf-8"), str(path))
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise ConfigError(
            f"{path}: schema is {schema}; it must be {SCHEMA}; make the evaluation again with rad eval"
        )
    return Evaluation(path, label, data)


def content(evaluation: Evaluation, place: int, show_samples: bool) -> dict[str, Any]:
    """One evaluation for the template; every text in it is escaped there.

    Raises:
        RadError: something that the shape promises is not there.
    """
    try:
        return _content(evaluation.data, f"e{place}", show_samples) | {"label": evaluation.label}
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise RadError(
            f"{evaluation.path}: it cannot be shown ({type(error).__name__}: {error}); it must have the shape"
            f" {SCHEMA}; make the evaluation again with rad eval"
        ) from error


def _content(data: Mapping[str, Any], stem: str, show_samples: bool) -> dict[str, Any]:
    models = {model["name"]: model for model in data["models"]}
    facts = {
        "Profile": f"{data['profile']['name']}: {data['profile']['risk']}, {data['profile']['formula']}",
        "Profile hash": data["profile"]["hash"],
        "Prompts": str(data["data"]["prompts"]),
        "Answers of a model": str(data["data"]["answers"]),
        **{str(key).capitalize(): str(value) for key, value in data["settings"].items()},
        **{f"Model {model['name']}": f"{model['role']}, {model['source']}" for model in data["models"]},
        "Made": data["created"],
    }
    return {
        "profile": data["profile"],
        "threshold": number(data["settings"]["threshold"]),
        "models": _models(data["models"]),
        "comparisons": [
            _comparison(pair, models, data, f"{stem}-{place}")
            for place, pair in enumerate(data["comparisons"])
        ],
        "warnings": data["warnings"],
        "worst": [_worst(row) for row in data["worst"]] if show_samples else [],
        "facts": {key: redact(value) for key, value in facts.items()},
        "command": redact_command(data["command"]).replace(" --", " \\\n  --"),
        "methods": data["methods"],
        "versions": data["versions"],
    }


def _comparison(
    pair: Mapping[str, Any], models: Mapping[str, Any], data: Mapping[str, Any], stem: str
) -> dict[str, Any]:
    red, blue = models[pair["red"]], models[pair["blue"]]
    standing, sentence = _verdict(pair, data)
    return {
        "red": pair["red"],
        "blue": pair["blue"],
        "standing": standing,
        "badge": _BADGES[standing],
        "headline": sentence,
        "charts": _charts(pair, red, blue, stem),
        "tables": [
            table
            for table in (_table2(pair), _amounts(pair), _tests(pair), _segments(pair), _judge(pair))
            if table
        ],
    }


def _verdict(pair: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, str]:
    """What the comparison says of blue's risk, in a word and a sentence."""
    change, prompts = pair["improvement"]["risk"], data["data"]["prompts"]
    of = f"The risk ({data['profile']['risk']}) of {pair['blue']}"
    on = f"on {prompts} prompts"
    if change["low"] is None:
        return (
            "unclear",
            f"{of} is {_apart(change['value'])} that of {pair['red']} {on}; too few for an interval.",
        )
    confidence = f"{number(100 * data['settings']['confidence'])}\N{NO-BREAK SPACE}%"
    interval = f"{confidence} interval {number(change['low'])} to {number(change['high'])}"
    if change["low"] <= 0 <= change["high"]:
        return "unclear", (
            f"{of} is not shown to differ from that of {pair['red']} {on}: the {interval} of the improvement"
            " includes 0."
        )
    return (
        "lower" if change["value"] > 0 else "higher",
        f"{of} is {_apart(change['value'])} that of {pair['red']} {on} ({interval}).",
    )


def _apart(improvement: float) -> str:
    return f"{number(abs(improvement))} {'below' if improvement > 0 else 'above'}"


def _charts(
    pair: Mapping[str, Any], red: Mapping[str, Any], blue: Mapping[str, Any], stem: str
) -> list[tuple[str, str, Chart]]:
    """(title, how to read it, chart)."""
    title = f"{pair['blue']} against {pair['red']}"
    found = [
        (
            "Cost by quantile",
            "Dashed: red. Solid: blue. Bands hold for all levels at once.",
            draw.draw_quantiles(red, blue, Heading(f"{stem}-quantiles", title)),
        ),
        (
            "Difference",
            "Blue − red, level by level: below the line blue costs less. The band holds for all at once.",
            draw.draw_difference(pair["quantile_difference"], Heading(f"{stem}-difference", title)),
        ),
        (
            "Improvement of blue over red",
            "Right of the line is better; in the cost's units. Grey where the interval includes 0.",
            draw.draw_improvements(_improvements(pair), Heading(f"{stem}-improvement", title)),
        ),
    ]
    if pair["reward_wins"] is not None:
        note = (
            "Share of prompts on which blue's reward is higher, by who is safe (red, blue); n prompts each."
        )
        found.append(
            (
                "Reward wins by safety",
                note,
                draw.draw_wins(pair["reward_wins"], Heading(f"{stem}-wins", title)),
            )
        )
    return found


def _improvements(pair: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    rows = [(_NAMES[key], pair["improvement"][key]) for key in ("risk", "mean")]
    return [
        *rows,
        ("dominance, w", pair["dominance"]["weighted"]),
        ("dominance", pair["dominance"]["unweighted"]),
    ]


def estimate(value: Mapping[str, Any] | None) -> str:
    """An estimate with its interval as a text; empty for none."""
    if value is None:
        return ""
    interval = "" if value["low"] is None else f" [{number(value['low'])}, {number(value['high'])}]"
    return number(value["value"]) + interval


def _models(models: Sequence[Mapping[str, Any]]) -> Values:
    head = ("model", "role", "answers", "safe share", "mean cost", "risk", "mean reward")
    rows = [
        (
            model["name"], model["role"], str(model["answers"]),
            *(estimate(model[key]) for key in ("safe", "mean", "risk", "reward")),
        )
        for model in models
    ]  # fmt: skip
    return Values("Models", head, tuple(rows))


def _table2(pair: Mapping[str, Any]) -> Values:
    labels = {
        "red": f"all of {pair['red']}",
        "blue": f"all of {pair['blue']}",
        "reward_higher": f"{pair['blue']} where its reward is higher",
        "reward_lower": f"{pair['blue']} where its reward is lower",
    }
    rows = [
        (label, estimate(row["safe"]), str(row["safe_count"]), str(row["count"]))
        for key, label in labels.items()
        if (row := pair["safety"][key]) is not None
    ]
    return Values("Safe answers (Table 2)", ("answers", "safe share", "safe", "of"), tuple(rows))


def _amounts(pair: Mapping[str, Any]) -> Values:
    rows = [
        (f"improvement: {_NAMES[key]}", estimate(pair["improvement"][key]))
        for key in _NAMES
        if pair["improvement"][key] is not None
    ]
    for kind in ("weighted", "unweighted"):
        rows += [
            (f"dominance difference, {kind} (Table 3)", estimate(pair["dominance"][kind])),
            (f"blue's quantiles below red's, {kind}", estimate(pair["gaps"][kind]["below"])),
            (f"blue's quantiles above red's, {kind}", estimate(pair["gaps"][kind]["above"])),
        ]
    return Values("Differences", ("quantity", "estimate"), tuple(rows))


def _tests(pair: Mapping[str, Any]) -> Values | None:
    rows = [
        (test["name"], test["null"], number(test["statistic"]), number(test["p"])) for test in pair["tests"]
    ]
    return (
        Values("Tests of dominance", ("test", "null hypothesis", "statistic", "p"), tuple(rows))
        if rows
        else None
    )


def _segments(pair: Mapping[str, Any]) -> Values | None:
    keys = ("safe_red", "safe_blue", "improvement_mean", "improvement_risk", "improvement_reward")
    head = ("segment", "prompts", "safe, red", "safe, blue", "improvement: mean", "risk", "reward")
    rows = [
        (row["name"], str(row["prompts"]), *(estimate(row[key]) for key in keys)) for row in pair["segments"]
    ]
    return Values("By segment", head, tuple(rows)) if rows else None


def _judge(pair: Mapping[str, Any]) -> Values | None:
    if pair["judge"] is None:
        return None
    head = ("blue against red", "win", "tie", "lose")
    rows = [("all seeds", *(estimate(pair["judge"][key]) for key in ("win", "tie", "lose")))]
    rows += [
        (f"seed {row['seed']}", *(number(row[key]) for key in ("win", "tie", "lose")))
        for row in pair["judge"]["seeds"]
    ]
    return Values("Judge (Table 4)", head, tuple(rows))


def _worst(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "model": row["model"],
        "prompt": clean(row["prompt"]),
        "answer": clean(row["answer"]),
        "cost": number(row["cost"]),
        "reward": "" if row["reward"] is None else number(row["reward"]),
        "segment": row["segment"] or "",
    }

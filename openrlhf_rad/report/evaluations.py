"""An evaluation for a page: eval.json, whose shape is in docs/evaluation.md, put into words and charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from openrlhf_rad.authoring.words import bounded
from openrlhf_rad.errors import RadError
from openrlhf_rad.evaluation.folder import EVAL, SCHEMA, kept_profile, read
from openrlhf_rad.evaluation.sign import read_from
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.report import bars, tables
from openrlhf_rad.report import charts as draw
from openrlhf_rad.report.charts import Chart, Heading
from openrlhf_rad.report.quantiles import of_evaluation
from openrlhf_rad.report.samples import clean
from openrlhf_rad.secrets import redact, redact_command
from openrlhf_rad.style import AFTER, COLOURS, model_styles
from openrlhf_rad.words import number, percent

#: The share of the costliest answers that has a chart of its own.
TAIL = 0.2


@dataclass(frozen=True)
class Evaluation:
    """The content of an eval.json, where it stands, and its profile where that is kept beside it."""

    path: Path
    label: str
    data: Mapping[str, Any]
    profile: RiskProfile | None

    @property
    def styles(self) -> dict[str, dict[str, Any]]:
        """Each model with its style."""
        return model_styles(self.data["models"])

    def risk(self, constraint: int) -> Spectrum | None:
        """What a constraint weighs, where the profile is known."""
        return None if self.profile is None else self.profile.constraints[constraint].risk


class TitledChart(NamedTuple):
    """A chart with its title and how to read it."""

    title: str
    note: str
    chart: Chart


def read_evaluation(folder: Path, label: str) -> Evaluation:
    """Read the evaluation of a folder. Raises DataError when it is broken or of another schema."""
    data = read(folder)
    try:
        profile = kept_profile(folder, data)
    except (RadError, KeyError):  # of an earlier version, or changed since: the page does without
        profile = None
    return Evaluation(folder / EVAL, label, data, profile)


def content(evaluation: Evaluation, place: int) -> dict[str, Any]:
    """One evaluation for the template; every text in it is escaped there.

    Raises:
        RadError: something that the shape promises is not there.
    """
    try:
        return _content(evaluation, f"e{place}")
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise RadError(
            f"{evaluation.path}: it cannot be shown ({type(error).__name__}: {error}); it must have the shape"
            f" {SCHEMA}; make the evaluation again with rad eval"
        ) from error


def _content(evaluation: Evaluation, stem: str) -> dict[str, Any]:
    data, several = evaluation.data, len(evaluation.data["constraints"]) > 1
    return {
        "label": evaluation.label,
        "profile": data["profile"],
        "asked": list(_asked(evaluation, stem)),
        "threshold": number(data["settings"]["threshold"]),
        "models": tables.model_tables(data),
        "legend": legend(evaluation.styles),
        "refusals": _refusals(evaluation, stem),
        "first": data["constraints"][0]["name"] if several else "",
        "comparisons": [
            _comparison(pair, evaluation, f"{stem}-{index}") for index, pair in enumerate(data["comparisons"])
        ],
        "warnings": data["warnings"],
        "worst": data["worst"],
        "several": several,
        "prompts": data["data"]["prompts"],
        "colours": {row["name"]: row["colour"] for row in legend(evaluation.styles)},
        "facts": {key: redact(value) for key, value in _facts(data).items()},
        "inputs": [(model["name"], redact(read_from(model))) for model in data["models"]],
        "yaml": evaluation.profile.to_yaml() if evaluation.profile else None,
        "command": redact_command(data["command"]).replace(" --", " \\\n  --"),
        "methods": data["methods"],
        "versions": data["versions"],
    }


def _facts(data: Mapping[str, Any]) -> dict[str, str]:
    return {
        "Profile": f"{data['profile']['name']}: {data['profile']['risk']}, {data['profile']['formula']}",
        "Prompts": str(data["data"]["prompts"]),
        "Answers of a model": str(data["data"]["answers"]),
        **{str(key).capitalize(): str(value) for key, value in data["settings"].items()},
        **{f"Model {model['name']}": f"{model['role']}, {model['source']}" for model in data["models"]},
        "Made": data["created"],
    }


def legend(styles: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Name, colour variable and dashes of each model."""
    colours = {colour: name for name, colour in COLOURS.items()}
    dashes = {"-": "", "-.": "8 3 2 3", ":": "2 3"}
    return [
        {
            "name": name,
            "colour": colours[look["color"]],
            "dash": dashes.get(look["linestyle"], "") if isinstance(look["linestyle"], str) else "6 3",
        }
        for name, look in styles.items()
    ]


def _asked(evaluation: Evaluation, stem: str) -> Iterator[dict[str, Any]]:
    """What each constraint looks at and what the gate asks of it, in words and as a picture."""
    data = evaluation.data
    gate = next((pair["gate"] for pair in data["comparisons"] if pair["gate"]), None) or {"rulings": []}
    for place, bound in enumerate(data["constraints"]):
        several = len(data["constraints"]) > 1
        risk = evaluation.risk(place)
        yield {
            "name": bound["name"] if several else "",
            "risk": bound["risk"],
            "formula": bound["formula"],
            "words": [f"The risk is {bounded(risk)}."] if risk else [],
            "meaning": bound.get("meaning"),  # evaluations of before have none
            "rules": list(
                dict.fromkeys(
                    f"{ruling['measure']}: {ruling['asked']}"
                    f", with {percent(ruling['confidence'])} confidence."
                    for ruling in gate["rulings"]
                    if ruling["constraint"] in ("", bound["name"]) and not ruling["segment"]
                )
            ),
            "spectrum": draw.draw_spectrum(risk, f"{stem}-spectrum-{place}") if risk else None,
        }


def _refusals(evaluation: Evaluation, stem: str) -> TitledChart | None:
    """Refusals of harmful and of benign prompts, a bar a model."""
    held = {row["name"]: row["refusals"] for row in evaluation.data["models"] if row["refusals"]}
    kinds = [kind for kind in ("harmful", "benign") if any(one[kind]["answers"] for one in held.values())]
    if not kinds:
        return None
    groups = [
        (f"{kind}\nprompts", {name: one[kind]["share"] for name, one in held.items()}) for kind in kinds
    ]
    heading = Heading(f"{stem}-refusals", "Refusals")
    note = (
        "Answers that refuse, or are empty, with their intervals. Of a harmful prompt a refusal is right; one"
        " of a benign prompt is an over-refusal: a model that refuses everything is safe and useless."
    )
    return TitledChart(
        "Refusals", note, bars.draw_bars(groups, evaluation.styles, "answers that refuse, %", heading)
    )


def _comparison(pair: Mapping[str, Any], evaluation: Evaluation, stem: str) -> dict[str, Any]:
    names = pair["baseline"], pair["candidate"]
    return {
        "baseline": names[0],
        "candidate": names[1],
        "gate": _gate(pair["gate"], stem) if pair["gate"] else None,
        "legend": legend({name: evaluation.styles[name] for name in names}),
        "large": list(_costs(pair, evaluation, stem)),
        "charts": list(_charts(pair, evaluation, stem)),
        "tables": tables.pair_tables(evaluation.data, [pair]),
        "worse": pair["worse"],
    }


def _gate(gate: Mapping[str, Any], stem: str) -> dict[str, Any]:
    """The verdict of the gate with its rules as bars, a chart a constraint, whose costs share an axis."""
    constraints = dict.fromkeys(ruling["constraint"] for ruling in gate["rulings"])
    drawn = [
        (
            name,
            bars.draw_rulings(rulings, Heading(f"{stem}-gate-{place}", f"Rules of the gate {name}".strip())),
        )
        for place, name in enumerate(constraints)
        if (rulings := [ruling for ruling in gate["rulings"] if ruling["constraint"] == name])
    ]
    return {
        "outcome": gate["outcome"],
        "sentence": gate["sentence"].partition(": ")[2],
        "rulings": [(ruling["outcome"], ruling["line"]) for ruling in gate["rulings"]],
        "charts": [(name, chart) for name, chart in drawn if chart is not None],
    }


def _costs(pair: Mapping[str, Any], evaluation: Evaluation, stem: str) -> Iterator[TitledChart]:
    """How the costs of both models are spread, under each constraint: first of all what costs more than c."""
    data, names = evaluation.data, (pair["baseline"], pair["candidate"])
    models = {model["name"]: model for model in data["models"]}
    for place, bound in enumerate(data["constraints"]):
        if bound["prompts"]:
            held = {name: models[name]["constraints"][place] for name in names}
            title = f": {bound['name']}" if len(data["constraints"]) > 1 else ""
            yield from spread(held, evaluation, place, title, f"{stem}-{place}")


def spread(
    held: Mapping[str, Mapping[str, Any]], evaluation: Evaluation, constraint: int, of: str, stem: str
) -> Iterator[TitledChart]:
    """The costs of some models: bars for flags, stacked bars for ratings, else the share that costs more.

    Args:
        held: model → its numbers under the constraint. of: what the titles end with.
    """
    styles, risk = evaluation.styles, evaluation.risk(constraint)
    ratings = {name: row["ratings"] for name, row in held.items() if row["ratings"]}
    if ratings:
        kinds = next(iter(ratings.values()))["cost"]
        if len(kinds) > 2:
            note = "Shares of answers by their cost; the more harmful, the stronger the model's colour."
            heading = Heading(f"{stem}-ratings", f"Answers by rating{of}")
            yield TitledChart(heading.title, note, bars.draw_ratings(ratings, styles, heading))
        groups = [
            (f"above {number(kind)}", {name: row["more"][k] for name, row in ratings.items()})
            for k, kind in enumerate(kinds[:-1])
        ]
        heading = Heading(f"{stem}-exceedance", f"Answers that cost more{of}")
        note = "Shares of answers that cost more, with 95\N{NO-BREAK SPACE}% intervals."
        yield TitledChart(
            heading.title, note, bars.draw_bars(groups, styles, "answers that cost more, %", heading)
        )
        return
    lines = {name: of_evaluation(row["quantiles"]) for name, row in held.items()}
    threshold = evaluation.data["settings"]["threshold"]
    heading = Heading(f"{stem}-exceedance", f"Answers that cost more{of}")
    note = (
        "How many answers cost more than c: the lower line is safer. Bands hold for the whole curve at once."
    )
    yield TitledChart(
        heading.title, note, draw.draw_exceedance(lines, styles, heading, risk=risk, threshold=threshold)
    )
    heading = Heading(f"{stem}-tail", f"The upper tail{of}")
    note = f"The same for the costliest {percent(TAIL)} of the answers. Shaded: what the profile weighs."
    yield TitledChart(heading.title, note, draw.draw_exceedance(lines, styles, heading, risk=risk, tail=TAIL))


def _charts(pair: Mapping[str, Any], evaluation: Evaluation, stem: str) -> Iterator[TitledChart]:
    names = pair["baseline"], pair["candidate"]
    look = evaluation.styles[names[1]]
    if not any(model["ratings"] for model in evaluation.data["models"]):
        yield difference(pair, evaluation, f"{stem}-difference", evaluation.risk(0))
    yield TitledChart(
        "Improvement",
        f"By how much {names[1]} is better, in the cost's units: right of the line. Grey where the interval"
        " includes 0.",
        bars.draw_changes(
            _improvements(pair), "improvement, cost", None, Heading(f"{stem}-improvement", "Improvement")
        ),
    )
    if pair["reward_wins"] is not None:
        yield wins(pair, look, f"{stem}-wins")


def difference(
    pair: Mapping[str, Any], evaluation: Evaluation, stem: str = "", risk: Spectrum | None = None
) -> TitledChart:
    """The quantiles of the candidate less those of the baseline."""
    title = f"{pair['candidate']} less {pair['baseline']}, by quantile"
    curve = of_evaluation(pair["quantile_difference"], "value")
    scale = draw.scale_of([of_evaluation(model["quantiles"]) for model in evaluation.data["models"]])
    names, look = ("baseline", "candidate"), evaluation.styles[pair["candidate"]]
    chart = draw.draw_difference(curve, names, Heading(stem, title), risk=risk, look=look, scale=scale)
    note = (
        "Candidate less baseline, level by level: below the line is better. The band holds for all at once."
    )
    return TitledChart("Difference by quantile", note, chart)


def wins(pair: Mapping[str, Any], look: Mapping[str, Any] = AFTER, stem: str = "") -> TitledChart:
    """How often the candidate's reward is higher, by who is safe."""
    name = pair["candidate"]
    groups: list[tuple[str, Mapping[str, Any]]] = [
        (
            f"{cell['cell'].replace(',', ', ')}\nn = {cell['count']:,}",
            {name: {"value": cell["rate"], "low": None, "high": None}},
        )
        for cell in pair["reward_wins"]
    ]
    below = "prompts where the reward is higher, %"
    heading = Heading(stem, f"Reward of {name} against {pair['baseline']}")
    chart = bars.draw_bars(groups, {name: look}, below, heading, middle=True)
    note = f"How often {name}'s reward is higher, by which of the two answers are safe (baseline, candidate)."
    return TitledChart("Reward wins by safety", note, chart)


def _improvements(pair: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Risk and mean on all prompts, then the risk of each segment."""
    rows = [(tables.NAMES[key], pair["improvement"][key]) for key in ("risk", "mean")]
    rows += [(f"risk, {clean(row['name'])}", row["improvement_risk"]) for row in pair["segments"]]
    return [(label, change) for label, change in rows if change is not None]


def saved(evaluation: Evaluation) -> Sequence[tuple[str, Chart]]:
    """The charts that `rad eval` writes as pictures, by the name of their file."""
    data, found = evaluation.data, []
    for place, bound in enumerate(data["constraints"]):
        if bound["prompts"]:
            held = {model["name"]: model["constraints"][place] for model in data["models"]}
            several = len(data["constraints"]) > 1
            end = f"-{bound['name']}" if several else ""
            title = f": {bound['name']}" if several else ""
            for figure in spread(held, evaluation, place, title, "x"):
                found.append((figure.chart.heading.name.removeprefix("x-") + end, figure.chart))
    kinds = ("weighted", "unweighted")
    rows = [
        (f"{pair['candidate']} vs {pair['baseline']}, {kind}", pair["dominance"][kind])
        for pair in data["comparisons"]
        for kind in kinds
    ]
    unit = f"dominance difference, cost; {percent(data['settings']['confidence'])} intervals"
    heading = Heading("table3", f"Table 3, {data['profile']['risk']}: right is safer")
    found.append(("table3", bars.draw_changes(rows, unit, None, heading)))
    for pair in data["comparisons"]:
        stem, look = f"{pair['baseline']}-{pair['candidate']}", evaluation.styles[pair["candidate"]]
        if pair["quantile_difference"]["level"]:
            found.append((f"difference-{stem}", difference(pair, evaluation).chart))
        if pair["reward_wins"]:
            found.append((f"figure1-{stem}", wins(pair, look).chart))
    return found

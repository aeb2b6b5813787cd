"""The tables of a study as texts, and its frontier as a picture: for the terminal, the page and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method.spectrum import MEAN
from openrlhf_rad.report.tables import TextTable
from openrlhf_rad.statistics.inference import Estimate
from openrlhf_rad.study.comparison import CELLS, TAIL, ModelPair, StudyEvidence
from openrlhf_rad.study.exact import HELD_OUT
from openrlhf_rad.study.spec import SAFE, START, Model
from openrlhf_rad.study.verdicts import CLAIMS, findings, frontier, overall
from openrlhf_rad.words import number

Array = NDArray[np.float64]
_TEXTS = ("perplexity", "distinct1", "distinct2", "words", "empty")


def all_tables(evidence: StudyEvidence) -> list[TextTable]:
    """Every table, in the order of reading."""
    found = [verdict_table(evidence), *finding_tables(evidence), model_table(evidence)]
    for name in evidence.sets:
        pairs = list(evidence.pairs(name))
        found += [
            matrix(evidence, name),
            *independent_tables(evidence, name),
            table_2(evidence, pairs, name),
            table_3(evidence, pairs, name),
            figure_1(pairs, name),
            table_4(evidence, pairs, name),
        ]
    return found


def verdict_table(evidence: StudyEvidence) -> TextTable:
    """What each hypothesis comes to."""
    found = findings(evidence)
    rows = []
    for name, claim in CLAIMS.items():
        held = [one for one in found if one.hypothesis == name]
        if held:
            verdict, told = overall(held)
            rows.append((name, claim, f"**{verdict}**", told))
    return TextTable("Hypotheses", ("", "claim", "verdict", "variants"), tuple(rows))


def finding_tables(evidence: StudyEvidence) -> Iterator[TextTable]:
    """The hypotheses variant by variant, with the figures that decided and the slack beside them."""
    found = findings(evidence)
    for name, claim in CLAIMS.items():
        held = [one for one in found if one.hypothesis == name]
        if not held:
            continue
        columns = list(dict.fromkeys(key for one in held for key in one.figures))
        if name == "H3":
            columns, head = ["figure"], ["less the best other's"]
        else:
            head = columns
        rows = []
        for one in held:
            figures = (
                [f"{text(value)} ({key})" for key, value in one.figures.items()]
                if name == "H3"
                else [text(one.figures[key]) if key in one.figures else "–" for key in columns]
            )
            slack = _slack(evidence, one.variant) if name != "H5" else ""
            rows.append((one.variant, *figures, slack, one.verdict, one.note))
        yield TextTable(f"{name}: {claim}", ("variant", *head, "slack, σ₀", "verdict", "note"), tuple(rows))


def model_table(evidence: StudyEvidence) -> TextTable:
    """Every model by itself, on held-out prompts."""
    extra = [name for name in _TEXTS if name in evidence.runs]
    released = "released" in evidence.runs
    head = ("model", "slack, σ₀", "λ", "mean reward", "mean cost", "CVaR 0.9")
    rows = []
    for model in evidence.study.models:
        mine = evidence.runs["model"] == model.name
        values = [
            evidence.estimate(value_rs)
            for value_rs in (
                evidence.reward(model.name),
                evidence.risk(model.name, evidence.spectra["mean"]),
                evidence.risk(model.name, TAIL),
            )
        ]
        texts = [number(float(np.nanmean(evidence.runs[name][mine].astype(float)))) for name in extra]
        tested = [f"{int(evidence.runs['released'][mine].sum())} of {int(mine.sum())}"] if released else []
        price = evidence.runs["lambda"][mine].astype(float)
        dual = number(float(price.mean())) if np.isfinite(price).all() else "–"
        rows.append((model.name, _slack(evidence, model.name), dual, *map(text, values), *tested, *texts))
    passed = ("passes the safety test",) if released else ()
    return TextTable(f"Models, {HELD_OUT}", (*head, *passed, *extra), tuple(rows))


def matrix(evidence: StudyEvidence, name: str) -> TextTable:
    """Every spectral risk × every model; in brackets by how much it lies below the start's, in %."""
    models = evidence.study.compared
    rows = []
    for model in models:
        cells = []
        for spectrum in evidence.spectra.values():
            risk = float(evidence.risk(model.name, spectrum, name)[0].mean())
            own = model.role == "variant" and spectrum == model.profile.risk
            cells.append(f"**{number(risk)}**" if own else number(risk))
        rows.append((model.name, *cells))
    title = f"Spectral risks, {name}; in bold the one that a variant bounds"
    return TextTable(title, ("model", *evidence.spectra), tuple(rows))


def independent_tables(evidence: StudyEvidence, name: str) -> Iterator[TextTable]:
    """Mean and tail by the independent cost, and by how much they differ from the baselines'."""
    judged = evidence.by_the_independent_cost()
    if judged is None:
        return
    baselines = [model.name for model in judged.study.of("baseline") if model.name in (START, SAFE)]
    measures = {"mean": MEAN, "CVaR 0.9": TAIL}
    rows = []
    for model in judged.study.compared:
        value = {key: judged.risk(model.name, measure, name) for key, measure in measures.items()}
        rows.append(
            (
                model.name,
                *(text(judged.estimate(found, name)) for found in value.values()),
                *(
                    "–"
                    if model.name == base
                    else text(judged.estimate(found - judged.risk(base, measures[key], name), name))
                    for base in baselines
                    for key, found in value.items()
                ),
            )
        )
    head = ("model", *measures, *(f"{key} less {base}'s" for base in baselines for key in measures))
    yield TextTable(f"By the independent cost, {name}", head, tuple(rows))


def table_2(evidence: StudyEvidence, pairs: Sequence[ModelPair], name: str) -> TextTable:
    """Table 2: shares of safe answers, in %."""
    head = ("baseline vs model", "model's reward higher", "lower", "model", "baseline")
    rows = [
        (f"{pair.baseline} vs {pair.variant}", *(text(cell, 100) for cell in pair.safe.values()))
        for pair in pairs
    ]
    threshold = number(evidence.study.evaluation.threshold)
    return TextTable(f"Table 2, {name}: answers that cost at most {threshold}, %", head, tuple(rows))


def table_3(evidence: StudyEvidence, pairs: Sequence[ModelPair], name: str) -> TextTable:
    """Table 3: the dominance difference, which is the fall of the risk (Eq. (16)), and that of the mean."""
    rows = [
        (
            f"{pair.baseline} vs {pair.variant}",
            text(pair.dominance["weighted"]),
            text(pair.dominance["unweighted"]),
            _slack(evidence, pair.baseline),
            _slack(evidence, pair.variant),
        )
        for pair in pairs
    ]
    head = ("baseline vs model", "weighted", "unweighted", "baseline's slack, σ₀", "model's slack, σ₀")
    return TextTable(f"Table 3, {name}: fall of the risk and of the mean", head, tuple(rows))


def figure_1(pairs: Sequence[ModelPair], name: str) -> TextTable:
    """Figure 1 in numbers: how often the model's reward is higher, by who is safe."""
    rows = []
    for pair in pairs:
        cells = [
            "–" if np.isnan(rate.value) else f"{100 * rate.value:.0f} ({100 * size:.0f})"
            for rate, size in (pair.wins[cell] for cell in CELLS)
        ]
        rows.append((f"{pair.baseline} vs {pair.variant}", *cells))
    title = f"Figure 1, {name}: model's reward higher, % (of all pairs, %), by who is safe: baseline, model"
    return TextTable(title, ("baseline vs model", *CELLS), tuple(rows))


def table_4(evidence: StudyEvidence, pairs: Sequence[ModelPair], name: str) -> TextTable:
    """Table 4's shape: whose answer costs less, by the independent cost where there is one."""
    scores = evidence.table[evidence.study.models[0].name, evidence.study.seeds[0], name]
    judge = "the cost of training" if scores.other_pk is None else "an independent cost"
    rows = [
        (f"{pair.baseline} vs {pair.variant}", *(text(cell, 100) for cell in pair.verdict.values()))
        for pair in pairs
    ]
    title = f"Table 4, {name}: model costs less, as much, more by {judge}, %"
    return TextTable(title, ("baseline vs model", "win", "tie", "lose"), tuple(rows))


def markdown(values: TextTable) -> str:
    """A table for a page of the documentation."""
    lines = [f"| {' | '.join(values.head)} |", "|" + "---|" * len(values.head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in values.rows)])


def text(found: Estimate, scale: float = 1.0) -> str:
    """A value with its interval."""
    if np.isnan(found.value):
        return "–"
    value = number(scale * found.value)
    if found.low is None or found.high is None:
        return value
    return f"{value} [{number(scale * found.low)}, {number(scale * found.high)}]"


def draw_frontier(evidence: StudyEvidence, stem: Path, title: str = "") -> list[Path]:
    """Reward against CVaR 0.9 of every model, with the lines of those that were trained at several asks.

    Up and to the left is better. Bars are 95 % intervals over seeds.
    """
    from openrlhf_rad.style import (  # noqa: PLC0415
        AFTER,
        BEFORE,
        OTHERS,
        REFERENCE,
        name_points,
        new_figure,
        save,
        styled,
    )

    with styled():
        figure = new_figure(7.2, 4.4)
        axes = figure.subplots()
        shown = evidence.study.compared
        lines = {model.name: points for model in shown if (points := frontier(evidence, model.name))}
        styles = [BEFORE, AFTER, *OTHERS]
        for place, (name, points) in enumerate(lines.items()):
            style = styles[place % len(styles)]
            axes.plot(*_places(evidence, points), marker="o", markersize=4, label=name, **style)
        places = {}
        for model in shown:
            if model.name in lines or not in_view(evidence, model):
                continue
            tail, reward = (
                evidence.estimate(found)
                for found in (evidence.risk(model.name, TAIL), evidence.reward(model.name))
            )
            spot = places[model.name] = tail.value, reward.value
            for one, width in ((tail, "xerr"), (reward, "yerr")):
                if one.low is not None and one.high is not None:
                    reach: Any = {width: [[one.value - one.low], [one.high - one.value]]}
                    axes.errorbar(*spot, color=REFERENCE["color"], linewidth=1, alpha=0.4, **reach)
            axes.plot(*spot, "s", markersize=4, color=REFERENCE["color"])
        far = left_out(evidence)
        axes.set_xlabel(
            "CVaR 0.9 of the cost, held out  ← safer" + (f"\nbeyond the right edge: {far}" if far else "")
        )
        axes.set_ylabel("mean reward, held out")
        axes.set_title(title)
        if lines:
            axes.legend(loc="upper right")
        name_points(figure, places)
        return save(figure, stem)


def in_view(evidence: StudyEvidence, model: Model) -> bool:
    """Whether a model fits beside the start; one that ran away would squeeze all others into a corner."""
    start = float(evidence.risk(START, TAIL)[0].mean())
    return bool(evidence.risk(model.name, TAIL)[0].mean() <= 1.25 * start)


def left_out(evidence: StudyEvidence) -> str:
    """The models that a picture leaves out with their CVaR 0.9; empty where it shows all."""
    models = evidence.study.compared
    far = [
        f"{model.name} at {number(float(evidence.risk(model.name, TAIL)[0].mean()))}"
        for model in models
        if not in_view(evidence, model)
    ]
    return ", ".join(far)


def _places(evidence: StudyEvidence, points: Sequence[Model]) -> tuple[list[float], list[float]]:
    return (
        [float(evidence.risk(point.name, TAIL)[0].mean()) for point in points],
        [float(evidence.reward(point.name)[0].mean()) for point in points],
    )


def _slack(evidence: StudyEvidence, model: str) -> str:
    slack_s = evidence.slack(model)
    if not np.isfinite(slack_s).all():
        return "–"
    mean, deviation = (round(float(value), 6) for value in (slack_s.mean(), slack_s.std()))
    return f"{number(mean)} ± {number(deviation)}"

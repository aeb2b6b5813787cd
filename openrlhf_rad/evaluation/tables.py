"""What an evaluation prints: the paper's tables and what there is beside them, for narrow terminals too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from openrlhf_rad.evaluation.sign import described
from openrlhf_rad.runs.summary import number

# The widest report: longer lines are harder to read.
_WIDTH = 100
_CLIP = 240


def print_evaluation(data: Mapping[str, Any], console: Console | None = None, *, samples: int = 3) -> None:
    """Print eval.json; samples > 0 adds that many of the costliest answers of each model."""
    console = console or Console()
    width = min(console.width, _WIDTH)

    def show(*parts: Any) -> None:
        for part in parts:
            console.print(part, width=width, highlight=False)

    profile, size = data["profile"], data["data"]
    show(
        Text.assemble((f"{profile['name']}  {profile['risk']}", "bold"), (f"  {profile['hash'][:8]}", "dim"))
    )
    show(*(Text(line, style="dim") for line in described(data["models"], data["sign"])))
    show(Text(f"{size['answers']:,} answers of each model to {size['prompts']:,} prompts", style="dim"), "")
    if len(data["constraints"]) > 1:
        show(bounds(data), "")
    show(models(data), "", table_2(data), "", table_3(data))
    if any(pair["reward_wins"] for pair in data["comparisons"]):
        show("", figure_1(data))
    if any(pair["judge"] for pair in data["comparisons"]):
        show("", table_4(data))
    show("", gaps(data), "", dominance(data))
    if len(data["constraints"]) > 1:
        show("", constraints(data))
    if size["segments"]:
        show("", segments(data))
    show("", *(Text(f"! {warning}", style="bold red") for warning in data["warnings"]))
    if samples > 0:
        show(*worst(data["worst"], samples))


def bounds(data: Mapping[str, Any]) -> Table:
    """What each of several constraints holds for; the tables that follow speak of the first one's cost."""
    name = data["constraints"][0]["name"]
    table = _table(
        f"constraints; the tables below are of the cost of {name}", "constraint", "risk", "prompts"
    )
    for bound in data["constraints"]:
        table.add_row(Text(bound["name"], style="bold"), Text(bound["risk"]), f"{bound['prompts']:,}")
    return table


def constraints(data: Mapping[str, Any]) -> Table:
    """Each constraint of each pair, by its own cost and risk, on its own prompts."""
    heads = ("risk falls by", "mean falls by", "quantiles below, weighted", "above")
    table = _table(f"constraints, {_sure(data)} intervals", "constraint", *heads)
    for pair in data["comparisons"]:
        table.add_row(_name(pair), *[""] * 4)
        for held in pair["constraints"]:
            falls = [_estimate(held["improvement"][name]) for name in ("risk", "mean")]
            sides = [_estimate(held["gaps"]["weighted"][side]) for side in ("below", "above")]
            table.add_row(Text(f"  {held['name']}"), *falls, *sides)
    return table


def models(data: Mapping[str, Any]) -> Table:
    """Each model by itself."""
    table = _table(f"models, {_sure(data)} intervals", "", "safe", "mean cost", "risk", "reward")
    for model in data["models"]:
        cells = [_percent(model["safe"]), *(_estimate(model[name]) for name in ("mean", "risk", "reward"))]
        table.add_row(Text(model["name"], style="bold"), *cells)
    return table


def table_2(data: Mapping[str, Any]) -> Table:
    """Table 2: shares of safe answers."""
    limit = number(data["settings"]["threshold"])
    title = f"Table 2: safe answers (cost ≤ {limit})"
    table = _table(title, "red vs blue", "blue where its reward is higher", "… lower", "blue", "red")
    for pair in data["comparisons"]:
        held = pair["safety"]
        cells = [
            _percent(held[cell]["safe"]) + f"\nof {held[cell]['count']:,}" if held[cell] else "–"
            for cell in ("reward_higher", "reward_lower")
        ]
        table.add_row(_name(pair), *cells, *(_percent(held[cell]["safe"]) for cell in ("blue", "red")))
    return table


def table_3(data: Mapping[str, Any]) -> Table:
    """Table 3: dominance differences."""
    title = "Table 3: dominance difference, + is safer blue"
    table = _table(title, "red vs blue", "weighted (risk)", "unweighted (mean)")
    for pair in data["comparisons"]:
        table.add_row(
            _name(pair), *(_estimate(pair["dominance"][kind]) for kind in ("weighted", "unweighted"))
        )
    return table


def figure_1(data: Mapping[str, Any]) -> Table:
    """Figure 1: reward win rates of blue by safety outcome, with counts."""
    heads = ("both safe", "only red safe", "only blue safe", "neither", "overall")
    table = _table("Figure 1: how often blue's reward is higher (of how many)", "red vs blue", *heads)
    for pair in data["comparisons"]:
        cells = pair["reward_wins"] or []
        shown = [f"{cell['rate']:.0%}\n{cell['count']:,}" if cell["count"] else "–\n0" for cell in cells]
        table.add_row(_name(pair), *(shown or ["–"] * 5))
    return table


def table_4(data: Mapping[str, Any]) -> Table:
    """Table 4: the judge's verdicts."""
    heads = ("blue", "tie", "red", "malformed replies")
    table = _table("Table 4: less harmful, as a judge sees it", "red vs blue", *heads)
    for pair in data["comparisons"]:
        if judge := pair["judge"]:
            shares = judge["overall"] or {}
            bad = f"{judge['malformed']['count']:,} of {judge['malformed']['calls']:,}"
            table.add_row(_name(pair), *(_percent(shares.get(name)) for name in ("win", "tie", "lose")), bad)
    return table


def gaps(data: Mapping[str, Any]) -> Table:
    """Both violations, with the profile's weights and with none."""
    heads = ("below, weighted", "above, weighted", "below", "above")
    table = _table("quantiles of blue below and above red's (L_w, L)", "red vs blue", *heads)
    for pair in data["comparisons"]:
        held = [
            pair["gaps"][kind][side] for kind in ("weighted", "unweighted") for side in ("below", "above")
        ]
        table.add_row(_name(pair), *map(_estimate, held))
    return table


def dominance(data: Mapping[str, Any]) -> Table:
    """The tests: a small p speaks against the null."""
    table = _table("first-order dominance: small p speaks against the null", "null", "p", "test")
    table.columns[2].justify = "left"
    for pair in data["comparisons"]:
        for test in pair["tests"]:
            levels = "" if test["levels"] is None else f", levels {test['levels'][0]:g}–{test['levels'][1]:g}"
            name = test["name"].split(",")[0]
            table.add_row(Text(test["null"]), _p(test["p"]), Text(f"{name}{levels}", style="dim"))
    return table


def segments(data: Mapping[str, Any]) -> Table:
    """Each segment of each pair."""
    heads = ("prompts", "safe red → blue", "risk falls by", "mean falls by")
    table = _table("segments", "segment", *heads)
    for pair in data["comparisons"]:
        table.add_row(_name(pair), *[""] * 4)
        for held in pair["segments"]:
            change = f"{held['safe_red']['value']:.0%} → {held['safe_blue']['value']:.0%}"
            falls = (_estimate(held[f"improvement_{name}"]) for name in ("risk", "mean"))
            table.add_row(Text(f"  {held['name']}"), f"{held['prompts']:,}", change, *falls)
    return table


def worst(rows: Sequence[Mapping[str, Any]], count: int) -> list[Any]:
    """The costliest answers of each model, behind a warning."""
    parts: list[Any] = [
        Text(
            "The most costly answers follow. They may be harmful; they are shown to be judged.",
            style="bold red",
        )
    ]
    shown: dict[tuple[str, str], int] = {}
    several = len({row["constraint"] for row in rows}) > 1
    for row in rows:
        group = row["model"], row["constraint"]
        shown[group] = shown.get(group, 0) + 1
        if shown[group] <= count:
            cost = f"{row['constraint']} cost" if several else "cost"
            head = f"\n{row['model']}, {cost} {number(row['cost'])} » {_clip(row['prompt'])}"
            parts.append(Text(head, style="bold"))
            parts.append(Text(_clip(row["answer"])))
    return parts


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, title=title, title_justify="left", title_style="dim", padding=(0, 1, 0, 0))
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    return table


def _name(pair: Mapping[str, Any]) -> Text:
    return Text.assemble((pair["red"], "red"), " vs ", (pair["blue"], "bold blue"))


def _estimate(held: Mapping[str, Any] | None) -> str:
    if held is None:
        return "–"
    if held["low"] is None:
        return number(held["value"])
    return f"{number(held['value'])}\n\\[{number(held['low'])}, {number(held['high'])}]"


def _percent(held: Mapping[str, Any] | None) -> str:
    if held is None or held["value"] is None:
        return "–"
    if held["low"] is None:
        return f"{held['value']:.1%}"
    return f"{held['value']:.1%}\n\\[{held['low']:.1%}, {held['high']:.1%}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _sure(data: Mapping[str, Any]) -> str:
    return f"{100 * data['settings']['confidence']:g} %"


def _clip(text: str | None) -> str:
    """A text on one line, shortened, without the control characters that could steer a terminal."""
    if text is None:
        return "(no text in the table)"
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split()) or "(empty)"
    return plain if len(plain) <= _CLIP else f"{plain[: _CLIP - 1]}…"

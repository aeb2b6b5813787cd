"""One profile on a page: the picture of its weights first, then the numbers, then the words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from openrlhf_rad.authoring import picture, words
from openrlhf_rad.authoring.reading import parts
from openrlhf_rad.profile import Constraint, RiskProfile, WatchSettings


def page(profile: RiskProfile, width: int) -> Iterator[RenderableType]:
    """What ``rad profile show`` prints, piece by piece, each at most width columns wide."""
    yield Text.assemble((profile.name, "bold"), (f"  hash {profile.hash[:12]}", "dim"))
    if profile.description:
        yield Text(profile.description)
    several = parts(profile)
    for part in several:
        yield Text("")
        if len(several) > 1:
            yield Text(heading(part), style="bold underline")
        yield Text("weight of an answer, as a multiple of the average", style="dim")
        yield from (Text(line, style="cyan") for line in picture.weight_picture(part.risk, width))
        yield Text("")
        yield Text("share of the weight", style="dim")
        yield from (Text(line) for line in picture.tail_lines(part.risk, width))
        yield Text("")
        yield facts(part)
    yield Text("")
    yield common(profile)
    yield from (Text(f"! {warning}", style="yellow") for warning in profile.warnings)


def facts(part: Constraint) -> Table:
    """What one constraint says, a line a fact."""
    settings, dual = part.settings, part.dual
    table = _table()
    table.add_row("measure", str(part.risk))
    table.add_row("formula", part.risk.formula)
    table.add_row("bounds", words.bounded(part.risk))
    table.add_row("constraint", f"{settings.form}: {words.formula(settings)}")
    table.add_row("level", words.amount(settings.level))
    if settings.margin.value:
        table.add_row("margin", words.amount(settings.margin))
    table.add_row("asks", f"{words.requirement(settings)}{promise(part)}")
    table.add_row("price λ", f"from {dual.initial:g}, at most {dual.max:g}, step {dual.step:g}")
    if moves := words.price_moves(dual):
        table.add_row("moves", " ".join(moves))
    table.add_row("cost", f"{part.cost.kind}: {part.cost.location}" if part.cost else "none named yet")
    return table


def common(profile: RiskProfile) -> Table:
    """What all constraints share."""
    reference, transport = profile.reference, profile.transport
    table = _table()
    table.add_row(
        "reference", f"{profile.reference_samples} answers{f' in {reference.file}' if reference.file else ''}"
    )
    entropy = "none, exact" if transport.indicator == "exact" else f"ε = {transport.epsilon:g} spreads"
    table.add_row("transport", f"{transport.particles or 'auto'} particles; entropy {entropy}")
    usual = asdict(WatchSettings())
    if changed := [f"{key} {value}" for key, value in asdict(profile.watches).items() if value != usual[key]]:
        table.add_row("watches", ", ".join(changed))
    return table


def promise(part: Constraint) -> str:
    """By how much the risk falls once the constraint is met, where the file says it."""
    asked = words.asked_reduction(part.settings)
    if asked is None or part.settings.form != "no_worse":
        return ""
    return f". The risk then lies at least {words.amount(asked)} below the reference's"


def heading(part: Constraint) -> str:
    """The name of a constraint and the prompts that it is on."""
    if part.segment:
        where = f", prompts labelled {part.segment}"
    else:
        where = f", prompts not labelled {', '.join(part.excluded)}" if part.excluded else ""
    return f"{part.name}: {part.risk}{where}"


def _table() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table

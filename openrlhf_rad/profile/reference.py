"""The reference of the language as Markdown: ``python -m openrlhf_rad.profile.reference`` prints it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openrlhf_rad.method.spectrum import MEASURES, SYMBOLS
from openrlhf_rad.profile.costs import COSTS
from openrlhf_rad.profile.language import SECTIONS, Shared, fields_of, key_of, values

_HEAD = ("key", "what it does", "values", "unit", "default", "where the default comes from")


def reference() -> str:
    """Two tables: all keys of the sections, and the measures of a risk with their parameters."""
    return "\n".join([*_table(_HEAD, _keys()), "", *_table(_MEASURE_HEAD, _measures())]) + "\n"


def _keys() -> Iterable[Sequence[str]]:
    for section, model in {"": Shared, **SECTIONS, **COSTS}.items():
        for name, field in fields_of(model).items():
            key = key_of(field)
            dotted = f"{section}.{name}".removeprefix(".")
            yield f"`{dotted}`", key.text, values(field), key.unit, key.default, key.source


_MEASURE_HEAD = ("measure", "φ(t)", "parameter", "range", "default", "coherent", "source")


def _measures() -> Iterable[Sequence[str]]:
    for name, measure in MEASURES.items():
        names = {parameter: SYMBOLS[parameter] for parameter in measure.parameters}
        # The formulas hold format fields; here the symbols stand for the numbers.
        formula = measure.formula
        for parameter, symbol in names.items():
            formula = formula.replace(f"{{{parameter}:g}}", symbol)
        formula = formula.replace("{{", "{").replace("}}", "}").removeprefix("φ(t) = ")
        written = [f"`{parameter}` or `{symbol}`" for parameter, symbol in names.items()]
        ranges = [str(parameter.range) for parameter in measure.parameters.values()]
        defaults = [
            "none" if item.default is None else f"{item.default:g}" for item in measure.parameters.values()
        ]
        rows = [", ".join(column) or "—" for column in (written, ranges, defaults)]
        yield f"`{name}`", formula, *rows, "yes" if measure.coherent else "no", "Table 1"
    step = ("constant from each level on, scaled to integral 1", "`[[level, height], …]`")
    yield (
        "`piecewise`",
        *step,
        "levels [0, 1), rising from 0; heights ≥ 0, not falling",
        "none",
        "yes",
        "Eq. (8)",
    )
    parts = ("Σ weight · φ of each measure", "`weight` of each", "≥ 0, sum 1", "none")
    yield "`mixture`", *parts, "if all its measures are", "Eq. (8)"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


if __name__ == "__main__":
    print(reference(), end="")

"""What an evaluation says of a pair, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openrlhf_rad.runs.summary import number

BADGES = {"lower": "risk lower", "higher": "risk higher", "unclear": "no difference shown"}
_COUNTED = {"lower": "lower", "higher": "higher", "unclear": "not shown to differ"}


def verdict(pair: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """What the comparison says of blue's risk: in a word, in a sentence, and for each constraint."""
    if len(data["constraints"]) == 1:
        standing, sentence = _sentence(pair, pair, data, data["constraints"][0])
        return standing, f"The {sentence}", []
    held = zip(data["constraints"], pair["constraints"], strict=True)
    found = [(bound["name"], *_sentence(pair, one, data, bound)) for bound, one in held]
    kinds = [standing for _, standing, _ in found]
    standing = "higher" if "higher" in kinds else "unclear" if "unclear" in kinds else "lower"
    counts = [
        f"{words} under {kinds.count(kind)}"
        for kind, words in _COUNTED.items()
        if kind in kinds or kind == "lower"
    ]
    sentence = f"Of {len(kinds)} constraints, the risk of {pair['blue']} against {pair['red']} is "
    return standing, sentence + ", ".join(counts) + ".", [f"{name}: {words}" for name, _, words in found]


def _sentence(
    pair: Mapping[str, Any],
    held: Mapping[str, Any],
    data: Mapping[str, Any],
    bound: Mapping[str, Any],
) -> tuple[str, str]:
    """What is said of the risk of one constraint, in a word and a sentence.

    Args:
        held: the pair's numbers under the constraint.
    """
    change = held["improvement"]["risk"]
    if held["saturated"]:
        return "unclear", f"risk ({bound['risk']}) cannot tell the two apart: {held['saturated']}."
    if change is None:
        return "unclear", "no prompt of the data is one that it holds for."
    of = f"risk ({bound['risk']}) of {pair['blue']}"
    on = f"on {bound['prompts']} prompts"
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

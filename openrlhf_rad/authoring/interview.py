"""A few questions, and the commented profile that the answers make."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.profile import RiskProfile

#: The reduction of the risk that each word asks for is margin − level, in reference spreads.
STRICTNESS = {"gentle": (0.2, 0.4), "firm": (0.2, 0.6), "strict": (0.2, 1.0)}
#: Words for measures; any expression that a profile takes is accepted as well.
MEASURES = {
    "tail": ("cvar α=0.9", "the mean cost of the worst 10 % of answers, nothing else"),
    "extreme": ("cvar α=0.99", "the mean cost of the worst 1 %; needs thousands of answers a rollout"),
    "all": ("wang η=0.75", "every answer counts, the worst ones most"),
    "average": ("mean", "the mean cost: every answer counts alike"),
}
#: What a cost may look like, with the threshold at which its answers are safe.
SHAPES = {
    "score": ("any number, such as a cost model's score, 0 between harmless and harmful", 0.0),
    "probability": ("from 0 to 1, how likely or how bad the harm is", 0.5),
    "flag": ("0 for a harmless answer, 1 for a harmful one", 0.0),
}
#: What the share of harmful answers is to be of what it is now, where the cost is a flag.
SHARES = {"gentle": 75, "firm": 50, "strict": 25}
#: α of a CVaR of a flag from which on it is told to be none.
_MOST_FLAG = 0.5
LATER = "later"


@dataclass(frozen=True)
class Question:
    """One question: the key of its answer, its text, its default, and what it may be answered with."""

    key: str
    text: str
    default: str
    choices: Mapping[str, str] | None = None


QUESTIONS = (
    Question("product", "What is the product called?", "my-assistant"),
    Question("harmed", "Who could be harmed by its answers?", "its users"),
    Question(
        "shape",
        "What does the cost of an answer look like?",
        "score",
        {name: text for name, (text, _) in SHAPES.items()},
    ),
    Question(
        "measure",
        "Which answers should count? A word of these, or a measure such as cvar α=0.95",
        "tail",
        {name: text for name, (_, text) in MEASURES.items()},
    ),
    Question(
        "strictness",
        "How strict should it be?",
        "firm",
        {
            word: f"the risk must fall by {100 * (margin - level):.0f} % of the reference's spread"
            for word, (level, margin) in STRICTNESS.items()
        },
    ),
    Question(
        "cost", "Where do costs come from? FILE.py, http://…, a model's folder or name, or later", LATER
    ),
)


def asked(question: Question, answers: Mapping[str, str]) -> Question:
    """A question as the answers before it make it: of a flag all answers count, by their share of harm."""
    if answers.get("shape") != "flag":
        return question
    if question.key == "measure":
        return replace(question, default="average")
    if question.key == "strictness":
        words = {word: f"at most {share} % of today's harmful answers" for word, share in SHARES.items()}
        return replace(question, choices=words)
    return question


def problem(question: Question, answer: str, answers: Mapping[str, str]) -> str | None:
    """What is wrong with an answer, as value, rule and fix; None where it will do.

    Args:
        answers: those before it.
    """
    if not answer.strip():
        return f"the answer is empty; a text is needed; press Enter for {question.default}"
    known: dict[str, Iterable[str]] = {"strictness": STRICTNESS, "shape": SHAPES}
    words = list(known.get(question.key, ()))
    if words and answer not in words:
        return f"{answer} is none of {', '.join(words)}; write one of them"
    if question.key == "measure":
        risk, _ = MEASURES.get(answer, (answer, ""))
        try:
            profile = RiskProfile.from_text(f"risk: {json.dumps(risk, ensure_ascii=False)}")
        except ProfileError as error:
            return error.details[0].message
        level = profile.risk.lowest_level()
        if answers.get("shape") == "flag" and level >= _MOST_FLAG:
            return (
                f"{answer} weighs the worst {1 - level:.0%} of answers; of a flag it is 1 as soon as so many"
                " are harmful, and stays there until fewer are; write average, the share of harmful answers"
            )
    return None


def file_name(answers: Mapping[str, str]) -> str:
    """Where the profile goes unless the user says otherwise."""
    return f"{_slug(answers['product'])}.yaml"


def write(answers: Mapping[str, str]) -> str:
    """The profile as commented YAML. Raises ProfileError should the answers not make a valid one."""
    risk, _ = MEASURES.get(answers["measure"], (answers["measure"], ""))
    level, margin = STRICTNESS[answers["strictness"]]
    shape = answers.get("shape", "score")
    share = SHARES[answers["strictness"]]
    constraint = _FLAG if shape == "flag" else _NO_WORSE
    text = _TEMPLATE.format(
        product=_line(answers["product"]),
        name=_slug(answers["product"]),
        description=json.dumps(f"Protects {_line(answers['harmed'])}.", ensure_ascii=False),
        risk=risk,
        values="\nvalues: [0, 1]" if shape == "flag" else "",
        constraint=constraint.format(
            level=100 * level, margin=100 * margin, fall=100 * (margin - level), share=share, less=100 - share
        ),
        evaluate=_EVALUATE[shape],
        cost=_cost(answers["cost"].strip()),
    )
    RiskProfile.from_text(text, file_name(answers))
    return text


_TEMPLATE = """\
# The risk profile of {product}.
# Look at it:     rad profile show {name}.yaml
# Check it:       rad profile check {name}.yaml
# Set it by data: rad calibrate SCORES.jsonl --profile {name}.yaml
name: {name}
description: {description}

# How much each quantile of the cost counts.
risk: {risk}{values}

{constraint}

# The price of breaking the constraint: λ ← clip(λ + step · violation, 0, max).
dual:
  initial: 1
  step: 0.1
  max: 10

{cost}

# How many answers of the model as it is show its costs; the tail needs them.
reference:
  samples: 256
{evaluate}"""

_NO_WORSE = """\
constraint:
  # No quantile that counts may stay above the reference's shifted down by the margin,
  # but for the level on average: the risk falls by at least {fall:.0f} % of a spread.
  form: no_worse
  level: {level:.0f}% of reference spread
  margin: {margin:.0f}% of reference spread"""

_FLAG = """\
constraint:
  # The risk falls by {less} %, to {share} % of what it is now.
  form: spectral
  level: {less}% of reference risk"""

_EVALUATE = {
    "score": "",
    "probability": """
evaluate:
  # An answer is safe when its cost is at most this.
  threshold: 0.5
""",
    "flag": """
evaluate:
  # A flag's spread is much larger than its mean where harm is rare.
  improvement: 10% of reference risk
""",
}


def _cost(answer: str) -> str:
    if answer == LATER:
        return (
            "# Where costs come from; one of these before training starts.\n"
            "# cost: {function: cost.py}         # a Python file with cost_func(queries, prompts, labels)\n"
            "# cost: {model: path/or/name}       # a checkpoint with a scalar head\n"
            "# cost: {classifier: path/or/name}  # any text classifier or reward model\n"
            "# cost: {judge: {model: NAME, base_url: http://localhost:8000/v1}}\n"
            "# cost: {remote_url: http://localhost:5000/get_reward}"
        )
    kind = "model"
    if re.match(r"^https?://", answer):
        kind = "remote_url"
    elif answer.endswith(".py"):
        kind = "function"
    return f"# Where costs come from.\ncost:\n  {kind}: {json.dumps(answer, ensure_ascii=False)}"


def _slug(product: str) -> str:
    """A name that a profile and a folder can have."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", product).strip("-._") or "profile"


def _line(text: str) -> str:
    """A text on one line, without what YAML comments cannot hold."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())

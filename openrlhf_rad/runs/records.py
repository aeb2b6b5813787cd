"""The records of a run: one line of metrics.jsonl, samples.jsonl or heldout_*.jsonl each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NotRequired, TypedDict

from openrlhf_rad.errors import RadError

#: The columns of metrics.jsonl, one line a training step; a value is a finite number or null.
#: Costs, risks, gaps and the constraint are in the cost's own units; X is the policy, Y the reference.
COLUMNS = {
    "step": "number of the training step, from 1",
    "reward_mean": "mean reward of the batch, before KL and cost",
    "cost_mean": "mean cost of the batch",
    "cost_q50": "its median cost",
    "cost_q90": "its 90 % quantile of the cost",
    "cost_q99": "its 99 % quantile of the cost",
    "risk": "spectral risk ρ_w of the batch (Eq. (8))",
    "reference_risk": "spectral risk ρ_w of the reference",
    "gap_forward": "L_w(X, Y), how far the policy's costs lie below the reference's (Eq. (15))",
    "gap_reverse": "L_w(Y, X), how far they lie above",
    "lambda": "the price λ used in this step, per reference spread or what the profile's units are",
    "lambda_next": "λ after the dual step",
    "constraint_value": "the constrained quantity",
    "constraint_level": "the level it is held to",
    "violation": "how far the constraint is missed; negative when there is room",
    "violation_error": "its standard error, from this batch; answers to one prompt count as dependent",
    "violation_samples": "how many samples carry it",
    "reference_error": "the error that the sample of reference costs adds; all steps share it",
    "violation_used": "the violation that moved λ: the last, an average, or an upper confidence bound",
    "fall_asked": "by how much the constraint asks the risk to lie below the reference's",
    "fall_possible": "the fall of a policy whose every answer costs the least",
    "sinkhorn_iterations": "iterations of the transport solver; 0 for the exact one",
    "marginal_error": "mass that its plan puts on the wrong points",
    "sinkhorn_converged": "1 when that error is within the tolerance, else 0",
    "share_active": "share of the risk's weight on quantiles that the constraint pushes",
    "saturated": "1 when policy and reference sit at the largest cost wherever the risk looks, else 0",
    "score_std": "standard deviation of the scores over the batch, in the profile's units",
    "kl": "mean KL divergence of policy from reference, in nats a token; null without a reference model",
    "staleness": "weight updates that the oldest answer of the batch had not seen when it was begun",
    "rollout_kl": "mean KL divergence of what generated the answers from the policy, in nats a token",
    "rollout_filtered": "share of tokens, or answers, that the correction for it has cut",
    "filtered_share": "share of answers that dynamic filtering kept from training; the constraint sees them",
    "response_length": "mean length of an answer in tokens",
    "empty_share": "share of answers without a word",
    "distinct_share": "share of distinct answers",
    "entropy": "entropy of the policy, from the log-probabilities of its tokens, in nats a token",
    "harm_auc": "share of pairs in which an answer known to be harmful costs more than one that is not",
    "seconds_generation": "time to generate answers",
    "seconds_experience": "time for rewards, costs and log-probabilities",
    "seconds_training": "time for the gradient steps",
    "seconds_weight_sync": "time to hand the weights to the generator",
    "seconds_rad": "time for particles, transport, scores and dual step",
    "seconds_cost": "time that the rollout waited for its costs",
    "seconds_record": "time to record the answers",
    "seconds_step": "time of the whole step",
}

#: Sections of TensorBoard and wandb, each with its columns; the others OpenRLHF shows itself.
SECTIONS = {
    "rad_constraint": (
        "risk",
        "reference_risk",
        "violation",
        "violation_error",
        "lambda",
        "constraint_value",
        "constraint_level",
        "violation_used",
        "violation_samples",
        "reference_error",
        "fall_asked",
        "fall_possible",
        "lambda_next",
    ),
    "rad_costs": (
        "cost_mean",
        "cost_q50",
        "cost_q90",
        "cost_q99",
        "gap_forward",
        "gap_reverse",
        "harm_auc",
        "saturated",
    ),
    "rad_answers": ("empty_share", "distinct_share", "entropy", "filtered_share", "staleness"),
    "rad_method": (
        "share_active",
        "score_std",
        "sinkhorn_iterations",
        "marginal_error",
        "sinkhorn_converged",
    ),
    "rad_time": ("seconds_rad", "seconds_cost", "seconds_record"),
}


class Answer(TypedDict):
    """An answer with its measures: reward higher is better, cost higher is more harmful.

    cost is of the profile's first source; costs holds those of all sources where there are several. sent says
    that the prompt is as it was sent, finished whether the policy ended the answer: by these rad eval rates
    the text that was rated here.
    """

    prompt: str
    answer: str
    label: str | None
    reward: float | None
    cost: float
    costs: NotRequired[dict[str, float]]
    sent: NotRequired[bool]
    finished: NotRequired[bool]


class Sample(Answer):
    """An answer seen in training; worst: kept because it costs much, and not by lot."""

    step: int
    worst: NotRequired[bool]


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """A step as JSON: the columns of COLUMNS in order, absent ones as null, then any others.

    Raises:
        RadError: a value that is not a number, is not finite, or no whole step.
    """
    step = metrics.get("step")
    values = dict.fromkeys(COLUMNS) | {
        name: _number(value, f"metrics of step {step}: {name}") for name, value in metrics.items()
    }
    if not isinstance(values["step"], int):
        raise RadError(f"metrics: step is {step!r}; it must be a whole number; number the steps from 1")
    return _dump(values)


def answer_line(row: Mapping[str, Any], where: str) -> str:
    """An answer or sample as JSON. Raises RadError as check_answer does."""
    step = {"step": int(row["step"])} if "step" in row else {}
    return _dump({**check_answer(row, where), **step, **({"worst": True} if row.get("worst") else {})})


def check_answer(row: Any, where: str) -> Answer:
    """The row as an Answer; label and reward may be null. Raises RadError that starts with where."""
    if not isinstance(row, Mapping):
        raise RadError(f"{where}: the line is no mapping; it must hold {', '.join(Answer.__annotations__)}")
    missing = [name for name in ("prompt", "answer", "cost") if row.get(name) is None]
    if missing:
        raise RadError(f"{where}: {missing[0]} is missing; every answer needs prompt, answer and cost")
    for name in ("prompt", "answer", "label"):
        if not isinstance(row.get(name), str | None):
            raise RadError(f"{where}: {name} is {row[name]!r}; it must be a text")
    cost = _number(row["cost"], f"{where}: cost")
    assert cost is not None
    answer = Answer(
        prompt=row["prompt"],
        answer=row["answer"],
        label=row.get("label"),
        reward=_number(row.get("reward"), f"{where}: reward"),
        cost=cost,
    )
    if "costs" in row:
        answer["costs"] = _costs(row["costs"], where)
    if row.get("sent") is not None:
        answer["sent"] = bool(row["sent"])
    if row.get("finished") is not None:
        answer["finished"] = bool(row["finished"])
    return answer


def _costs(costs: Any, where: str) -> dict[str, float]:
    if not isinstance(costs, Mapping) or None in costs.values():
        raise RadError(f"{where}: costs is {costs!r}; it must map each cost source to a number")
    return {str(name): float(_number(value, f"{where}: costs.{name}") or 0) for name, value in costs.items()}


def parse_line(line: str, where: str) -> Any:
    """A line of JSON. Raises RadError that starts with where."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise RadError(
            f"{where}:{error.colno}: the line is not JSON ({error.msg}); every line must be one whole record;"
            " mend the line or remove it"
        ) from None


def _number(value: Any, name: str) -> float | int | None:
    """A plain number of Python, or None; numpy's scalars are taken. Raises RadError."""
    if value is None:
        return None
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, bool) or not isinstance(plain, Real):
        raise RadError(f"{name} is {value!r}; it must be a finite number or null")
    if not math.isfinite(plain):
        raise RadError(
            f"{name} is {plain}; it must be a finite number or null;"
            " look for an overflow where it is computed"
        )
    return plain if isinstance(plain, int) else float(plain)


def _dump(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"

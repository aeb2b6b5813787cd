"""All constraints of a profile on one rollout: the bonus Σ_k λ_k s_k(c) of each response (Eqs. (11), (14)).

Each constraint has its own cost, spectrum, level and λ, and may hold for a segment only: the prompts that
carry a label. A segment may have few answers in a rollout, or none. Its quantiles are then taken over its
most recent answers, which begin as those of the reference policy, where training begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import CostError, ReferenceCostError
from openrlhf_rad.method.particles import as_costs
from openrlhf_rad.method.reference import least_reference
from openrlhf_rad.method.settings import MINIMUM_REFERENCE, Constraint, Settings, cost_name
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.naming import prefixes

Array = NDArray[np.float64]

# A segment looks back over twice the answers without which its spectrum would have no gradient.
_LOOK_BACK = 2


@dataclass(frozen=True)
class Scored:
    """Answers with their costs.

    Attributes:
        costs: cost source → costs in its own units, shape (B,).
        labels: the label of each answer's prompt; "" for none.
        prompts: of each answer, by which answers to one prompt are known to depend; empty: none do.
    """

    costs: Mapping[str, Array]
    labels: Sequence[str]
    prompts: Sequence[str] = ()


@dataclass(frozen=True)
class SetResult:
    """What a rollout gets.

    Attributes:
        bonus_b: Σ_k λ_k s_k(c) of each response, shape (B,), to add to its reward, before the baseline.
        advantage_b: the same of the constraints whose score has its own baseline, to add after it.
        metrics: constraint → name → a plain float.
    """

    bonus_b: Array
    advantage_b: Array
    metrics: dict[str, dict[str, float]]


class ConstraintSet:
    """The constraints of a profile against one sample of reference answers.

    Attributes:
        parts: a constraint with its λ each, in the order of the profile.
    """

    def __init__(self, settings: Settings, reference: Scored, *, fixed_dual: float | None = None) -> None:
        """Check the reference of every constraint and settle its level and margin.

        Args:
            settings: such as a profile.
            fixed_dual: hold every λ at this value; 0 is the control run that only measures.

        Raises:
            ReferenceCostError: reference costs of a constraint that are too few, constant or not finite;
                every such constraint is named.
        """
        self.parts: list[ConstraintPart] = []
        problems, where = [], prefixes([one.name for one in settings.constraints])
        for constraint in settings.constraints:
            try:
                self.parts.append(ConstraintPart(settings, constraint, reference, fixed_dual))
            except ReferenceCostError as error:
                problems.append(f"{where[constraint.name]}{error}")
        if problems:
            raise ReferenceCostError("\n".join(problems))

    def __call__(self, batch: Scored) -> SetResult:
        """Score one rollout with the present λs, then move each λ by the violation of its constraint.

        Raises:
            CostError: costs that are missing or not finite. TransportError: no usable plan.
        """
        bonus_b, advantage_b = np.zeros(len(batch.labels)), np.zeros(len(batch.labels))
        metrics: dict[str, dict[str, float]] = {}
        for part in self.parts:
            price_b, metrics[part.constraint.name] = part(batch)
            target_b = advantage_b if part.step.own_baseline else bonus_b
            target_b += price_b
        return SetResult(bonus_b, advantage_b, metrics)

    def check_batch(self, batch_size: int) -> list[str]:
        """Refuse rollouts too small for a constraint on all prompts; what is doubtful about the others.

        Raises:
            ConfigError: see :meth:`RadStep.check_batch`.
        """
        doubts = []
        for part in self.parts:
            if not part.looks_back:
                part.step.check_batch(batch_size)
            size = part.window if part.looks_back else batch_size
            doubts += [f"{part.constraint.name}: {doubt}" for doubt in part.step.doubts(size)]
        return doubts

    def score_bound(self) -> float:
        """An upper bound on the range of the bonus: Σ_k of :meth:`RadStep.score_bound`."""
        return sum(part.step.score_bound() for part in self.parts)

    def state_dict(self) -> dict[str, Any]:
        """λ and recent costs of every constraint, by name."""
        return {part.constraint.name: part.state_dict() for part in self.parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        for part in self.parts:
            part.load_state_dict(state[part.constraint.name])

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take over the λs of a run under another profile, by name; all else begins anew.

        Args:
            state: what :meth:`state_dict` gave there.
        """
        for part in self.parts:
            if part.constraint.name in state:
                part.step.dual.start_at(float(state[part.constraint.name]["dual"]["value"]))


class ConstraintPart:
    """One constraint on the answers that it holds for.

    Attributes:
        constraint: of the profile. step: its RAD step. looks_back: whether it holds for a segment.
        window: over how many answers a segment looks back; 0 for what holds for all prompts.
        source: the cost that it bounds, a key of ``Scored.costs``.
    """

    def __init__(
        self, settings: Settings, constraint: Constraint, reference: Scored, fixed_dual: float | None
    ) -> None:
        self.constraint = constraint
        self.source = cost_name(settings, constraint)
        self.looks_back = constraint.segment is not None or bool(constraint.excluded)
        reference_r = self._costs(reference)
        if self.looks_back:
            self._check_reference(reference_r.size, reference.labels)
        self.step = RadStep(settings, reference_r, constraint=constraint, fixed_dual=fixed_dual)
        self.window, self._recent = 0, np.empty(0)
        if self.looks_back:
            self.window = max(MINIMUM_REFERENCE, _LOOK_BACK * self.step.minimum_batch())
            self._recent = reference_r[-self.window :]

    def __call__(self, batch: Scored) -> tuple[Array, dict[str, float]]:
        """λ·s(c) of every response, 0 where the constraint does not hold; and its metrics."""
        bonus_b = np.zeros(len(batch.labels))
        member_b = self._members(batch.labels)
        costs = self._costs(batch)
        if costs.size == 0:
            return bonus_b, {"lambda": self.step.dual.value, "samples": 0.0}
        missing = max(0, self.window - costs.size)
        earlier = self._recent[max(0, self._recent.size - missing) :]
        result = self.step(
            np.concatenate([costs, earlier]),
            _clusters(batch.prompts, member_b, earlier.size),
            share=costs.size / (costs.size + earlier.size),
        )
        bonus_b[member_b] = result.dual_variable * result.score_b[: costs.size]
        if self.looks_back:
            self._recent = np.concatenate([self._recent, costs])[-self.window :]
        return bonus_b, {**result.metrics, "samples": float(costs.size)}

    def state_dict(self) -> dict[str, Any]:
        """λ, and the recent costs of a segment."""
        return {**self.step.state_dict(), "recent": self._recent.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.step.load_state_dict(state)
        self._recent = np.asarray(state["recent"], dtype=np.float64)

    def _members(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        if not self.looks_back:
            return np.ones(len(labels), dtype=np.bool_)
        return np.array([self.constraint.holds_for(label) for label in labels], dtype=np.bool_)

    def _costs(self, answers: Scored) -> Array:
        if self.source not in answers.costs:
            raise CostError(f"{self.constraint.name}: there are no costs of the source {self.source}")
        costs = np.asarray(answers.costs[self.source], dtype=np.float64)
        member_b = self._members(answers.labels)
        return as_costs(costs[member_b]) if member_b.any() else np.empty(0)

    def _check_reference(self, size: int, labels: Sequence[str]) -> None:
        """Raises ReferenceCostError for a segment with too few reference answers, with how many would do."""
        one = self.constraint
        needed = least_reference(one)
        if size >= needed:
            return
        which = f"carry the label {one.segment}" if one.segment else "carry no label of a segment"
        seen = ", ".join(sorted(set(labels))[:8]) or "none"
        fix = f"check --data.label_key; the labels are {seen}"
        if size:
            # A half more than the share of the labels calls for, since that is an estimate too.
            enough = math.ceil(1.5 * needed * len(labels) / size)
            fix = f"write reference.samples: {enough}, or a risk that looks at more"
        raise ReferenceCostError(
            f"{size} of {len(labels)} reference answers {which}; {one.risk} needs at least {needed}; {fix}"
        )


def _clusters(prompts: Sequence[str], member_b: NDArray[np.bool_], earlier: int) -> NDArray[np.int64] | None:
    """A number a prompt for each answer of a constraint; earlier answers, prompts unknown, one each."""
    if not len(prompts):
        return None
    numbers: dict[str, int] = {}
    place_b = [
        numbers.setdefault(prompt, len(numbers))
        for prompt, member in zip(prompts, member_b, strict=True)
        if member
    ]
    return np.array([*place_b, *range(len(numbers), len(numbers) + earlier)], dtype=np.int64)

"""One training step of the constraint: costs of a batch in, scores, λ and metrics out (Eqs. (11), (14))."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import ConfigError, ReferenceCostError
from openrlhf_rad.method.constraint import ConstraintResult, Potentials, evaluate
from openrlhf_rad.method.dual import DualVariable, make_dual
from openrlhf_rad.method.particles import as_costs, empirical_quantiles, saturation
from openrlhf_rad.method.reference import MOST_SHARE, checked_costs, resolve
from openrlhf_rad.method.scores import Scores
from openrlhf_rad.method.settings import Constraint, Settings
from openrlhf_rad.method.uncertainty import Uncertainty, reference_standard_error, violation_standard_error

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StepResult:
    """What a batch gets.

    Attributes:
        score_b: s(c) of each response, shape (B,), in the unit of the profile; the policy gradient adds
            dual_variable · score_b to the reward of a response, or where the score has its own baseline
            (:attr:`RadStep.own_baseline`) to its advantage.
        dual_variable: λ to use for this batch, per that unit.
        metrics: plain floats; costs, risks, gaps and the constraint are in the cost's own units.
    """

    score_b: Array
    dual_variable: float
    metrics: dict[str, float]


class RadStep:
    """One constraint against one sample of reference costs, with its λ.

    Costs are divided by the reference spread σ_0 (standard deviation) inside, so λ, its step and
    maximum, and ε mean the same for every cost model; with `units: cost` they are not.

    Attributes:
        spread: σ_0. unit: by which costs are divided, σ_0 or 1. ask: level, margin, shift. All in the cost's
            own units.
    """

    def __init__(
        self,
        settings: Settings,
        reference_costs: ArrayLike,
        *,
        constraint: Constraint | None = None,
        fixed_dual: float | None = None,
    ) -> None:
        """Check the reference and settle level and margin.

        Args:
            settings: such as a profile.
            reference_costs: costs of reference responses, any order, in the cost's own units.
            constraint: one of the settings'; None is the only one.
            fixed_dual: hold λ at this value; 0 is the control run that only measures.

        Raises:
            ReferenceCostError: too few, constant or non-finite reference costs; where λ moves, an ask that no
                policy can meet.
        """
        if constraint is None:
            (constraint,) = settings.constraints
        self.constraint, self.transport = constraint, settings.transport
        self._reference = checked_costs(constraint, reference_costs)
        self.spread = float(self._reference.std())
        self.unit = self.spread if settings.units == "spread" else 1.0
        self.ask = resolve(constraint.settings, constraint.risk, self._reference)
        self._fixed = fixed_dual is not None
        if not (self._fixed or self.ask.feasible):
            raise ReferenceCostError(self.ask.refusal)
        if not self._fixed and self.ask.rare:
            raise ReferenceCostError(self.ask.rare)
        self.dual = (
            make_dual(constraint.dual) if fixed_dual is None else DualVariable(fixed_dual, 0.0, fixed_dual)
        )
        self._potentials: Potentials | None = None
        self._form = self.ask.form
        self._scores = Scores(constraint.settings, self.ask.spectrum, self._reference / self.unit)

    @property
    def own_baseline(self) -> bool:
        """Whether scores need no other baseline: see :mod:`openrlhf_rad.method.scores`."""
        return self._scores.own_baseline

    def __call__(
        self, cost_b: ArrayLike, cluster_b: ArrayLike | None = None, *, share: float = 1.0
    ) -> StepResult:
        """Score one batch with the present λ, then move λ by its violation.

        Args:
            cost_b: costs of the policy's responses, shape (B,), in the cost's own units.
            cluster_b: a label a response; those of one label, the answers to one prompt, are not independent,
                which matters to the standard error of the violation. None: all are independent.
            share: of the batch that λ has not moved by before, in (0, 1]; its step is so much shorter.

        Raises:
            CostError: costs that are missing, not finite, or fewer than transport.particles.
            TransportError: Sinkhorn found no usable plan.
        """
        costs = as_costs(cost_b)
        n = self.particle_count(costs.size)
        particle_n = empirical_quantiles(costs / self.unit, n)
        reference_n = empirical_quantiles(self._reference / self.unit, n, repeats=True)
        sampled = self.ask.spectrum.sampled(n)
        weight_n = sampled.weight_n if self._form.weighted else self.constraint.risk.weights(n)
        result = self._evaluate(particle_n, reference_n, weight_n)
        score_b, score_std = self._scores(costs / self.unit, particle_n, result, sampled, cluster_b)
        used = self.dual.value
        error = violation_standard_error(result, costs / self.unit, particle_n, sampled, cluster_b=cluster_b)
        reference_error = reference_standard_error(self.ask, costs) / self.unit
        self.dual.update(
            result.violation,
            error.standard_error,
            error.samples,
            reference_error=reference_error,
            share=share,
        )
        self._potentials = result.potentials
        metrics = self._metrics(costs, particle_n, reference_n, weight_n, result)
        metrics.update(self._dual_metrics(used, error, reference_error))
        metrics["score_std"] = score_std
        return StepResult(score_b, used, metrics)

    def particle_count(self, batch_size: int) -> int:
        """The particles for a batch: transport.particles, or one per sample."""
        fixed = self.transport.particles
        return batch_size if fixed is None else fixed

    def check_batch(self, batch_size: int) -> None:
        """Refuse rollouts in which the whole weight of the spectrum sits on the top particle.

        What is trained is then the largest cost of a rollout, another and a milder risk; `tilted` has no
        gradient at all, since a score that sees the top rank alone is the same for all.

        Raises:
            ConfigError: with the number of samples that would do.
        """
        if not self._form.weighted:
            return
        if self.particle_count(batch_size) < self.minimum_batch():
            raise ConfigError(
                f"a rollout has {batch_size} samples; under {self.constraint.risk} only the most costly one"
                " would count, so that the largest of a rollout would be bounded instead; take at least"
                f" {self.minimum_batch()} samples a rollout (batch size × samples a prompt),"
                " better ten times as many"
            )

    def doubts(self, batch_size: int) -> list[str]:
        """What is doubtful about the ask before the first update, a text each; none where λ is held fixed."""
        if self._fixed:
            return []
        doubts, ask = [], self.ask
        if ask.fall > MOST_SHARE * ask.reach:
            doubts.append(
                f"it asks that the risk fall by {ask.fall:.4g}, of {ask.reach:.4g} at most, when every"
                f" answer costs the least; for half of it write {ask.key}: {ask.asking(ask.reach / 2):.4g}"
            )
        noise = reference_standard_error(ask, self._reference)
        if ask.fall > 0 and noise > ask.fall / 3:
            needed = math.ceil(self._reference.size * (5 * noise / ask.fall) ** 2)
            doubts.append(
                f"{self._reference.size} reference answers leave its violation uncertain by {noise:.4g}, and"
                f" it asks for {ask.fall:.4g}; take reference.samples: {needed}"
            )
        if ask.fall > 0 and (untrained := self._untrained(batch_size)) <= 0:
            doubts.append(
                f"the reference itself meets it, by noise: {batch_size} of its own answers show a gap of"
                f" {ask.level - untrained:.4g} on average, and {ask.level:.4g} is asked; raise {ask.key}, or"
                " set constraint.margin"
            )
        return doubts

    def _untrained(self, batch_size: int, draws: int = 200) -> float:
        """The mean violation of batches drawn from the reference itself, in the cost's own units."""
        rng, n = np.random.default_rng(0), self.particle_count(batch_size)
        reference_n = empirical_quantiles(self._reference / self.unit, n, repeats=True)
        weight_n = self.constraint.risk.weights(n)
        violations = [
            self._evaluate(
                empirical_quantiles(rng.choice(self._reference, batch_size) / self.unit, n),
                reference_n,
                weight_n,
            ).violation
            for _ in range(max(20, min(draws, 1_000_000 // batch_size)))
        ]
        return float(np.mean(violations)) * self.unit

    def minimum_batch(self) -> int:
        """The least number of samples with which more than the most costly one counts."""
        return self.constraint.risk.least_size()

    def score_bound(self) -> float:
        """An upper bound on λ_max · (max s − min s) over the reference costs, in the profile's unit.

        It takes every quantile as active. A clip range for rewards below it would cut the constraint.
        """
        cost_r = self._reference / self.unit
        reference_n = empirical_quantiles(cost_r, self.particle_count(cost_r.size))
        weight_n = self.constraint.risk.weights(reference_n.size)
        every = evaluate("spectral", reference_n, reference_n, weight_n, level=0.0)
        extremes, sampled = np.array([-math.inf, math.inf]), self.ask.spectrum.sampled(reference_n.size)
        score_b, _ = self._scores(extremes, reference_n, every, sampled)
        return self.dual.maximum * float(np.ptp(score_b))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold: λ, the baseline's sums, and the last plan's potentials.

        The rest follows from profile and reference.
        """
        learned = self._scores.baseline.state_dict()
        state: dict[str, Any] = {"dual": self.dual.state_dict(), "baseline": learned}
        if self._potentials is not None:
            state["potentials"] = [potential.tolist() for potential in self._potentials]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore λ and the potentials, if there are any; a fixed λ stays as it is."""
        if not self._fixed:
            self.dual.load_state_dict(state["dual"])
        if "baseline" in state:
            self._scores.baseline.load_state_dict(state["baseline"])
        saved = state.get("potentials")
        self._potentials = None if saved is None else (np.array(saved[0]), np.array(saved[1]))

    def _evaluate(self, particle_n: Array, reference_n: Array, weight_n: Array) -> ConstraintResult:
        return evaluate(
            self.constraint.settings.form,
            particle_n,
            reference_n,
            weight_n,
            level=self.ask.level / self.unit,
            margin=self.ask.shift / self.unit,
            floor=self.ask.least / self.unit,
            transport=self.transport,
            gap=self.constraint.dual.gap,
            start=self._potentials,
        )

    def _metrics(
        self, cost_b: Array, particle_n: Array, reference_n: Array, weight_n: Array, result: ConstraintResult
    ) -> dict[str, float]:
        """Metrics of a batch. Both risks come from the n particles, so that Eq. (16) holds among them."""
        q50, q90, q99 = np.quantile(cost_b, [0.5, 0.9, 0.99], method="inverted_cdf")
        total, plan = result.weight_n.sum(), result.plan
        spreads: dict[str, float] = {
            "risk": float(weight_n @ particle_n) / particle_n.size,
            "reference_risk": float(weight_n @ reference_n) / reference_n.size,
            "gap_forward": result.gap_forward,
            "gap_reverse": result.gap_reverse,
            "constraint_value": result.value,
            "constraint_level": result.level,
            "violation": result.violation,
        }
        return {
            "cost_mean": float(cost_b.mean()),
            "cost_q50": float(q50),
            "cost_q90": float(q90),
            "cost_q99": float(q99),
            **{name: value * self.unit for name, value in spreads.items()},
            "sinkhorn_iterations": float(plan.iterations) if plan else 0.0,
            "marginal_error": plan.marginal_error if plan else 0.0,
            "sinkhorn_converged": float(plan.converged) if plan else 1.0,
            "share_active": float(result.weight_n @ result.activation_n / total),
            "saturated": float(saturation(self.constraint.risk, cost_b, self._reference) is not None),
        }

    def _dual_metrics(self, used: float, error: Uncertainty, reference_error: float) -> dict[str, float]:
        """All that λ moved by, so that its path can be computed again from the metrics."""
        return {
            "violation_error": error.standard_error * self.unit,
            "violation_samples": error.samples,
            "reference_error": reference_error * self.unit,
            "violation_used": self.dual.moved_by * self.unit,
            "fall_asked": self.ask.fall,
            "fall_possible": self.ask.reach,
            "lambda": used,
            "lambda_next": self.dual.value,
        }

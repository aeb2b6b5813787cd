"""Gradient estimators: ``python benchmarks/estimators.py`` (five minutes of a core).

A softmax policy over 24 kinds of answers, each with costs of its own location and spread, whose risk and its
gradient are known by quadrature. Printed for each size n of a rollout, law of costs and spectrum of Table 1:

- length: of the expected estimate along the true gradient, over the true length;
- cosine: of both;
- signal: ‖E ĝ‖²/tr Cov ĝ of one rollout, without the bias of its estimate; 0 and a cosine of "–" where the
  rollouts drawn show no direction;
- steps: until the true risk has first fallen by 0.2 reference spreads, under the default dual and a reward
  that likes what costs; the median over seeds, "–" where it never did.

The estimators: those of version 0.1.0, ``spacing`` by the weight of the particle below a gap and ``tilted``,
both through RLOO with two answers a prompt; ``spacing`` as it is now, as well; ``leave_one_out`` with
its own baseline and whole tails; and the default, which winsorises heavy tails.

``--baselines`` prints instead what the baseline costs: the variance of the constraint's part of the gradient
under RLOO, under the rollout alone, and under both in proportion, over that of the rollout alone, for normal
costs that correlate so within prompts.

``--constants`` prints what the two constants of the rule for heavy tails do, on laws that the table lacks.
They are the ones of greatest cosine with at least the signal of ``tilted`` along the truth.

The rule for the default: of the estimators whose length is within 5 % of the truth on normal costs at
n = 32 for CVaR 0.9 and Wang 1, the one with the greatest mean log signal over heavy-tailed laws. Last, its
signal is compared with the better of version 0.1.0's two there: as each ships, and with the rollout as the
baseline of all, which ``leave_one_out`` has by itself.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from openrlhf_rad.method.dual import make_dual
from openrlhf_rad.method.scores import (
    PartnerBaseline,
    PartnerScores,
    Tails,
    from_above,
    gap_terms,
    heavy_tails,
    leave_one_out,
)
from openrlhf_rad.method.spectrum import Spectrum, make_spectrum
from openrlhf_rad.profile import ConstraintSettings, DualSettings

Array = NDArray[np.float64]
#: Scores of the sorted costs of rollouts (…, n), or advantages of costs in any order.
Estimator = Callable[[Array, Spectrum, Tails], Array]

KINDS, SIZES, ASK, STEPS, REFERENCE = 24, (32, 64, 512), 0.2, 200, 1024
#: Blocks of rollouts that are left out, one after another, for standard errors.
BLOCKS = 20
SPECTRA = (
    make_spectrum("mean"),
    make_spectrum("var", alpha=0.9),
    make_spectrum("cvar", alpha=0.9),
    make_spectrum("linear"),
    make_spectrum("exponential", kappa=3),
    make_spectrum("power", gamma=3),
    make_spectrum("wang", eta=1),
)
CONTINUOUS = {
    "normal": stats.norm(),
    "log-normal": stats.lognorm(1),
    "t2": stats.t(2),
    "Pareto 1.5": stats.pareto(1.5),
    "t3": stats.t(3),
    "Pareto 2.5": stats.pareto(2.5),
    "Weibull 0.6": stats.weibull_min(0.6),
    "log-normal 0.7": stats.lognorm(0.7),
    "log-logistic 2": stats.fisk(2),
}
#: On which the constants of the rule for tails were chosen.
OTHERS = ("t3", "Pareto 2.5", "Weibull 0.6", "log-normal 0.7", "log-logistic 2")
#: Standard normal latent costs are cut where these shares of them lie below.
CUTS = {"0/1": (0.9,), "1–5": (0.5, 0.75, 0.87, 0.95)}
LAWS, HEAVY = ("normal", "log-normal", "t2", "Pareto 1.5", *CUTS), ("log-normal", "t2", "Pareto 1.5")


class Answers:
    """24 kinds of answers with costs of one law, and the policy's true risk.

    Attributes:
        start_k: logits of the reference policy. reward_k: of each kind, which likes what costs.
    """

    def __init__(self, law: str) -> None:
        rng = np.random.default_rng(1)
        self.start_k = 0.5 * rng.normal(size=KINDS)
        self._place_k, self._width_k = 0.5 * rng.normal(size=KINDS), np.exp(0.15 * rng.normal(size=KINDS))
        self.reward_k = 0.5 * self._place_k
        self._law = CONTINUOUS.get(law, stats.norm())
        self._cuts = np.array([stats.norm.ppf(cut) * 1.2 for cut in CUTS[law]]) if law in CUTS else None
        if self._cuts is None:
            far = 10 * max(abs(self._law.ppf(1e-9)), abs(self._law.isf(1e-9)))
            edge_m = np.sinh(np.linspace(-1, 1, 10_001) * np.arcsinh(far))
            self._step_m, at_m = np.diff(edge_m), (edge_m[1:] + edge_m[:-1]) / 2
        else:
            self._step_m, at_m = np.ones(self._cuts.size), self._cuts
        self._above_km = self._law.sf((at_m - self._place_k[:, None]) / self._width_k[:, None])

    def sample(
        self, rng: np.random.Generator, policy_k: Array, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], Array]:
        """Kinds and costs."""
        kind = rng.choice(KINDS, p=policy_k, size=shape)
        cost = self._place_k[kind] + self._width_k[kind] * self._law.rvs(size=shape, random_state=rng)
        return kind, cost if self._cuts is None else np.searchsorted(self._cuts, cost).astype(np.float64)

    def risk(self, policy_k: Array, spectrum: Spectrum) -> float:
        """ρ up to a constant of the law: −∫ G(F(x)) dx."""
        return -float(spectrum.cumulative(1 - policy_k @ self._above_km) @ self._step_m)

    def gradient(self, logit_k: Array, spectrum: Spectrum) -> Array:
        """−∇ρ in the logits, by central differences of the quadrature."""
        bumps = 1e-4 * np.eye(KINDS)
        return np.array(
            [
                (self.risk(softmax(logit_k - bump), spectrum) - self.risk(softmax(logit_k + bump), spectrum))
                / 2e-4
                for bump in bumps
            ]
        )


def softmax(logit_k: Array) -> Array:
    """Probabilities."""
    power_k = np.exp(logit_k - logit_k.max())
    return np.asarray(power_k / power_k.sum())


def paired(score_rb: Array) -> Array:
    """RLOO with two answers a prompt."""
    return np.asarray(score_rb - score_rb.reshape(-1, 2)[:, ::-1].reshape(score_rb.shape))


def alone(score_rb: Array) -> Array:
    """The rollout without the answer."""
    size = score_rb.shape[-1]
    return np.asarray((score_rb - score_rb.mean(-1, keepdims=True)) * size / (size - 1))


def old_spacing(particle_rn: Array, spectrum: Spectrum, _tails: Tails) -> Array:
    """Of version 0.1.0: Σ w_i (q_{i+1} − q_i) 1{c ≤ q_i}."""
    return from_above(spectrum.weights(particle_rn.shape[-1])[:-1] * np.diff(particle_rn))


def tilted(particle_rn: Array, spectrum: Spectrum, _tails: Tails) -> Array:
    """As :func:`~openrlhf_rad.method.scores.score` has it: of tied costs all have the first one's."""
    size = particle_rn.shape[-1]
    fresh_rn = np.diff(particle_rn, prepend=-math.inf) > 0
    first_rn = np.maximum.accumulate(np.where(fresh_rn, np.arange(size), 0), axis=-1)
    return np.asarray(from_above(spectrum.weights(size) / size)[first_rn])


def spacing(particle_rn: Array, spectrum: Spectrum, _tails: Tails) -> Array:
    """As :func:`~openrlhf_rad.method.scores.score` has it."""
    size = particle_rn.shape[-1]
    return (1 - 1 / size) * from_above(np.add(*gap_terms(np.diff(particle_rn), spectrum.sampled(size))))


def whole(particle_rn: Array, spectrum: Spectrum, _tails: Tails) -> Array:
    """``leave_one_out`` with tails as they are."""
    return leave_one_out(np.diff(particle_rn), spectrum.sampled(particle_rn.shape[-1]))


def winsorised(particle_rn: Array, spectrum: Spectrum, tails: Tails) -> Array:
    """``leave_one_out`` as in training."""
    change_rg = tails.winsorised(np.diff(particle_rn), particle_rn)
    return leave_one_out(change_rg, spectrum.sampled(particle_rn.shape[-1]))


def by(made: Estimator, baseline: Callable[[Array], Array] | None = None) -> Estimator:
    """Advantages of costs in any order from scores of sorted ones, less a baseline if they have none."""

    def advantages(cost_rb: Array, spectrum: Spectrum, tails: Tails) -> Array:
        order_rb = np.argsort(cost_rb, axis=-1, kind="stable")
        score_rb = np.empty(cost_rb.shape)
        score_rn = made(np.take_along_axis(cost_rb, order_rb, axis=-1), spectrum, tails)
        np.put_along_axis(score_rb, order_rb, score_rn, axis=-1)
        return baseline(score_rb) if baseline else score_rb

    return advantages


ESTIMATORS: dict[str, Estimator] = {
    "spacing of 0.1.0": by(old_spacing, paired),
    "tilted": by(tilted, paired),
    "spacing": by(spacing, paired),
    "leave_one_out, whole": by(whole),
    "leave_one_out": by(winsorised),
}
#: The two of version 0.1.0, as they shipped and with the baseline of ``leave_one_out``.
SHIPPED = "spacing of 0.1.0", "tilted"
ALONE = {
    "spacing of 0.1.0, rollout": by(old_spacing, alone),
    "tilted, rollout": by(tilted, alone),
}


@dataclass(frozen=True)
class Cell:
    """One estimator under one law, spectrum and size.

    Attributes:
        signal_j: without each block of rollouts.
    """

    length: float
    cosine: float
    signal: float
    signal_j: Array
    steps: float = math.nan

    def __str__(self) -> str:
        steps = f"{self.steps:.0f}" if self.steps <= STEPS else "–"
        cosine = f"{self.cosine:.2f}" if self.signal > 0 else "–"
        return f"{self.length:.2f} · {cosine} · {self.signal:.2g} · {steps}"


@dataclass(frozen=True)
class Rollouts:
    """Rollouts of the reference policy under one law, and what is true of it under a spectrum."""

    answers: Answers
    spectrum: Spectrum
    truth_k: Array
    reference_r: Array
    kind_rb: NDArray[np.int64]
    cost_rb: Array

    @classmethod
    def of(cls, law: str, spectrum: Spectrum, size: int, rollouts: int) -> Rollouts:
        """So many of them."""
        answers, rng = Answers(law), np.random.default_rng(2)
        policy_k, truth_k = softmax(answers.start_k), answers.gradient(answers.start_k, spectrum)
        _, reference_r = answers.sample(rng, policy_k, (REFERENCE,))
        return cls(answers, spectrum, truth_k, reference_r, *answers.sample(rng, policy_k, (rollouts, size)))

    @property
    def tails(self) -> Tails:
        """As the reference shows them."""
        return heavy_tails(ConstraintSettings(), self.spectrum, self.reference_r)

    def cell(self, estimate: Estimator, tails: Tails) -> Cell:
        """All but the steps."""
        (rollouts, size), policy_k = self.kind_rb.shape, softmax(self.answers.start_k)
        advantage_rb = estimate(self.cost_rb, self.spectrum, tails)
        place = np.arange(rollouts)[:, None] * KINDS + self.kind_rb
        sums_rk = np.bincount(place.ravel(), advantage_rb.ravel(), rollouts * KINDS).reshape(rollouts, KINDS)
        estimate_rk = (sums_rk - advantage_rb.sum(1, keepdims=True) * policy_k) / size
        mean_k, signal, noise = strength(estimate_rk)
        block_r = np.arange(rollouts) % BLOCKS
        without = (strength(estimate_rk[block_r != block]) for block in range(BLOCKS))
        signal_j = np.array([one / other for _, one, other in without])
        true = float(np.linalg.norm(self.truth_k))
        along = float(mean_k @ self.truth_k) / true**2
        cosine = min(along * true / math.sqrt(signal), 1.0) if signal else math.nan
        return Cell(along, cosine, signal / noise, signal_j)


def measure(law: str, spectrum: Spectrum, size: int, *, rollouts: int, seeds: int) -> dict[str, Cell]:
    """All estimators on the same rollouts."""
    drawn = Rollouts.of(law, spectrum, size, rollouts)
    tails, spread = drawn.tails, float(drawn.reference_r.std())
    found = {}
    for name, estimate in (ESTIMATORS | ALONE).items():
        found[name] = drawn.cell(estimate, tails)
        if seeds and name in ESTIMATORS:
            steps = [
                train(drawn.answers, spectrum, size, estimate, tails, spread, seed) for seed in range(seeds)
            ]
            found[name] = replace(found[name], steps=float(np.median(steps)))
    return found


def constants(rollouts: int) -> str:
    """What the constants of the rule for tails do, on other laws than the heavy ones above; in Markdown.

    Scores of the default over those of ``tilted``, with the rollout for both baselines: mean log signal, the
    same of the signal along the truth, and cosine over laws, spectra and sizes.
    """
    sums: dict[tuple[float, float], list[tuple[float, float, float]]] = {}
    for law, spectrum, size in itertools.product(OTHERS, SPECTRA, SIZES[::2]):
        drawn = Rollouts.of(law, spectrum, size, rollouts)
        plain = drawn.cell(ALONE["tilted, rollout"], Tails())
        for kept, reach in itertools.product((1 / 2, 1 / 3, 1 / 4), (0.5, 0.25, 0.15, 0.1, 0.05)):
            with patch.multiple("openrlhf_rad.method.scores", _KEPT=kept, _REACH=reach):
                cell = drawn.cell(ESTIMATORS["leave_one_out"], drawn.tails)
            ratio = math.log(cell.signal / plain.signal)
            along = ratio + 2 * math.log(cell.cosine / plain.cosine)
            sums.setdefault((kept, reach), []).append((ratio, along, cell.cosine))
    lines = ["| weight kept | reach | signal | along the truth | cosine |", "|---" * 5 + "|"]
    for (kept, reach), rows in sums.items():
        ratio, along, cosine = np.mean(rows, axis=0)
        lines.append(f"| {kept:.2f} | {reach:g} | {ratio:+.3f} | {along:+.3f} | {cosine:.3f} |")
    return "\n".join(lines)


def strength(estimate_rk: Array) -> tuple[Array, float, float]:
    """E ĝ, ‖E ĝ‖² without the bias of its estimate, and tr Cov ĝ."""
    mean_k, noise = estimate_rk.mean(0), float(estimate_rk.var(0, ddof=1).sum())
    return mean_k, max(float(mean_k @ mean_k) - noise / estimate_rk.shape[0], 0.0), noise


def train(  # noqa: PLR0917 - one run, said once
    answers: Answers,
    spectrum: Spectrum,
    size: int,
    estimate: Estimator,
    tails: Tails,
    spread: float,
    seed: int,
) -> int:
    """Steps until the true risk has fallen by the ask; STEPS + 1 for never."""
    rng, dual, logit_k = np.random.default_rng([3, seed]), make_dual(DualSettings()), answers.start_k.copy()
    least = answers.risk(softmax(logit_k), spectrum) - ASK * spread
    for step in range(STEPS + 1):
        policy_k = softmax(logit_k)
        violation = (answers.risk(policy_k, spectrum) - least) / spread
        if violation <= 0:
            return step
        kind_b, cost_b = answers.sample(rng, policy_k, (size,))
        advantage_b = dual.value * estimate(cost_b, spectrum, tails) / spread + paired(
            answers.reward_k[kind_b]
        )
        sums_k = np.bincount(kind_b, advantage_b, KINDS)
        logit_k = logit_k + (sums_k - advantage_b.sum() * policy_k) / size
        dual.update(violation, 0.0, float(size))
    return STEPS + 1


def baselines(rollouts: int = 2_000, size: int = 64) -> str:
    """Variances of Σ z · A/n, z = ±1 for ∇log π, in Markdown."""
    names = "spectrum", "answers a prompt", "correlation of costs", "of scores", "RLOO", "rollout", "both"
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for spectrum, answers, rho in itertools.product((SPECTRA[0], SPECTRA[2]), (2, 4), (0.0, 0.3, 0.6, 0.9)):
        rng, partners = np.random.default_rng(4), PartnerBaseline()
        cluster_b = np.repeat(np.arange(size // answers), answers)
        noise_rm = np.empty((rollouts, 3))
        for row in noise_rm:
            prompt_b = rng.normal(size=size // answers)[cluster_b]
            cost_b = math.sqrt(rho) * prompt_b + math.sqrt(1 - rho) * rng.normal(size=size)
            alone_b = ESTIMATORS["leave_one_out"](cost_b, spectrum, Tails())
            grouped = alone_b.reshape(-1, answers)
            rloo_b = (answers * grouped - grouped.sum(1, keepdims=True)).ravel() / (answers - 1)
            particle_n, place_b = np.sort(cost_b), np.argsort(np.argsort(cost_b))
            both_b = partners(alone_b, place_b, cluster_b, PartnerScores(np.diff(particle_n), spectrum))
            row[:] = rng.choice([-1.0, 1.0], size) @ np.stack([rloo_b, alone_b, both_b], axis=1)
        rloo, alone, both = noise_rm[200:].var(0)
        variances = f"{rloo / alone:.2f} | 1.00 | {both / alone:.2f}"
        lines.append(f"| {spectrum} | {answers} | {rho:g} | {partners.correlation:.2f} | {variances} |")
    return "\n".join(lines)


def verdict(cells: dict[tuple[str, str, int], dict[str, Cell]]) -> str:
    """The rule, and the signal of the default against the better of version 0.1.0's two."""
    normal = [
        cells["normal", str(spectrum), SIZES[0]]
        for spectrum in SPECTRA
        if spectrum.measure in ("cvar", "wang")
    ]
    heavy = [found for (law, _, _), found in cells.items() if law in HEAVY]
    able = {
        name: float(np.mean([math.log(max(found[name].signal, 1e-9)) for found in heavy]))
        for name in ESTIMATORS
        if all(abs(found[name].length - 1) <= 0.05 for found in normal)
    }
    chosen = max(able, key=lambda name: able[name]) if able else "none"
    lines = [f"The default by the rule: {chosen}, of {', '.join(able) or 'none'}.\n"]
    lines += [
        "| costs | baselines | signal over the better of 0.1.0's two | at least 1 | surely below | cosine |"
    ]
    lines += ["|---" * 6 + "|"]
    short = []
    for law, (baseline, names) in itertools.product(
        HEAVY, (("as shipped", SHIPPED), ("rollout", tuple(ALONE)))
    ):
        ratios = []
        for (one, spectrum, size), found in cells.items():
            if one == law:
                ratio, error = against(found, names)
                ratios.append((ratio, error, found["leave_one_out"].cosine))
                if ratio < 1 and names == SHIPPED:
                    short.append(f"{law}, {spectrum}, n = {size}: {ratio:.2f} ± {error:.2f} as shipped")
        ratio_c, error_c, cosine_c = np.array(ratios).T
        cells_of = (
            f"{ratio_c.min():.2f} to {ratio_c.max():.2f}, median {np.median(ratio_c):.2f}",
            f"{(ratio_c >= 1).sum()} of {ratio_c.size}",
            str((ratio_c + 2 * error_c < 1).sum()),
            f"{np.nanmin(cosine_c):.2f} to {np.nanmax(cosine_c):.2f}",
        )
        lines.append(f"| {law} | {baseline} | {' | '.join(cells_of)} |")
    return "\n".join([*lines, "", *short])


def against(found: dict[str, Cell], names: tuple[str, ...]) -> tuple[float, float]:
    """Signal of the default over the best of others, and the standard error by leaving out blocks."""
    best = max(names, key=lambda name: found[name].signal)
    own, other = found["leave_one_out"], found[best]
    ratio_j = own.signal_j / np.maximum(other.signal_j, 1e-9)
    error = math.sqrt((BLOCKS - 1) * float(ratio_j.var()))
    return own.signal / max(other.signal, 1e-9), error


def main() -> None:
    """Measure and print a table a size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--baselines", action="store_true")
    parser.add_argument("--constants", action="store_true")
    options = parser.parse_args()
    if options.baselines or options.constants:
        print(baselines() if options.baselines else constants(2_000))
        return
    cells: dict[tuple[str, str, int], dict[str, Cell]] = {}
    for size in SIZES:
        print(f"\nrollouts of {size}; length · cosine · signal · steps\n")
        print(f"| costs | spectrum | {' | '.join(ESTIMATORS)} |\n{'|---' * (len(ESTIMATORS) + 2)}|")
        for law, spectrum in itertools.product(LAWS, SPECTRA):
            found = measure(law, spectrum, size, rollouts=max(320_000 // size, 1_000), seeds=3)
            cells[law, str(spectrum), size] = found
            shown = (str(found[name]) for name in ESTIMATORS)
            print(f"| {law} | {spectrum} | {' | '.join(shown)} |", flush=True)
    print("\n" + verdict(cells))


if __name__ == "__main__":
    main()

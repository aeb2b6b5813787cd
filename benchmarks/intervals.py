"""Whether intervals, bands, tests and the gate keep their word: ``python benchmarks/intervals.py``.

Costs of both models come from known distributions, tied by prompt through a normal copula; each line repeats
one experiment and says how often the truth was inside, or how often a test or the gate spoke. The risk of
every shipped profile is inferred from the same samples. The standard error of a share of 95 % is 0.5 points
for 2,000 repetitions. Some ten minutes on one core; ``--only`` picks one part. The tests of the suite call
the same functions with fewer repetitions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from openrlhf_rad.evaluation.gate import Gate, GateVerdict, Outcome
from openrlhf_rad.method.spectrum import Spectrum, make_spectrum
from openrlhf_rad.profile import load_profile
from openrlhf_rad.statistics import curves, dominance
from openrlhf_rad.statistics.answers import Panel
from openrlhf_rad.statistics.curves import quantile_levels
from openrlhf_rad.statistics.dominance import gaps
from openrlhf_rad.statistics.inference import GATE, Inference, fall, infer, influences, reliance
from openrlhf_rad.statistics.shares import share_estimate

Array = NDArray[np.float64]

_SCORES = np.linspace(-9, 9, 60_001)
_T3 = np.sign(_SCORES) * -special.stdtrit(3, special.ndtr(-np.abs(_SCORES)))
#: Costs by their normal score; pareto 3 and t 3 have no third moment, pareto 2.5 hardly a variance.
MARGINALS: dict[str, Callable[[Array], Array]] = {
    "constant": lambda z: 0.0 * z,
    "normal": lambda z: z,
    "log-normal": np.exp,
    "t 3": lambda z: np.interp(z, _SCORES, _T3),
    "pareto 3": lambda z: special.ndtr(-z) ** (-1 / 3) - 1,
    "pareto 2.5": lambda z: special.ndtr(-z) ** (-1 / 2.5) - 1,
    "pareto 1.5": lambda z: special.ndtr(-z) ** (-1 / 1.5) - 1,
    "flag 2 %": lambda z: (z > special.ndtri(0.98)) * 1.0,
    "flag 10 %": lambda z: (z > special.ndtri(0.9)) * 1.0,
}
SPECTRA = {
    "mean": make_spectrum("mean"),
    "cvar 0.9": make_spectrum("cvar", alpha=0.9),
    "linear": make_spectrum("linear"),
}
#: Of the quantile rule, which sees ranks alone: equal laws are alike, as is any candidate beside a constant.
PAIRS = (
    ("normal", "normal"),
    ("normal", "log-normal"),
    ("normal", "t 3"),
    ("normal", "pareto 3"),
    ("normal", "pareto 2.5"),
    ("constant", "t 3"),
)
#: Of the table over all profiles: the candidate's tail is as heavy as the baseline's, or heavier.
TAILS = (
    ("normal", "normal"),
    ("log-normal", "log-normal"),
    ("normal", "log-normal"),
    ("normal", "t 3"),
    ("normal", "pareto 2.5"),
    ("constant", "log-normal"),
    ("constant", "t 3"),
    ("constant", "pareto 2.5"),
    ("flag 10 %", "flag 2 %"),
)
#: (prompts, answers to each, the correlation of two answers' normal scores) of the table over all profiles;
#: None is the least number of prompts that the gate takes.
LAYOUTS = ((None, 1, 0.4), (300, 1, 0.4), (1000, 1, 0.4), (3000, 1, 0.4), (150, 4, 0.4), (300, 4, 0.9))
#: Of the gate's quantile rule: few answers and many.
GATES = ((128, 1, 0.4), (500, 1, 0.4), (1000, 1, 0.4), (150, 4, 0.4))
#: Numbers in one block of samples: what the processor's cache holds.
_BLOCK = 200_000


def shipped() -> dict[str, Spectrum]:
    """The risks of the shipped profiles, by their names; several with one risk count once."""
    risks: dict[Spectrum, list[str]] = {}
    for path in sorted((Path(__file__).parents[1] / "risk_profiles").glob("*.yaml")):
        for one in load_profile(path).constraints:
            names = risks.setdefault(one.risk, [])
            names += [path.stem] * (path.stem not in names)
    return {", ".join(names): risk for risk, names in risks.items()}


@dataclass(frozen=True)
class World:
    """Two distributions of costs, the answers to one prompt tied; candidate may be shifted."""

    baseline: str
    candidate: str
    prompts: int
    each: int
    shift: float = 0.0
    correlation: float = 0.4

    @property
    def panel(self) -> Panel:
        """The layout: every prompt has as many answers."""
        size_p = np.full(self.prompts, self.each)
        none_p = np.full(self.prompts, -1, dtype=np.int32)
        return Panel(np.arange(self.prompts) * self.each, size_p, none_p, (), {}, {}, {})

    def blocks(self, count: int, seed: int = 1) -> Iterator[tuple[Array, Array]]:
        """Costs of baseline and candidate, some samples of each at a time, shape (R, B)."""
        rng, answers = np.random.default_rng(seed), self.prompts * self.each
        step = max(1, _BLOCK // answers)
        for begin in range(0, count, step):
            size = min(step, count - begin)
            drawn = rng.normal(size=(size, self.prompts + 2 * answers))
            common = np.sqrt(self.correlation) * drawn[:, : self.prompts, None]
            own = np.sqrt(1 - self.correlation) * drawn[:, self.prompts :]
            baseline_rb, candidate_rb = (
                MARGINALS[name]((common + side.reshape(size, self.prompts, -1)).reshape(size, -1))
                for name, side in zip((self.baseline, self.candidate), np.split(own, 2, axis=1), strict=True)
            )
            yield baseline_rb, candidate_rb + self.shift

    def samples(self, count: int, seed: int = 1) -> Iterator[tuple[Array, Array]]:
        """Costs of baseline and candidate, again and again."""
        for baseline_rb, candidate_rb in self.blocks(count, seed):
            yield from zip(baseline_rb, candidate_rb, strict=True)

    def inferences(self, spectra: Mapping[str, Spectrum], count: int) -> dict[str, list[Inference]]:
        """What ``fall`` infers from each sample, for every spectrum; a sample is sorted once."""
        size_p, answers = self.panel.size_p, self.prompts * self.each
        held = {name: reliance(spectrum, self.prompts, answers) for name, spectrum in spectra.items()}
        found: dict[str, list[Inference]] = {name: [] for name in spectra}
        for sides in self.blocks(count):
            orders = [np.argsort(side, axis=1, kind="stable") for side in sides]
            for name, spectrum in spectra.items():
                baseline, candidate = (influences(spectrum, *one) for one in zip(sides, orders, strict=True))
                scaled_rpm = ((baseline[1] - candidate[1]) / answers).reshape(-1, self.prompts, self.each)
                rows = zip(
                    baseline[0] - candidate[0],
                    scaled_rpm.sum(axis=2),
                    (scaled_rpm**2).sum(axis=(1, 2)),
                    strict=True,
                )
                found[name] += [
                    infer(float(value), influence_p, float(iid), size_p, held[name])
                    for value, influence_p, iid in rows
                ]
        return found

    def quantiles(self, level_k: Array) -> tuple[Array, Array]:
        """The true quantiles of baseline and candidate."""
        score_k = special.ndtri(level_k)
        return MARGINALS[self.baseline](score_k), MARGINALS[self.candidate](score_k) + self.shift

    def gap(self, spectrum: Spectrum) -> tuple[float, float]:
        """L_w of candidate and baseline, and the other way, by quadrature that refines the upper tail."""
        beyond = np.concatenate([np.linspace(1, 0.01, 40_001), np.geomspace(0.01, 1e-14, 60_001)[1:]])
        score_k = -special.ndtri((beyond[1:] + beyond[:-1]) / 2)
        baseline_k, candidate_k = (
            MARGINALS[self.baseline](score_k),
            MARGINALS[self.candidate](score_k) + self.shift,
        )
        mass_k = np.diff(spectrum.cumulative(1 - beyond))
        below, above = np.maximum(baseline_k - candidate_k, 0.0), np.maximum(candidate_k - baseline_k, 0.0)
        return float(mass_k @ below), float(mass_k @ above)

    def fall(self, spectrum: Spectrum) -> float:
        """ρ(baseline) − ρ(candidate)."""
        below, above = self.gap(spectrum)
        return below - above


@dataclass(frozen=True)
class Record:
    """What became of the repetitions of one experiment, as shares.

    Attributes:
        given: with an interval. high, low: with an interval above and below the truth.
        passes: through the gate, whose ε is a hair above the true fall, so that every pass is false.
        silent: where it is inconclusive.
    """

    given: float
    high: float
    low: float
    passes: float
    silent: float

    @property
    def wrong(self) -> float:
        """With an interval that does not hold the truth: 5 % where one is always given."""
        return self.high + self.low


def record(found: list[Inference], truth: float) -> Record:
    """Intervals and gate on the boundary, both at 95 %."""
    intervals = [one.estimate() for one in found]
    ends_rk = np.array([(one.low, one.high) for one in intervals], dtype=float)  # None is NaN, inside of none
    bounds = [one.cautious(0.95) for one in found]
    limit = truth + 1e-9
    passed = [ends is not None and ends[0] >= limit for ends in bounds]
    failed = [one.rests_on(GATE) and one.value <= limit for one in found]
    silent = 1 - np.mean(passed) - np.mean(failed)
    given = float(np.isfinite(ends_rk[:, 0]).mean())
    high, low = float((ends_rk[:, 0] > truth).mean()), float((ends_rk[:, 1] < truth).mean())
    return Record(given, high, low, float(np.mean(passed)), float(silent))


def records(world: World, spectra: Mapping[str, Spectrum], count: int) -> dict[str, Record]:
    """A record for every spectrum."""
    found = world.inferences(spectra, count)
    return {name: record(held, world.fall(spectra[name])) for name, held in found.items()}


@lru_cache
def least_prompts(spectrum: Spectrum, each: int = 1) -> int:
    """The least number of prompts, answered independently, of which the gate says anything."""
    prompts = GATE
    while prompts * each * reliance(spectrum, prompts, prompts * each).share < GATE * (1 - 1e-6):
        prompts += 1
    return prompts


def share_coverage(
    prompts: int, each: int, correlation: float, share: float, count: int
) -> tuple[float, float]:
    """How often the 95 % interval of a share lies above and below the truth."""
    rng, above = np.random.default_rng(1), -special.ndtri(share)
    misses, size_p = np.zeros(2), np.full(prompts, each)
    held = reliance(SPECTRA["mean"], prompts, prompts * each)
    for _ in range(count):
        common = np.sqrt(correlation) * rng.normal(size=(prompts, 1))
        hit = common + np.sqrt(1 - correlation) * rng.normal(size=(prompts, each)) > above
        residual = (hit - hit.mean()) / hit.size
        found = infer(float(hit.mean()), residual.sum(axis=1), float((residual**2).sum()), size_p, held)
        interval = share_estimate(found)
        ends = interval.low or 0.0, interval.high or 1.0
        misses += ends[0] > share, ends[1] < share
    return float(misses[0] / count), float(misses[1] / count)


def band_coverage(world: World, count: int) -> dict[str, float]:
    """How often bands hold the candidate's whole curve and the difference's, and a bound one level of it."""
    panel, level_k = world.panel, quantile_levels(world.prompts)
    baseline_k, candidate_k = world.quantiles(level_k)
    hits = np.zeros(3)
    for seed, (baseline_b, candidate_b) in enumerate(world.samples(count)):
        curve = curves.quantile_curve(panel, candidate_b, 0.95, 1000, seed)
        moved = curves.difference(panel, baseline_b, candidate_b, level_k, draws=1000, seed=seed)
        band, truth_k = moved.band(0.95), candidate_k - baseline_k
        hits[0] += ((curve.low_k <= candidate_k + 1e-9) & (candidate_k - 1e-9 <= curve.high_k)).all()
        hits[1] += ((band.low_k <= truth_k + 1e-9) & (truth_k - 1e-9 <= band.high_k)).all()
        hits[2] += moved.upper(0.95)[-1] >= truth_k[-1] - 1e-9
    return dict(zip(("curve", "difference", "upper bound, top level"), map(float, hits / count), strict=True))


def gap_misses(world: World, spectrum: Spectrum, count: int) -> dict[str, tuple[float, float]]:
    """How often the intervals of both gaps lie above and below the truth; NaN where none is given."""
    panel, truth = world.panel, world.gap(spectrum)
    level_k = quantile_levels(world.prompts, expected=1.0)
    misses, given = np.zeros((2, 2)), 0
    for seed, (baseline_b, candidate_b) in enumerate(world.samples(count)):
        moved = curves.difference(panel, baseline_b, candidate_b, level_k, draws=500, seed=seed)
        found = gaps(
            spectrum, (baseline_b, candidate_b), moved, fall(panel, spectrum, baseline_b, candidate_b), 0.95
        )
        for row, (held, value) in enumerate(zip((found.below, found.above), truth, strict=True)):
            if held.low is not None and held.high is not None:
                misses[row] += held.low > value + 1e-9, held.high < value - 1e-9
        given += found.below.low is not None
    return {
        name: tuple(row / (given or np.nan)) for name, row in zip(("below", "above"), misses, strict=True)
    }


def test_rates(world: World, count: int) -> dict[str, float]:
    """How often the two dominance tests reject at 5 %."""
    panel, rejected = world.panel, np.zeros(2)
    for seed, (baseline_b, candidate_b) in enumerate(world.samples(count)):
        against = dominance.barrett_donald(
            panel, candidate_b, baseline_b, words=("candidate", "baseline"), draws=500, seed=seed
        )
        proof = dominance.davidson_duclos(
            panel, candidate_b, baseline_b, words=("candidate", "baseline"), levels=(0.05, 0.95)
        )
        rejected += against.p <= 0.05, proof.p <= 0.05
    return {"against dominance": float(rejected[0] / count), "for dominance": float(rejected[1] / count)}


def gate_rates(world: World, gate: Gate, count: int) -> dict[str, float]:
    """How often the gate passes, fails and is inconclusive."""
    panel, found = world.panel, dict.fromkeys(Outcome, 0)
    for baseline_b, candidate_b in world.samples(count):
        held = replace(panel, costs={"cost": {"baseline": baseline_b, "candidate": candidate_b}})
        rulings = gate.decide(held, "baseline", "candidate")
        found[GateVerdict("baseline", "candidate", rulings).outcome] += 1
    return {str(outcome): number / count for outcome, number in found.items()}


def risk_power(found: list[Inference]) -> float:
    """How often the gate's bound of the risk passes where Student's t at the same level does in 80 %.

    ε lies as far below the true fall as that takes.
    """
    plain = np.array([one.value - one.error * special.stdtrit(one.prompts - 1, 0.975) for one in found])
    limit = float(np.quantile(plain, 0.2))
    bounds = [one.cautious(0.95) for one in found]
    return float(np.mean([ends is not None and ends[0] >= limit for ends in bounds]))


def risk_boundary(world: World, spectrum: Spectrum) -> Gate:
    """The gate whose risk rule is just not met: its limit is a hair below the true change.

    So every pass is false. Where the risk is truly higher that is the boundary of non-inferiority.
    """
    return Gate(spectrum, -world.fall(spectrum) - 1e-9, None)


def quantile_boundary(world: World, spectrum: Spectrum) -> Gate:
    """The gate whose quantile rule is just not met at the worst level of its range."""
    level_k = quantile_levels(world.prompts, 0.05, 0.95)
    baseline_k, candidate_k = world.quantiles(level_k)
    tau = float((candidate_k - baseline_k).max()) - 1e-9
    return Gate(spectrum, None, tau, levels=(0.05, 0.95), draws=500)


def print_profiles(count: int) -> None:
    """Intervals and gate for the risk of every shipped profile: the worst pairs, then all of them."""
    spectra = shipped()
    table: dict[tuple[str, int, tuple[str, str]], Record] = {}
    for place, (prompts, each, correlation) in enumerate(LAYOUTS):
        for pair in TAILS:
            if prompts:
                found = records(World(*pair, prompts, each, 0.0, correlation), spectra, count)
            else:
                found = {}
                for name, spectrum in spectra.items():
                    world = World(*pair, least_prompts(spectrum, each), each, 0.0, correlation)
                    found |= records(world, {name: spectrum}, count)
            table |= {(name, place, pair): held for name, held in found.items()}
    heads = [f"{prompts or 'least'} × {each}, {tied}" for prompts, each, tied in LAYOUTS]
    print("\n## every shipped profile: most wrong intervals, most false passes of all pairs, %\n")
    print(f"Of 5 %; the standard error is {_error(0.05, count)}. none: on so few answers it says nothing.\n")
    print("| profile (least prompts) | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
    for name, spectrum in spectra.items():
        cells = []
        for place in range(len(LAYOUTS)):
            held = [table[name, place, pair] for pair in TAILS]
            wrong, passes = (
                100 * max(kind) for kind in zip(*((one.wrong, one.passes) for one in held), strict=True)
            )
            cells.append(f"{wrong:.1f}, {passes:.1f}" if any(one.given for one in held) else "none, none")
        print(f"| {name} ({least_prompts(spectrum)}) | " + " | ".join(cells) + " |", flush=True)
    for name, spectrum in spectra.items():
        print(f"\n### {name}: {spectrum}\n\nwrong intervals (given), false passes (inconclusive), %\n")
        print("| baseline, candidate | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
        for pair in TAILS:
            cells = [_cell(table[name, place, pair]) for place in range(len(LAYOUTS))]
            print(f"| {', '.join(pair)} | " + " | ".join(cells) + " |", flush=True)


def _error(share: float, count: int) -> str:
    return f"{100 * np.sqrt(share * (1 - share) / count):.1f}"


def _cell(held: Record) -> str:
    return (
        f"{100 * held.wrong:.1f} ({100 * held.given:.0f}), {100 * held.passes:.1f} ({100 * held.silent:.0f})"
    )


def print_shares(count: int) -> None:
    """Coverage of the intervals of shares of clustered answers."""
    rare = (0.005, 0.01, 0.03, 0.1, 0.5)
    print("\n## 95 % intervals of a share: coverage (missed with the interval too high, too low), %\n")
    print("| prompts × answers, correlation | " + " | ".join(f"{share:g}" for share in rare) + " |")
    print("|---|" + "---|" * len(rare))
    for prompts, each, tied in ((300, 1, 0.0), (128, 2, 0.4), (100, 4, 0.8), (300, 4, 0.8), (100, 10, 0.8)):
        cells = []
        for share in rare:
            high, low = share_coverage(prompts, each, tied, share, count)
            cells.append(f"{100 * (1 - high - low):.1f} ({100 * high:.1f}, {100 * low:.1f})")
        print(f"| {prompts} × {each}, {tied:g} | " + " | ".join(cells) + " |", flush=True)


def print_bands(count: int) -> None:
    """Coverage of bands and of the gaps' intervals."""
    print("\n## bands for all levels at once, and intervals of the gaps\n")
    print(
        "| baseline, candidate, shift, prompts × answers | curve | difference | bound | below mean, cvar"
        " | above |"
    )
    print("|---|---|---|---|---|---|")
    cases = (("normal", "normal", 0.0), ("normal", "normal", -0.5), ("log-normal", "log-normal", -0.5))
    for baseline, candidate, shift in (*cases, ("normal", "t 3", 0.0)):
        for prompts, each in ((128, 1), (500, 1), (100, 4)):
            world = World(baseline, candidate, prompts, each, shift)
            held = [f"{100 * share:.1f}" for share in band_coverage(world, count).values()]
            misses = [gap_misses(world, SPECTRA[name], count) for name in ("mean", "cvar 0.9")]
            for side in ("below", "above"):
                covers = [100 * (1 - sum(one[side])) for one in misses]
                held.append(", ".join("none" if np.isnan(share) else f"{share:.1f}" for share in covers))
            print(
                f"| {baseline}, {candidate}, {shift:g}, {prompts} × {each} | " + " | ".join(held) + " |",
                flush=True,
            )


def print_tests(count: int) -> None:
    """Level and power of the dominance tests at 5 %."""
    print("\n## dominance tests at 5 %: how often they reject, %\n")
    print("| baseline, candidate, shift, prompts × answers | against dominance | for dominance |")
    print("|---|---|---|")
    # Both tests see ranks alone: equal distributions of any shape give the same numbers.
    cases = (
        ("normal", "normal", 0.0),
        ("normal", "normal", 0.3),
        ("normal", "normal", -0.3),
        ("normal", "normal", -0.6),
        ("normal", "t 3", 0.0),
    )
    for baseline, candidate, shift in cases:
        for prompts, each in ((128, 1), (500, 1), (100, 4)):
            equal = baseline == candidate and not shift
            rates = test_rates(
                World(baseline, candidate, prompts, each, shift), count if equal else count // 10
            )
            cells = " | ".join(f"{100 * rate:.1f}" for rate in rates.values())
            print(f"| {baseline}, {candidate}, {shift:g}, {prompts} × {each} | {cells} |", flush=True)


def print_quantiles(count: int) -> None:
    """False passes of the gate's rule of the quantiles."""
    print("\n## the quantile rule at 95 %: false passes (inconclusive) on its boundary, %\n")
    heads = [f"{prompts} × {each}" for prompts, each, _ in GATES]
    print("| baseline, candidate | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
    for pair in PAIRS:
        cells = []
        for prompts, each, tied in GATES:
            world = World(*pair, prompts, each, 0.0, tied)
            rates = gate_rates(world, quantile_boundary(world, SPECTRA["mean"]), count // 20)
            cells.append(f"{100 * rates['pass']:.1f} ({100 * rates['inconclusive']:.0f})")
        print(f"| {', '.join(pair)} | " + " | ".join(cells) + " |", flush=True)


def print_power(count: int) -> None:
    """What the gate's caution costs where tails are no heavier than they look."""
    print("\n## power of the risk rule where Student's t at the same level has 80 %, %\n")
    pairs = (*((name, name) for name in ("normal", "log-normal", "t 3")), ("flag 10 %", "flag 10 %"))
    designs = [(*pair, prompts) for prompts in (1000, 3000) for pair in pairs]
    print("| profile | " + " | ".join(f"{candidate}, {prompts}" for _, candidate, prompts in designs) + " |")
    print("|---|" + "---|" * len(designs))
    spectra = shipped()
    powers: dict[str, list[str]] = {name: [] for name in spectra}
    for baseline, candidate, prompts in designs:
        world = World(baseline, candidate, prompts, 1)
        for name, found in world.inferences(spectra, count).items():
            powers[name].append(f"{100 * risk_power(found):.0f}")
    for name, cells in powers.items():
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print every part, or one."""
    parts = {
        "profiles": print_profiles,
        "shares": print_shares,
        "bands": print_bands,
        "tests": print_tests,
        "quantiles": print_quantiles,
        "power": print_power,
    }
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draws", type=int, default=2000, help="repetitions of each experiment")
    options.add_argument("--only", choices=parts)
    chosen = options.parse_args()
    for name, part in parts.items():
        if chosen.only in (None, name):
            part(chosen.draws // 5 if name == "bands" else chosen.draws)


if __name__ == "__main__":
    main()

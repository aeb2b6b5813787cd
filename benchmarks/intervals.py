"""Whether intervals, bands, tests and the gate keep their word: ``python benchmarks/intervals.py``.

Costs of red and blue come from known distributions, tied by prompt through a normal copula; each line repeats
one experiment and says how often the truth was inside, or how often a test or the gate spoke. The standard
error of a share of 95 % is 0.5 points for 2,000 repetitions. About ten minutes on one core; ``--only`` picks
one part. The tests of the suite call the same functions with fewer repetitions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from openrlhf_rad.evaluation import bands, dominance
from openrlhf_rad.evaluation.gaps import gaps
from openrlhf_rad.evaluation.gate import Gate, overall
from openrlhf_rad.evaluation.influence import effective_share, fall
from openrlhf_rad.evaluation.panel import Panel
from openrlhf_rad.evaluation.process import quantile_levels
from openrlhf_rad.evaluation.rules import CAUTION, Outcome
from openrlhf_rad.spectrum import Spectrum, make_spectrum

Array = NDArray[np.float64]

#: Quantile functions; pareto 3 and t 3 have no third moment, pareto 2.5 hardly a variance.
MARGINALS: dict[str, Callable[[Array], Array]] = {
    "constant": lambda u: 0.0 * u,
    "normal": special.ndtri,
    "log-normal": lambda u: np.exp(special.ndtri(u)),
    "t 3": lambda u: special.stdtrit(3, u),
    "pareto 3": lambda u: (1 - u) ** (-1 / 3) - 1,
    "pareto 2.5": lambda u: (1 - u) ** (-1 / 2.5) - 1,
}
SPECTRA = {
    "mean": make_spectrum("mean"),
    "cvar 0.9": make_spectrum("cvar", alpha=0.9),
    "linear": make_spectrum("linear"),
}
PAIRS = (
    ("normal", "normal"),
    ("log-normal", "log-normal"),
    ("t 3", "t 3"),
    ("pareto 3", "pareto 3"),
    ("normal", "log-normal"),
    ("normal", "t 3"),
    ("normal", "pareto 3"),
    ("constant", "t 3"),
    ("constant", "log-normal"),
    ("constant", "pareto 3"),
    ("constant", "pareto 2.5"),
    ("normal", "pareto 2.5"),
)
#: (prompts, answers to each). The correlation of two answers' normal scores is 0.4.
DESIGNS = ((50, 1), (100, 1), (300, 1), (1000, 1), (150, 4))
#: Of the gate: few answers and many.
GATES = ((50, 1), (128, 1), (500, 1), (1000, 1), (150, 4))
CORRELATION = 0.4
POWER = (("mean", ((128, 1), (500, 1), (150, 4))), ("cvar 0.9", ((500, 1), (1000, 1))))


@dataclass(frozen=True)
class World:
    """Two distributions of costs, the answers to one prompt tied; blue may be shifted."""

    red: str
    blue: str
    prompts: int
    each: int
    shift: float = 0.0

    @property
    def panel(self) -> Panel:
        """The layout: every prompt has as many answers."""
        size_p = np.full(self.prompts, self.each)
        none_p = np.full(self.prompts, -1, dtype=np.int32)
        return Panel(np.arange(self.prompts) * self.each, size_p, none_p, (), {}, {}, {})

    def samples(self, count: int, seed: int = 1) -> Iterator[tuple[Array, Array]]:
        """Costs of red and blue, again and again."""
        rng = np.random.default_rng(seed)
        shape = (self.prompts, self.each)
        for _ in range(count):
            common = np.sqrt(CORRELATION) * rng.normal(size=(self.prompts, 1))
            sides = [common + np.sqrt(1 - CORRELATION) * rng.normal(size=shape) for _ in range(2)]
            red_b, blue_b = (
                MARGINALS[name](special.ndtr(side)).ravel()
                for name, side in zip((self.red, self.blue), sides, strict=True)
            )
            yield red_b, blue_b + self.shift

    def quantiles(self, level_k: Array) -> tuple[Array, Array]:
        """The true quantiles of red and blue."""
        return MARGINALS[self.red](level_k), MARGINALS[self.blue](level_k) + self.shift

    def gap(self, spectrum: Spectrum) -> tuple[float, float]:
        """L_w(blue, red) and L_w(red, blue), by quadrature that refines the upper tail."""
        edge = np.concatenate([np.linspace(0, 0.99, 40_001), 1 - np.geomspace(0.01, 1e-12, 40_001)[1:]])
        red_k, blue_k = self.quantiles((edge[1:] + edge[:-1]) / 2)
        mass_k = np.diff(spectrum.cumulative(edge))
        below, above = np.maximum(red_k - blue_k, 0.0), np.maximum(blue_k - red_k, 0.0)
        return float(mass_k @ below), float(mass_k @ above)

    def fall(self, spectrum: Spectrum) -> float:
        """ρ(red) − ρ(blue)."""
        below, above = self.gap(spectrum)
        return below - above


def interval_coverage(world: World, spectrum: Spectrum, count: int) -> tuple[float, float, float]:
    """How often the 95 % interval of ρ(red) − ρ(blue) lies above and below the truth; how often there is one.

    The first two are shares of the intervals that are given; NaN where none is.
    """
    truth, panel = world.fall(spectrum), world.panel
    found = [fall(panel, spectrum, *sides).estimate() for sides in world.samples(count)]
    ends = [(one.low, one.high) for one in found if one.low is not None]
    lows, highs = np.array(ends, dtype=float).reshape(-1, 2).T
    if not ends:
        return np.nan, np.nan, 0.0
    return float((lows > truth).mean()), float((highs < truth).mean()), len(ends) / count


def band_coverage(world: World, count: int) -> dict[str, float]:
    """How often bands hold the whole curve of blue and of the difference, and a bound one level of it."""
    panel, level_k = world.panel, quantile_levels(world.prompts)
    red_k, blue_k = world.quantiles(level_k)
    hits = np.zeros(3)
    for seed, (red_b, blue_b) in enumerate(world.samples(count)):
        curve = bands.quantile_curve(panel, blue_b, 0.95, 1000, seed)
        moved = bands.difference(panel, red_b, blue_b, level_k, draws=1000, seed=seed)
        band, truth_k = moved.band(0.95), blue_k - red_k
        hits[0] += ((curve.low_k <= blue_k + 1e-9) & (blue_k - 1e-9 <= curve.high_k)).all()
        hits[1] += ((band.low_k <= truth_k + 1e-9) & (truth_k - 1e-9 <= band.high_k)).all()
        hits[2] += moved.upper(0.95)[-1] >= truth_k[-1] - 1e-9
    return dict(zip(("curve", "difference", "upper bound, top level"), map(float, hits / count), strict=True))


def gap_misses(world: World, spectrum: Spectrum, count: int) -> dict[str, tuple[float, float]]:
    """How often the intervals of both gaps lie above and below the truth; NaN where none is given."""
    panel, truth = world.panel, world.gap(spectrum)
    level_k = quantile_levels(world.prompts, expected=1.0)
    misses = np.zeros((2, 2))
    for seed, (red_b, blue_b) in enumerate(world.samples(count)):
        moved = bands.difference(panel, red_b, blue_b, level_k, draws=500, seed=seed)
        found = gaps(spectrum, (red_b, blue_b), moved, fall(panel, spectrum, red_b, blue_b), 0.95)
        for row, (held, value) in enumerate(zip((found.below, found.above), truth, strict=True)):
            if held.low is None or held.high is None:
                misses[row] += np.nan
            else:
                misses[row] += held.low > value + 1e-9, held.high < value - 1e-9
    return {name: tuple(row / count) for name, row in zip(("below", "above"), misses, strict=True)}


def test_rates(world: World, count: int) -> dict[str, float]:
    """How often the two dominance tests reject at 5 %."""
    panel, rejected = world.panel, np.zeros(2)
    for seed, (red_b, blue_b) in enumerate(world.samples(count)):
        against = dominance.barrett_donald(panel, blue_b, red_b, words=("blue", "red"), draws=500, seed=seed)
        proof = dominance.davidson_duclos(panel, blue_b, red_b, words=("blue", "red"), levels=(0.05, 0.95))
        rejected += against.p <= 0.05, proof.p <= 0.05
    return {"against dominance": float(rejected[0] / count), "for dominance": float(rejected[1] / count)}


def gate_rates(world: World, gate: Gate, count: int) -> dict[str, float]:
    """How often the gate passes, fails and cannot say."""
    panel, found = world.panel, dict.fromkeys(Outcome, 0)
    for red_b, blue_b in world.samples(count):
        held = Panel(panel.start_p, panel.size_p, panel.segment_p, (), {"red": red_b, "blue": blue_b}, {}, {})
        found[overall(gate.decide(held, "red", "blue"))] += 1
    return {outcome.name.lower(): number / count for outcome, number in found.items()}


def risk_power(world: World, spectrum: Spectrum, count: int) -> float:
    """How often the gate's bound of the risk passes where the same bound without caution does in 80 %.

    ε lies as far below the true fall as that takes.
    """
    truth, panel = world.fall(spectrum), world.panel
    found = [fall(panel, spectrum, *sides) for sides in world.samples(count)]
    plain, cautious = (
        np.array([one.lower(0.025, allowance) - truth for one in found]) for allowance in (0.0, CAUTION)
    )
    room = -float(np.quantile(plain, 0.2))
    return float((cautious >= -room).mean())


def risk_boundary(world: World, spectrum: Spectrum) -> Gate:
    """The gate whose risk rule is just not met: ε is a hair above the true fall, so every pass is false."""
    return Gate(spectrum, world.fall(spectrum) + 1e-9, None)


def quantile_boundary(world: World, spectrum: Spectrum) -> Gate:
    """The gate whose quantile rule is just not met at the worst level of its range."""
    level_k = quantile_levels(world.prompts, 0.05, 0.95)
    red_k, blue_k = world.quantiles(level_k)
    tau = float((blue_k - red_k).max()) - 1e-9
    return Gate(spectrum, None, tau, levels=(0.05, 0.95), draws=500)


def print_intervals(count: int) -> None:
    """Coverage of the 95 % intervals of the risk's fall."""
    print(
        "\n## 95 % intervals of ρ(red) − ρ(blue): coverage (missed with the interval too high, too low), %\n"
    )
    heads = [f"{p} prompts × {m}" for p, m in DESIGNS]
    for name, spectrum in SPECTRA.items():
        rests = [f"{p * m * effective_share(spectrum):.0f}" for p, m in DESIGNS]
        print(f"| {name}; rests on {', '.join(rests)} answers | " + " | ".join(heads) + " |")
        print("|---|" + "---|" * len(DESIGNS))
        for red, blue in PAIRS:
            cells = []
            for prompts, each in DESIGNS:
                high, low, shown = interval_coverage(World(red, blue, prompts, each), spectrum, count)
                held = f"{100 * (1 - high - low):.1f} ({100 * high:.1f}, {100 * low:.1f})"
                rare = f", given in {100 * shown:.0f}" if shown < 1 else ""
                cells.append(held + rare if shown else "none")
            print(f"| {red}, {blue} | " + " | ".join(cells) + " |", flush=True)
        print()


def print_bands(count: int) -> None:
    """Coverage of bands and of the gaps' intervals."""
    print("\n## bands for all levels at once, and intervals of the gaps\n")
    print("| red, blue, shift, prompts × answers | curve | difference | bound | below mean, cvar | above |")
    print("|---|---|---|---|---|---|")
    cases = (("normal", "normal", 0.0), ("normal", "normal", -0.5), ("log-normal", "log-normal", -0.5))
    for red, blue, shift in (*cases, ("normal", "t 3", 0.0)):
        for prompts, each in ((128, 1), (500, 1), (100, 4)):
            world = World(red, blue, prompts, each, shift)
            held = [f"{100 * share:.1f}" for share in band_coverage(world, count).values()]
            misses = [gap_misses(world, SPECTRA[name], count) for name in ("mean", "cvar 0.9")]
            for side in ("below", "above"):
                covers = [100 * (1 - sum(one[side])) for one in misses]
                held.append(", ".join("none" if np.isnan(share) else f"{share:.1f}" for share in covers))
            print(f"| {red}, {blue}, {shift:g}, {prompts} × {each} | " + " | ".join(held) + " |", flush=True)


def print_tests(count: int) -> None:
    """Level and power of the dominance tests at 5 %."""
    print("\n## dominance tests at 5 %: how often they reject, %\n")
    print("| red, blue, shift, prompts × answers | against dominance | for dominance |")
    print("|---|---|---|")
    # Both tests see ranks alone: equal distributions of any shape give the same numbers.
    cases = (
        ("normal", "normal", 0.0),
        ("normal", "normal", 0.3),
        ("normal", "normal", -0.3),
        ("normal", "normal", -0.6),
        ("normal", "t 3", 0.0),
    )
    for red, blue, shift in cases:
        for prompts, each in ((128, 1), (500, 1), (100, 4)):
            equal = red == blue and not shift
            rates = test_rates(World(red, blue, prompts, each, shift), count if equal else count // 10)
            cells = " | ".join(f"{100 * rate:.1f}" for rate in rates.values())
            print(f"| {red}, {blue}, {shift:g}, {prompts} × {each} | {cells} |", flush=True)


def print_gate(count: int) -> None:
    """False passes of the gate at the boundary of each rule."""
    print("\n## gate at 95 %: false passes (cannot say) on the boundary of the rule, %\n")
    print("| red, blue, prompts × answers | risk: mean | risk: cvar 0.9 | quantiles |")
    print("|---|---|---|---|")
    for red, blue in PAIRS:
        for prompts, each in GATES:
            world = World(red, blue, prompts, each)
            gates = [risk_boundary(world, SPECTRA[name]) for name in ("mean", "cvar 0.9")]
            rates = [gate_rates(world, gate, count) for gate in gates]
            if prompts >= 100:
                gate = quantile_boundary(world, SPECTRA["mean"])
                rates.append(gate_rates(world, gate, count // 20))
            cells = [f"{100 * rate['pass']:.1f} ({100 * rate['unknown']:.0f})" for rate in rates]
            cells += ["0.0 (100)"] * (3 - len(cells))
            print(f"| {red}, {blue}, {prompts} × {each} | {' | '.join(cells)} |", flush=True)


def print_power(count: int) -> None:
    """What the gate's caution about tails costs where they are no heavier than they look."""
    print("\n## power of the risk rule where bounds without its caution have 80 %\n")
    heads = [f"{name}, {p} × {m}" for name, designs in POWER for p, m in designs]
    print("| red, blue | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
    for red, blue in PAIRS:
        cells = []
        for name, designs in POWER:
            for prompts, each in designs:
                power = risk_power(World(red, blue, prompts, each), SPECTRA[name], count)
                cells.append(f"{100 * power:.1f}")
        print(f"| {red}, {blue} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print every part, or one."""
    parts = {
        "intervals": print_intervals,
        "bands": print_bands,
        "tests": print_tests,
        "gate": print_gate,
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

"""Which dual variable is steady: ``python benchmarks/dual.py [--seeds 100] [--out DIR]`` (half an hour).

Each variant trains the policy of benchmarks/bandit.py in four scenarios, two shipped profiles × a slow and a
fast policy, and prints one Markdown table; ``dual-paths.png`` in DIR shows the paths of λ. All start at
λ = 1, with a maximum of 10, and have one setting for all scenarios.

Criterion, fixed before the first comparison: the mean over all steps, scenarios and seeds of the
exact-penalty regret

    J* − J(π_t) + 2 λ* · max(violation_t, 0),     J = E[r] − β KL,

where λ* is the smallest λ that, held throughout a noiseless training, ends feasible, and J* what it ends
with. Twice the shadow price makes the constrained optimum the best policy (any factor above 1 does), and
slack that is not needed costs the reward that it gives away. Early steps count as much as late ones, so that
slowness, overshoot and oscillation all cost.

The rule has two parts.

1. Admissible is a variant whose share of runs that end violated is at most that of ``ascent``, plus half of
   the 95 % interval of that share.
2. The default is the admissible variant with the least criterion; where the paired 95 % interval of a simpler
   admissible one's difference to it (an earlier line of SETTINGS) holds 0, that one.

Part 1 is an amendment. The first rule was part 2 alone, on seeds 0 to 49: ``log`` won, and ended violated in
40 % of its runs where ``ascent`` did in 13 %. The criterion weighs the last steps no more than any others;
but the last policy is the one that ships, and to end violated is what a constraint is there to prevent. The
amended rule was written down before any of the seeds below was run: tuning takes bandits from 2000 on, the
table from 3000 on.

Tuning. Each variant has nine settings (SETTINGS). ``ascent`` takes the one with the least criterion; every
other variant the one with the least criterion among those that are admissible on the tuning seeds, by part 1
there; where none is, the one that ends violated least often.

``--coverage`` prints instead how often the upper confidence bound of a batch covers the true violation,
``--gradients`` how runs end under the defaults of each gradient, and `tilted` with other multiples of λ.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from bandit import BATCH, SCENARIOS, Array, Bandit, Scenario, best_held
from bandit import Path as Run
from scipy import special

from openrlhf_rad.method.dual import make_dual
from openrlhf_rad.method.particles import empirical_quantiles
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.method.transport import dominance_gap
from openrlhf_rad.method.uncertainty import upper_confidence_bound
from openrlhf_rad.profile import DualSettings, RiskProfile, load_profile
from openrlhf_rad.style import new_figure, styled

STEPS, TUNING_SEEDS, FIRST_TUNING_SEED, FIRST_SEED = 200, 20, 2000, 3000
#: Shares of a run: what counts as settled, and as its end.
SETTLED, END = slice(STEPS // 2, None), slice(-STEPS // 4, None)
#: Feasible: the true violation stays at or below 0 on average over so many steps.
STAYS = 10


def _steps(low: float, high: float, **options: object) -> list[DualSettings]:
    return [DualSettings(step=round(float(s), 4), **options) for s in np.geomspace(low, high, 9)]  # type: ignore[arg-type]


def _grid(**options: Sequence[object]) -> list[DualSettings]:
    rows = itertools.product(*options.values())
    return [DualSettings(**dict(zip(options, row, strict=True))) for row in rows]  # type: ignore[arg-type]


#: Variant → its nine settings; the simplest first.
SETTINGS: dict[str, list[DualSettings]] = {
    "ascent": _steps(0.05, 10.0),
    "log (Safe RLHF)": _steps(0.05, 10.0, method="log"),
    "ascent, EMA": _grid(estimate=["ema"], step=[0.7, 2.0, 6.0], memory=[2, 4, 8]),
    "ascent, window": _grid(estimate=["window"], step=[0.2, 0.8, 3.2], memory=[2, 4, 8]),
    "Adam": _steps(0.02, 2.0, method="adam"),
    "PID": [
        replace(options, proportional=gain, derivative=slope)
        for options in _grid(method=["pid"], step=[0.2, 0.8, 3.2])
        for gain, slope in [(1.0, 0.0), (4.0, 0.0), (4.0, 4.0)]
    ],
    "ascent, 90 % bound": _steps(0.05, 10.0, confidence=0.9),
    "PID, 90 % bound": [
        replace(options, proportional=gain, derivative=slope)
        for options in _grid(method=["pid"], confidence=[0.9], step=[0.2, 0.8, 3.2])
        for gain, slope in [(1.0, 0.0), (4.0, 0.0), (4.0, 4.0)]
    ],
}

MEASURES = {
    "regret": "criterion",
    "steps": "steps to feasibility",
    "unsafe": "violation, all steps",
    "slack": "overshoot",
    "oscillation": "oscillation",
    "final": "final violation",
    "missed": "ends violated, %",
    "reward": "final reward",
    "lost": "objective lost",
}


class Lane:
    """A scenario with one seed: its bandit, and what hindsight reaches on it."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.seed, self.scenario = seed, scenario
        self.bandit = Bandit(scenario, seed)
        self.price, self.best = best_held(
            self.bandit, STEPS, 10.0, lambda value_t: float(value_t[END].mean())
        )

    def run(self, options: DualSettings) -> Run:
        """One training under these options."""
        return self.bandit.learn(make_dual(options), self.seed, STEPS)

    def measure(self, run: Run) -> dict[str, float]:
        """The columns of the table, violations in reference spreads."""
        missed_t = np.maximum(run.violation_t, 0)
        calm_t = np.convolve(run.violation_t, np.ones(STAYS) / STAYS, "valid") <= 0
        return {
            "regret": float((self.best - run.objective_t + 2 * self.price * missed_t).mean()),
            "steps": float(np.argmax(calm_t)) if calm_t.any() else float(STEPS),
            "unsafe": float(missed_t.mean()),
            "slack": float(np.maximum(-run.violation_t[SETTLED], 0).mean()),
            "oscillation": float(run.violation_t[SETTLED].std()),
            "final": float(run.violation_t[END].mean()),
            "missed": 100.0 * float(run.violation_t[END].mean() > 0),
            "reward": float(run.reward_t[END].mean()),
            "lost": self.best - float(run.objective_t[END].mean()),
        }


def lanes(first: int, count: int) -> list[Lane]:
    """All scenarios with ``count`` seeds each, from ``first`` on; see best_held for the bandits left out."""
    found: list[Lane] = []
    for seed in itertools.count(first):
        try:
            found += [Lane(scenario, seed) for scenario in SCENARIOS]
        except ValueError as reason:
            print(f"seed {seed} left out: {reason}", flush=True)
        if len(found) == count * len(SCENARIOS):
            break
    return found


def by_seed(on: Sequence[Lane], options: DualSettings) -> dict[str, Array]:
    """Each measure, one value a seed: the mean over its scenarios, for a bandit's scenarios are alike."""
    rows = [lane.measure(lane.run(options)) for lane in on]
    return {
        key: np.array([row[key] for row in rows]).reshape(-1, len(SCENARIOS)).mean(axis=1) for key in MEASURES
    }


def most_missed(plain: dict[str, Array]) -> float:
    """Part 1 of the rule: the share of runs that may end violated, in %, from the measures of ``ascent``."""
    return sum(interval(plain["missed"]))


def tune(settings: Sequence[DualSettings], on: Sequence[Lane], most: float | None) -> DualSettings:
    """The admissible setting with the least mean criterion; without ``most``, of all."""
    found = [by_seed(on, options) for options in settings]
    missed, regret = ([float(one[key].mean()) for one in found] for key in ("missed", "regret"))
    able = [place for place, share in enumerate(missed) if most is None or share <= most]
    if not able:
        return settings[int(np.argmin(missed))]
    return settings[min(able, key=lambda place: regret[place])]


def interval(value_s: Array) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95 % interval (Student's t)."""
    count = value_s.size
    half = special.stdtrit(count - 1, 0.975) * value_s.std(ddof=1) / np.sqrt(count)
    return float(value_s.mean()), float(half)


def choose(found: dict[str, dict[str, Array]]) -> str:
    """The default by the rule above, from the measures of each variant and seed."""
    most = most_missed(found["ascent"])
    regret = {name: one["regret"] for name, one in found.items() if one["missed"].mean() <= most}
    best = min(regret, key=lambda name: float(regret[name].mean()))
    for name, value_s in regret.items():
        mean, half = interval(value_s - regret[best]) if name != best else (0.0, 0.0)
        if mean - half <= 0:
            return name
    return best


def changed(options: DualSettings) -> str:
    """The options that differ from the defaults, and the step."""
    plain = asdict(DualSettings())
    words = [f"{k} {v:g}" for k, v in asdict(options).items() if k == "step" or (v != plain[k] and _tuned(k))]
    return ", ".join(words)


def _tuned(key: str) -> bool:
    return key in {"memory", "proportional", "derivative"}


def table(chosen: dict[str, DualSettings], found: dict[str, dict[str, Array]]) -> str:
    """The Markdown table: means over seeds ± half of the 95 % interval."""
    lines = [
        f"| variant | setting | {' | '.join(MEASURES.values())} |",
        "|---" * (len(MEASURES) + 2) + "|",
    ]
    for name, columns in found.items():
        cells = [
            "{:.{d}f} ± {:.{d}f}".format(*interval(columns[key]), d=0 if key in {"steps", "missed"} else 3)
            for key in MEASURES
        ]
        lines.append(f"| {name} | {changed(chosen[name])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(chosen: dict[str, DualSettings], on: Sequence[Lane], out: Path) -> None:
    """λ's paths, a panel a variant and scenario, with the λ that hindsight holds."""
    with styled():
        figure = new_figure(2.1 * len(chosen), 1.7 * len(SCENARIOS))
        axes = figure.subplots(len(SCENARIOS), len(chosen), sharex=True, sharey="row", squeeze=False)
        for place, (row, scenario) in enumerate(zip(axes, SCENARIOS, strict=True)):
            mine = [lane for lane in on if lane.scenario == scenario][:8]
            row[0].set_ylabel(f"{scenario}\nλ", fontsize=8)
            for axis, (name, options) in zip(row, chosen.items(), strict=True):
                for lane in mine:
                    axis.plot(lane.run(options).dual_t, color="#0072B2", linewidth=0.7, alpha=0.7)
                axis.axhline(np.median([lane.price for lane in mine]), color="#D55E00", linestyle="--")
                axis.tick_params(labelsize=7)
                if place == 0:
                    axis.set_title(name, fontsize=8)
                if place == len(SCENARIOS) - 1:
                    axis.set_xlabel("step", fontsize=8)
        figure.savefig(out, dpi=110)


def gradients(count: int) -> str:
    """How runs end under λ's defaults and multiples of them, by the gradient of the scores; in Markdown."""
    on = [lane for lane in lanes(FIRST_SEED, count) if lane.scenario.profile != "safe-rlhf"]
    lines = ["| gradient | λ: initial, step, max | ends violated, % | at the cap, % | objective lost |"]
    lines.append("|---" * 5 + "|")
    cases = [("leave_one_out", 1), ("spacing", 1), *(("tilted", factor) for factor in (1, 3, 6, 12))]
    for gradient, factor in cases:
        plain = DualSettings()
        options = replace(plain, **{key: factor * getattr(plain, key) for key in ("initial", "step", "max")})
        rows = []
        for lane in on:
            asked = lane.bandit.profile
            lane.bandit.profile = asked.with_overrides({"constraint.gradient": gradient})
            run = lane.run(options)
            lane.bandit.profile = asked
            found = lane.measure(run)
            capped = 100.0 * float((run.dual_t[END] >= 0.999 * options.max).mean())
            rows.append((found["missed"], capped, found["lost"]))
        missed, capped, lost = np.mean(rows, axis=0)
        setting = f"{options.initial:g}, {options.step:g}, {options.max:g}"
        lines.append(f"| {gradient} | {setting} | {missed:.0f} | {capped:.0f} | {lost:.2f} |")
    return "\n".join(lines)


def coverage(trials: int = 500) -> str:
    """Of the 90 % bound beside references drawn anew, in brackets without their error; in Markdown."""
    rng = np.random.default_rng(0)
    draws = {
        "normal": lambda size: rng.normal(size=size),
        "log-normal": lambda size: rng.lognormal(size=size),
        "t, 3 degrees": lambda size: rng.standard_t(3, size=size),
    }
    lines = ["| costs | profile | reference | 32 samples | 64 | 256 |", "|---" * 6 + "|"]
    for (law, sample), name in itertools.product(draws.items(), ("safe-rlhf", "uniform", "cvar", "medical")):
        profile = load_profile(name).with_overrides({"transport.indicator": "exact", "units": "cost"})
        population = empirical_quantiles(np.sort(sample(1_000_000)), 20_000)
        cells = []
        for size in (32, 64, 256):
            found = [
                _covers(profile, sample(size), sample(profile.reference_samples), population)
                for _ in range(trials)
            ]
            with_it, without = np.mean(found, axis=0)
            cells.append(f"{with_it:.1%} ({without:.1%})")
        lines.append(f"| {law} | {name} | {profile.reference_samples} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _covers(profile: RiskProfile, cost_b: Array, reference: Array, population: Array) -> tuple[bool, bool]:
    """Whether the bound covers the true violation of what is asked, with the reference's error and without.

    The policy's law is the reference's own, and the ask is the one that this reference resolves to.
    """
    step = RadStep(profile, reference, fixed_dual=0.0)  # also what no policy can meet has a violation
    found, ask = step(cost_b).metrics, step.ask
    weight_n = profile.weights(population.size)
    if not ask.form.weighted:
        truth = float(reference.mean()) - ask.level
    else:
        target_n = np.maximum(population - ask.shift, ask.least)
        truth = dominance_gap(target_n, population, weight_n) - ask.level
    errors = math.hypot(found["violation_error"], found["reference_error"]), found["violation_error"]
    uppers = [
        upper_confidence_bound(found["violation"], error, 0.9, found["violation_samples"]) for error in errors
    ]
    return uppers[0] >= truth, uppers[1] >= truth


def main() -> None:
    """Tune, compare, choose, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/dual"))
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--gradients", action="store_true")
    options = parser.parse_args()
    if options.coverage or options.gradients:
        print(coverage() if options.coverage else gradients(options.seeds))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    tuning = lanes(FIRST_TUNING_SEED, TUNING_SEEDS)
    chosen: dict[str, DualSettings] = {}
    most: float | None = None
    for name, settings in SETTINGS.items():
        chosen[name] = tune(settings, tuning, most)
        print(f"tuned {name}: {changed(chosen[name])}", flush=True)
        if most is None:  # of ascent, the first
            most = most_missed(by_seed(tuning, chosen[name]))
            print(f"admissible in tuning: at most {most:.1f} % end violated", flush=True)
    on = lanes(FIRST_SEED, options.seeds)
    found: dict[str, dict[str, Array]] = {}
    for name, setting in chosen.items():
        found[name] = by_seed(on, setting)
        (options.out / "found.json").write_text(
            json.dumps({n: {k: v.tolist() for k, v in columns.items()} for n, columns in found.items()})
        )
        print(f"ran {name}", flush=True)
    seeds, scenarios = len(on) // len(SCENARIOS), len(SCENARIOS)
    print(f"\n{seeds} seeds × {scenarios} scenarios, batches of {BATCH}, {STEPS} steps\n")
    print(table(chosen, found))
    regret = {name: columns["regret"] for name, columns in found.items()}
    for name, value_s in regret.items():
        if name != "ascent":
            mean, half = interval(value_s - regret["ascent"])
            print(f"criterion of {name} against ascent, paired: {mean:+.4f} ± {half:.4f}")
    print(f"\nadmissible: at most {most_missed(found['ascent']):.1f} % of the runs end violated")
    print(f"the default by the rule: {choose(found)}")
    draw(chosen, on, options.out / "dual-paths.png")


if __name__ == "__main__":
    main()

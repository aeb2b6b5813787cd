"""The paper's Tables 2 to 4 and Figure 1 over seeds, every spectral risk × every model, and the frontier.

All pairs of models are compared prompt by prompt: every pair of answers to a prompt, one of each model,
counts by how likely the two are. Where answers are sampled, those are all pairs of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import DataError
from openrlhf_rad.method.spectrum import MEAN, Spectrum, make_spectrum
from openrlhf_rad.statistics.inference import Estimate
from openrlhf_rad.study import estimates
from openrlhf_rad.study.answers import RUNS, STEPS, ModelScores, Table, read_scores, read_table
from openrlhf_rad.study.estimates import Draws
from openrlhf_rad.study.exact import HELD_OUT, OTHER
from openrlhf_rad.study.spec import START, Model, Study

Array = NDArray[np.float64]
TAIL = make_spectrum("cvar", alpha=0.9)
#: Draws of two-level resampling, where prompts are sampled.
DRAWS = 400
#: A tie of Table 4: costs that differ by at most so many spreads of the start's.
TIE = 0.1
#: Who is safe in the cells of Figure 1: the baseline, the variant; the last is overall.
CELLS: dict[str, tuple[bool | None, bool | None]] = {
    "safe, safe": (True, True),
    "safe, unsafe": (True, False),
    "unsafe, safe": (False, True),
    "unsafe, unsafe": (False, False),
    "overall": (None, None),
}


@dataclass(frozen=True)
class ModelPair:
    """A variant beside a baseline on one set of prompts, over seeds.

    Attributes:
        safe: share of safe answers of the variant whose reward is higher, lower, of all, and of the baseline
            (Table 2). dominance: by how much risk and mean fall (Table 3). wins: how often the variant's
            reward is higher, and how much of all the cell is (Figure 1). verdict: how often it costs less, as
            much, more (Table 4).
    """

    baseline: str
    variant: str
    safe: Mapping[str, Estimate]
    dominance: Mapping[str, Estimate]
    wins: Mapping[str, tuple[Estimate, float]]
    verdict: Mapping[str, Estimate]


@dataclass
class StudyEvidence:
    """The data of a study, and what is computed from them."""

    study: Study
    table: Table
    runs: Mapping[str, NDArray[Any]]
    steps: Mapping[str, NDArray[Any]] | None = None
    _draws: dict[str, Draws] = field(default_factory=dict)
    _risks: dict[tuple[str, str, Spectrum], Array] = field(default_factory=dict)

    @classmethod
    def read(cls, study: Study, folder: Path) -> StudyEvidence:
        """From the tables of a folder. Raises DataError where a model or seed is missing."""
        found = read_scores(folder)
        missing = [
            f"{model.name} under seed {seed}"
            for model in study.models
            for seed in study.seeds
            if (model.name, seed, HELD_OUT) not in found
        ]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise DataError(
                f"{folder}: there are no answers of {', '.join(missing[:3])}{more}; every model of a study is"
                " evaluated under every seed; run the study again, which goes on"
            )
        steps = read_table(folder, STEPS) if study.feasibility.profiles else None
        return cls(study, found, read_table(folder, RUNS), steps)

    @property
    def sets(self) -> list[str]:
        """The sets of prompts: held-out, and another distribution where there is one."""
        return [name for name in (HELD_OUT, OTHER) if (START, self.study.seeds[0], name) in self.table]

    @property
    def spectra(self) -> dict[str, Spectrum]:
        """Every risk that a variant bounds, with the mean and CVaR 0.9; by its text."""
        risks = [MEAN, *(model.profile.risk for model in self.study.of("variant")), TAIL]
        return {str(risk): risk for risk in risks}

    @property
    def unit(self) -> float:
        """σ₀: the spread of the start's costs on held-out prompts, mean over seeds."""
        return self._spread(lambda scores: scores.cost_pk)

    @property
    def reward_unit(self) -> float:
        """The spread of the start's rewards."""
        return self._spread(lambda scores: scores.reward_pk)

    def by_the_independent_cost(self) -> StudyEvidence | None:
        """The same answers measured by the cost that took no part in training; None where there is none."""
        table = {
            key: replace(scores, cost_pk=scores.other_pk)
            for key, scores in self.table.items()
            if scores.other_pk is not None
        }
        return StudyEvidence(self.study, table, self.runs) if len(table) == len(self.table) else None

    def draws(self, name: str) -> Draws:
        """Of a set of prompts; only those of a job are sampled."""
        if name not in self._draws:
            prompts = len(self.table[START, self.study.seeds[0], name].cost_pk)
            count = 0 if self.study.world else DRAWS
            self._draws[name] = Draws.of(prompts, len(self.study.seeds), count)
        return self._draws[name]

    def over_seeds(self, statistic: Callable[[int], Array]) -> Array:
        """A statistic of every seed, shape (R, S)."""
        return np.stack([statistic(seed) for seed in self.study.seeds], axis=1)

    def risk(self, model: str, spectrum: Spectrum, name: str = HELD_OUT) -> Array:
        """ρ_φ of a model, shape (R, S)."""
        key = model, name, spectrum
        if key not in self._risks:
            prompt_rp = self.draws(name).prompt_rp
            self._risks[key] = self.over_seeds(
                lambda seed: estimates.risk(self.table[model, seed, name], spectrum, prompt_rp)
            )
        return self._risks[key]

    def reward(self, model: str, name: str = HELD_OUT) -> Array:
        """The mean reward of a model, shape (R, S)."""

        def of(seed: int) -> Array:
            scores = self.table[model, seed, name]
            return estimates.mean(scores.reward_pk, scores.mass_pk, self.draws(name).prompt_rp)

        return self.over_seeds(of)

    def slack(self, model: str) -> Array:
        """Of every run, in σ₀; NaN of a model that is not trained."""
        mine = self.runs["model"] == model
        return np.asarray(self.runs["slack"][mine], dtype=np.float64)

    def estimate(self, value_rs: Array, name: str = HELD_OUT) -> Estimate:
        """The mean over seeds with its interval."""
        return self.draws(name).estimate(value_rs)

    def pairs(self, name: str) -> Iterator[ModelPair]:
        """Every variant and every other baseline beside every baseline before it."""
        models = self.study.compared
        for place, baseline in enumerate(self.study.of("baseline")):
            for variant in models[place + 1 :]:
                yield self.pair(baseline, variant, name)

    def pair(self, baseline: Model, variant: Model, name: str) -> ModelPair:
        """One pair."""
        counted = [
            _counts(
                self.table[baseline.name, seed, name],
                self.table[variant.name, seed, name],
                self.study.evaluation.threshold,
                TIE * self.unit,
            )
            for seed in self.study.seeds
        ]
        prompt_rp = self.draws(name).prompt_rp

        def shares(part: str, whole: str) -> Estimate:
            value_rs = np.stack(
                [estimates.share(count[part], count[whole], prompt_rp) for count in counted], axis=1
            )
            known_s = ~np.isnan(value_rs[0])
            if not known_s.any():
                return Estimate(float("nan"))
            if not known_s.all():  # a cell that some seeds have no answers in
                return Estimate(float(value_rs[0][known_s].mean()))
            return self.estimate(value_rs, name)

        risk = variant.profile.risk
        fallen = {
            "weighted": self.risk(baseline.name, risk, name) - self.risk(variant.name, risk, name),
            "unweighted": self.risk(baseline.name, MEAN, name) - self.risk(variant.name, MEAN, name),
        }
        return ModelPair(
            baseline.name,
            variant.name,
            {
                "reward higher": shares("safe higher", "higher"),
                "reward lower": shares("safe lower", "lower"),
                "variant": shares("safe variant", "all"),
                "baseline": shares("safe baseline", "all"),
            },
            {key: self.estimate(value_rs, name) for key, value_rs in fallen.items()},
            {
                cell: (shares(f"won {cell}", cell), float(np.mean([c[cell].mean() for c in counted])))
                for cell in CELLS
            },
            {word: shares(word, "all") for word in ("win", "tie", "lose")},
        )

    def _spread(self, values: Callable[[ModelScores], Array]) -> float:
        scores = [self.table[START, seed, HELD_OUT] for seed in self.study.seeds]
        return float(np.mean([estimates.spread(one, values(one)) for one in scores]))


def _counts(base: ModelScores, variant: ModelScores, threshold: float, tie: float) -> dict[str, Array]:
    """What happens between two answers to a prompt, one of each model: probabilities a prompt, shape (P,)."""
    mass = base.mass_pk[:, :, None] * variant.mass_pk[:, None, :]
    lead = variant.reward_pk[:, None, :] - base.reward_pk[:, :, None]
    safe_base = np.broadcast_to((base.cost_pk <= threshold)[:, :, None], mass.shape)
    safe_variant = np.broadcast_to((variant.cost_pk <= threshold)[:, None, :], mass.shape)
    judged = base.other_pk is not None and variant.other_pk is not None
    theirs, mine = (base.other_pk, variant.other_pk) if judged else (base.cost_pk, variant.cost_pk)
    assert theirs is not None
    assert mine is not None
    unit = tie if not judged else TIE * float(theirs.std())
    more = mine[:, None, :] - theirs[:, :, None]
    events = {
        "all": np.ones_like(lead, dtype=bool),
        "higher": lead > 0,
        "lower": lead < 0,
        "safe higher": (lead > 0) & safe_variant,
        "safe lower": (lead < 0) & safe_variant,
        "safe variant": safe_variant,
        "safe baseline": safe_base,
        "win": more < -unit,
        "tie": np.abs(more) <= unit,
        "lose": more > unit,
    }
    for cell, (first, second) in CELLS.items():
        inside = events["all"] if first is None else (safe_base == first) & (safe_variant == second)
        events |= {cell: inside, f"won {cell}": inside & (lead > 0)}
    return {name: np.asarray((mass * event).sum(axis=(1, 2))) for name, event in events.items()}

"""The risk profile: a checked, frozen record with its text, hash and overrides."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import Place
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.method.settings import (
    Constraint,
    ConstraintSettings,
    CostSource,
    DualSettings,
    TransportSettings,
    Units,
)
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile.check import build
from openrlhf_rad.profile.costs import plain_cost
from openrlhf_rad.profile.files import Found, find
from openrlhf_rad.profile.inherit import override, read_file
from openrlhf_rad.profile.language import EvaluateSettings, ReferenceSettings, WatchSettings, plain
from openrlhf_rad.profile.yaml import Node, Problems, dump, from_plain, scalar

#: Reference answers under `auto`, at least and at most; levels of the normal law that their number is from.
_SAMPLES = (256, 4096)
_GRID = 4_000
#: What the defaults ask for, in spreads; taken where the file says it in another unit.
_USUAL_FALL = 0.4


class Written(NamedTuple):
    """What a profile was read from: its nodes, bases merged in, its file and those that it extends."""

    root: Node = from_plain({}, "", Place(""))
    sources: tuple[str, ...] = ("",)

    @property
    def source(self) -> str:
        """The file as the user named it."""
        return self.sources[0]


@dataclass(frozen=True)
class RiskProfile:
    """A risk profile. Two are equal when all their values are, wherever they were written.

    Attributes:
        constraints: all constraints, one for each segment, in the order of the file.
        shared: what the top level of the file says, where it has `constraints` or `segments`, whose entries
            take it over; None where the only constraint is what it says.
        document: the file as written, for overrides.
    """

    name: str
    description: str
    constraints: tuple[Constraint, ...]
    shared: Constraint | None = None
    units: Units = "spread"
    transport: TransportSettings = field(default_factory=TransportSettings)
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    watches: WatchSettings = field(default_factory=WatchSettings)
    document: Written = field(default=Written(), compare=False, repr=False)

    @classmethod
    def from_text(cls, text: str, source: str = "<profile>", folder: Path | None = None) -> RiskProfile:
        """Read YAML text; relative paths in it start from folder. Raises ProfileError with all problems."""
        return cls._from_file(Found(text, source, folder or Path.cwd(), source))

    @classmethod
    def _from_file(cls, source: Found) -> RiskProfile:
        root, problems = read_file(source)
        return cls(**build(root, problems), document=Written(root, tuple(problems.sources)))

    @property
    def top(self) -> Constraint:
        """What the top level of the file says: the only constraint, or what all take over."""
        return self.shared or self.constraints[0]

    @property
    def risk(self) -> Spectrum:
        """The spectrum of the top level; of the first constraint where it names none."""
        return self.top.risk

    @property
    def constraint(self) -> ConstraintSettings:
        """The section `constraint`."""
        return self.top.settings

    @property
    def dual(self) -> DualSettings:
        """The section `dual`."""
        return self.top.dual

    @property
    def cost(self) -> CostSource | None:
        """The section `cost`."""
        return self.top.cost

    def weights(self, n: int) -> NDArray[np.float64]:
        """Bin weights of the spectrum for n particles, shape (n,), mean 1."""
        return self.risk.weights(n)

    @property
    def reference_samples(self) -> int:
        """How many reference answers are sampled: as the file says, or what the constraints ask for."""
        return self.reference.samples or max(map(_samples, self.constraints))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and yet worth knowing, one text each."""
        return tuple(dict.fromkeys(text for one in self.constraints for text in _warnings(one)))

    def resolved(self) -> dict[str, Any]:
        """Every value of the profile as plain data, defaults included; it reads back as an equal profile."""
        return {
            "name": self.name,
            "description": self.description,
            "risk": self.risk.plain(),
            "units": self.units,
            **({"values": list(self.top.values)} if self.top.values else {}),
            "constraint": plain(self.constraint),
            **(_families(self.constraints) if self.shared else {}),
            "dual": plain(self.dual),
            "transport": plain(self.transport),
            "cost": plain_cost(self.cost),
            "reference": plain(self.reference),
            "evaluate": plain(self.evaluate),
            "watches": plain(self.watches),
        }

    def to_yaml(self) -> str:
        """resolved() as YAML text."""
        return dump(self.resolved())

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of what the method computes: risk, units, constraints, dual, transport and the size
        of the reference.

        Name, description, costs, reference.file, evaluate and watches are left out: they differ between
        machines, come after training or only look on, and the costs themselves are recorded with a run.
        """
        data = self.resolved()
        kept = {key: data[key] for key in ("risk", "units", "constraint", "dual", "transport")}
        kept |= {key: _without_costs(data[key]) for key in ("constraints", "segments") if key in data}
        kept["reference"] = {"samples": self.reference_samples}
        text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def with_overrides(self, values: Mapping[str, Any]) -> RiskProfile:
        """The profile with dotted keys replaced, as by `--set key=value`.

        Texts are read as YAML scalars. An override acts on the file as written, so values that a form
        brings along by default follow the new form. Relative paths start from the working directory.

        Raises:
            ProfileError: all problems; those of an override are placed at `--set key`.
        """
        root, sources = self.document
        for key, value in values.items():
            root = override(root, key, scalar(value) if isinstance(value, str) else value)
        problems = Problems(list(sources))
        return type(self)(**build(root, problems), document=Written(root, sources))


def load_profile(path_or_name: str | os.PathLike[str]) -> RiskProfile:
    """Load a profile from a YAML file, or a shipped one by its name. Raises ProfileError."""
    return RiskProfile._from_file(find(os.fspath(path_or_name)))


def _families(constraints: Sequence[Constraint]) -> dict[str, Any]:
    """The section `constraints` with its segments."""
    families: dict[str, dict[str, Any]] = {}
    for one in constraints:
        entry = {"risk": one.risk.plain(), **plain(one.settings), "dual": plain(one.dual)}
        if one.segment is None:
            cost = {"cost": plain_cost(one.cost)} if one.cost else {}
            values = {"values": list(one.values)} if one.values else {}
            families[one.name] = {**entry, **values, **cost, "segments": {}}
        else:
            families[one.family]["segments"][one.segment] = entry
    return {"constraints": families}


@cache
def _normal_quantiles() -> NDArray[np.float64]:
    # scipy's would double the start-up time of the commands
    return np.array([NormalDist().inv_cdf((i + 0.5) / _GRID) for i in range(_GRID)])


def _samples(constraint: Constraint) -> int:
    """N with which the risk of normal costs is uncertain by a fifth of the fall that is asked."""
    settings, form = constraint.settings, FORMS[constraint.settings.form]
    relative = {level.unit for level in (settings.level, settings.margin) if level.value}
    fall = _USUAL_FALL
    if relative == {"spread"}:
        level, margin = settings.level.value, settings.margin.value
        asked = margin - level if form.by_margin else level
        fall = asked if asked > 0 else fall
    risk = form.spectrum(constraint.risk)
    # The influence function of ρ_φ is ∫ φ(F(z)) dz (Huber 1981, section 3.3), here over normal quantiles.
    cost_r = _normal_quantiles()
    density_g = risk.sampled(cost_r.size).density_g
    deviation = float(np.std(np.append(0.0, np.cumsum(density_g * np.diff(cost_r)))))
    low, high = _SAMPLES
    if risk.cumulative(1 - 0.5 / cost_r.size) < 0.5:
        return high  # most of the weight lies beyond these quantiles
    return max(low, math.ceil(min(5 * deviation / fall, math.sqrt(high)) ** 2))


def _warnings(constraint: Constraint) -> list[str]:
    texts, form = [], FORMS[constraint.settings.form]
    if not constraint.risk.coherent:
        texts.append(
            f"{constraint.risk} is not a coherent risk measure: a mixture of two policies can look riskier"
            " than either; cvar at the same α is coherent"
        )
    # A segment's spectrum may be meant for the other constraints.
    if constraint.segment is None and form.spectrum(constraint.risk) != constraint.risk:
        texts.append(
            f"form {form.name} bounds the mean, so that {constraint.risk} shows in reports and plays no part"
            " in training; write risk: mean, or another form"
        )
    if doubt := form.doubt(constraint.settings):
        texts.append(doubt)
    return texts


def _without_costs(data: Any) -> Any:
    """Nested mappings without the keys `cost` and `values`."""
    if not isinstance(data, dict):
        return data
    return {key: _without_costs(value) for key, value in data.items() if key not in ("cost", "values")}

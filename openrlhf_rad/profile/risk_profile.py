"""The risk profile: a checked, frozen record with its text, hash and overrides."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.measures import ALIASES
from openrlhf_rad.method.settings import Constraint
from openrlhf_rad.method.spectrum import MEAN
from openrlhf_rad.profile.build import build
from openrlhf_rad.profile.document import Document
from openrlhf_rad.profile.dual_settings import plain_dual
from openrlhf_rad.profile.expression import parse_expression
from openrlhf_rad.profile.files import Found
from openrlhf_rad.profile.model import Sections
from openrlhf_rad.profile.paths import path_keys, resolve_path
from openrlhf_rad.profile.plain import plain_constraint, plain_constraints, plain_evaluate
from openrlhf_rad.profile.reading import read_document
from openrlhf_rad.profile.scalars import dump, scalar
from openrlhf_rad.profile.several import ONLY

#: Reference answers under `auto`, at least and at most; levels of the normal law that their number is from.
_SAMPLES = (256, 4096)
_GRID = 4_000
#: What the defaults ask for, in spreads; taken where the file says it in another unit.
_USUAL_FALL = 0.4


@dataclass(frozen=True)
class RiskProfile(Sections):
    """A risk profile. Two are equal when all their values are, wherever they were written."""

    #: The document as written, for overrides.
    document: Document = field(default_factory=lambda: Document("", {}), compare=False, repr=False)

    @classmethod
    def from_text(cls, text: str, source: str = "<profile>", folder: Path | None = None) -> RiskProfile:
        """Read YAML text; relative paths in it start from folder. Raises ProfileError with all problems."""
        return cls.from_document(read_document(Found(text, source, folder or Path.cwd(), source)))

    @classmethod
    def from_document(cls, document: Document) -> RiskProfile:
        """The profile of a whole document. Raises ProfileError with all problems."""
        sections = build(document)
        return cls(
            **{item.name: getattr(sections, item.name) for item in fields(sections)}, document=document
        )

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """All constraints, one for each segment, in the order of the file."""
        return self.several or (Constraint(ONLY, self.risk, self.constraint, self.dual, self.cost),)

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
        transport = self.transport
        return {
            "name": self.name,
            "description": self.description,
            "risk": self.risk.plain(),
            "units": self.units,
            "constraint": plain_constraint(self.constraint),
            **plain_constraints(self.several),
            "dual": plain_dual(self.dual),
            "transport": {**asdict(transport), "particles": transport.particles or "auto"},
            "cost": {self.cost.kind: self.cost.location} if self.cost else None,
            "reference": {**asdict(self.reference), "samples": self.reference.samples or "auto"},
            "evaluate": plain_evaluate(self.evaluate),
            "watches": asdict(self.watches),
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
        document = replace(
            self.document,
            data=copy.deepcopy(self.document.data),
            places=dict(self.document.places),
            problems=list(self.document.problems),
        )
        for key, value in values.items():
            _override(document, key, scalar(value) if isinstance(value, str) else value)
            if key in path_keys(document.data):
                resolve_path(document.data, key, Path.cwd())
        return self.from_document(document)


@cache
def _normal_quantiles() -> NDArray[np.float64]:
    # scipy's would double the start-up time of the commands
    return np.array([NormalDist().inv_cdf((i + 0.5) / _GRID) for i in range(_GRID)])


def _samples(constraint: Constraint) -> int:
    """N with which the risk of normal costs is uncertain by a fifth of the fall that is asked."""
    settings = constraint.settings
    relative = {level.unit for level in (settings.level, settings.margin) if level.value}
    fall = _USUAL_FALL
    if relative == {"spread"}:
        no_worse = settings.form == "no_worse"
        asked = settings.margin.value - settings.level.value if no_worse else settings.level.value
        fall = asked if asked > 0 else fall
    risk = MEAN if settings.form == "expected" else constraint.risk
    # The influence function of ρ_φ is ∫ φ(F(z)) dz (Huber 1981, section 3.3), here over normal quantiles.
    cost_r = _normal_quantiles()
    density = cost_r.size * np.diff(risk.cumulative((np.arange(cost_r.size) + 0.5) / cost_r.size))
    deviation = float(np.std(np.append(0.0, np.cumsum(density * np.diff(cost_r)))))
    low, high = _SAMPLES
    if risk.cumulative(1 - 0.5 / cost_r.size) < 0.5:
        return high  # most of the weight lies beyond these quantiles
    return max(low, math.ceil(min(5 * deviation / fall, math.sqrt(high)) ** 2))


def _warnings(constraint: Constraint) -> list[str]:
    found, settings = [], constraint.settings
    if not constraint.risk.coherent:
        found.append(
            f"{constraint.risk} is not a coherent risk measure: a mixture of two policies can look riskier"
            " than either; cvar at the same α is coherent"
        )
    # A segment's spectrum may be meant for the other constraints.
    if settings.form == "expected" and constraint.segment is None and constraint.risk != MEAN:
        found.append(
            f"form expected bounds the mean, so that {constraint.risk} shows in reports and plays no part in"
            " training; write risk: mean, or another form"
        )
    if settings.form == "improvement" and settings.margin.value == 0:
        found.append(
            "form improvement with margin 0 takes noise for a gap: at step 0 the estimated gap is positive,"
            " so that a small level is met untrained, and half of the quantiles have no gradient; set"
            " constraint.margin, for instance 60% of reference spread"
        )
    if settings.form == "no_worse" and settings.level.value == 0:
        found.append(
            "form no_worse with level 0 never has slack, for no gap is negative, so λ can only rise;"
            " set constraint.level, for instance 20% of reference spread"
        )
    return found


def _without_costs(data: Any) -> Any:
    """Nested mappings without the key `cost`."""
    if not isinstance(data, dict):
        return data
    return {key: _without_costs(value) for key, value in data.items() if key != "cost"}


def _override(document: Document, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    place = f"--set {key}"
    if not all([*sections, name]):
        raise ProfileError(f"{place}: it names no value; keys look like dual.step; write --set dual.step=0.1")
    if key == "extends":
        raise ProfileError(f"{place}: a profile's base is merged when it is read; write extends in the file")
    target, path = document.data, ""
    for section in sections:
        outer, path = path.rpartition(".")[2], f"{path}.{section}" if path else section
        held = target.get(section)
        if outer in ("constraints", "segments") and isinstance(held, str):
            # The short form of an entry is its risk.
            document.places[f"{path}.risk"] = document.place(path)
            held = {"risk": held}
        if held is None:
            document.places[f"{path}:"] = place
        if section == "risk":
            held = _without_parameter(held, name)
        # A cost has one source: naming another replaces it.
        target[section] = {} if section == "cost" or not isinstance(held, dict) else held
        target = target[section]
    target[name] = value
    for known in [
        known for known in document.places if known.rstrip(":") == key or known.startswith(f"{key}.")
    ]:
        del document.places[known]
    document.places.update({key: place, f"{key}:": place})


def _without_parameter(risk: Any, name: str) -> Any:
    """A risk as a mapping that lacks one parameter, under its name and its alias."""
    if isinstance(risk, str):
        parsed = parse_expression(risk)
        risk = risk if parsed.faults else parsed.data  # the checks will say what is wrong with it
    if not isinstance(risk, dict):
        return risk
    return {key: value for key, value in risk.items() if ALIASES.get(key, key) != ALIASES.get(name, name)}

"""The sections of a risk profile as frozen records.

Every key stands here once, with its range, unit, default and the default's source: the checks, the JSON
Schema and the reference are made from these records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from openrlhf_rad.method.measures import Interval
from openrlhf_rad.method.settings import (
    MINIMUM_REFERENCE,
    Constraint,
    ConstraintSettings,
    CostSource,
    DualSettings,
    FormName,
    Level,
    TransportSettings,
    Units,
)
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile.kinds import KEYS_OF, Amount, Choice, Key, Number, Text, Whole, about
from openrlhf_rad.profile.watch_settings import WatchSettings

_POSITIVE = Interval(0, math.inf, low_open=True)

#: The key beside the sections.
UNITS = Key(
    Choice(("spread", "cost")),
    "what λ, its step and its maximum, and the entropy of the plan are counted in: spreads of the reference,"
    " or the cost's own unit",
    default="spread",
    source="a spread means the same for every cost; the paper counts in the cost's own unit",
)

# Level and margin of each form where the profile gives none.
FORM_DEFAULTS: dict[FormName, tuple[Level, Level]] = {
    "no_worse": (Level(0.2, "spread"), Level(0.6, "spread")),
    "improvement": (Level(0.4, "spread"), Level(0.6, "spread")),
    "spectral": (Level(0.4, "spread"), Level(0.0)),
    "expected": (Level(0.4, "spread"), Level(0.0)),
}


_FORM_DEFAULTS = "by form: " + "; ".join(f"`{form}` {level}" for form, (level, _) in FORM_DEFAULTS.items())
_MARGIN_DEFAULTS = "by form: " + "; ".join(
    f"`{form}` {margin}" for form, (_, margin) in FORM_DEFAULTS.items() if margin.value
)


#: The keys of `constraint`.
CONSTRAINT: dict[str, Key] = {
    "form": Key(
        Choice(("no_worse", "improvement", "spectral", "expected")),
        "which constraint: no quantile worse than the reference's, a gap over it (the paper's), a lower"
        " spectral risk, or a lower mean (Safe RLHF)",
        source="Eqs. (15), (10), (16) and (2); `no_worse` cannot be met by noise, and keeps"
        " pulling on quantiles far above the reference",
    ),
    "level": Key(
        Amount(signed=True, quantile=True),
        "how much is asked: ε, τ or d of the form",
        unit="cost, or relative",
        default=_FORM_DEFAULTS,
        source="all ask for a risk lower by 0.4 spreads (level + margin); a `no_worse` level is also the"
        " most slack there can be, so that λ can come down",
    ),
    "margin": Key(
        Amount(),
        "m, how far the reference is shifted (up for `improvement`, down for `no_worse`)",
        unit="cost, or relative",
        default=_MARGIN_DEFAULTS,
        source="without a shift `improvement` takes noise for a gap, and half of its quantiles have no"
        " gradient at step 0",
    ),
    "floor": Key(
        Number(Interval(-math.inf, math.inf, True, True), "leave it out if none is known", optional=True),
        "the least cost that an answer can have: no quantile is asked to fall below it, and an ask that"
        " answers of this cost alone would not meet is refused",
        unit="cost",
        default="none: the least cost of the reference sample",
        source="a policy was seen to reach it",
    ),
    "gradient": Key(
        Choice(("leave_one_out", "spacing", "tilted")),
        "the estimator of the quantile gradient: what the constraint of the rollout is without an answer,"
        " quantile spacings, or the paper's",
        source="`benchmarks/estimators.py`: the only one without bias in small rollouts",
    ),
    "tails": Key(
        Choice(("winsorised", "whole")),
        "whether `leave_one_out` and `spacing` shorten gaps where the reference's costs have heavier"
        " tails than a normal law; never of form `expected`",
        source="`benchmarks/estimators.py`: there a single gap can outweigh the rollout",
    ),
}


#: The keys of `transport`.
TRANSPORT: dict[str, Key] = {
    "epsilon": Key(
        Number(_POSITIVE, "0.1 is the default; for no entropy set transport.indicator: exact"),
        "entropy of the transport plan (Eq. (6))",
        unit="spreads",
        source="the plan blurs over a tenth of a spread",
    ),
    "particles": Key(
        Whole(2, 1_000_000, auto="auto takes one particle per sample"),
        "number of cost quantiles (Eq. (12))",
        default="`auto`",
        source="`auto` is the number of samples of the batch, which wastes none",
    ),
    "tolerance": Key(
        Number(Interval(0, 1, True, True), "1e-9 is the default"),
        "marginal error at which the transport solver stops",
        unit="probability",
        source="Newton steps converge quadratically: a tighter tolerance costs a step at most",
    ),
    "max_iterations": Key(
        Whole(1, 10_000_000),
        "the most Newton steps of the transport solver",
        source="far above the handful that any `epsilon` takes",
    ),
    "indicator": Key(
        Choice(("sinkhorn", "exact")),
        "activations from the smooth plan, or the exact indicator of the sorted pairs",
        source="Eq. (6)",
    ),
}


KEYS_OF[ConstraintSettings], KEYS_OF[TransportSettings] = CONSTRAINT, TRANSPORT

#: A cost server's address, or an environment variable that holds one.
ADDRESS = r"^(https?://|\$\{[A-Za-z_][A-Za-z0-9_]*\})\S*$"

#: The keys of a cost; a cost has exactly one of them.
COST_KEYS = {
    "model": Key(
        Text(what="a path or a name"), "a cost model: its folder, or its name on a hub", default="none"
    ),
    "function": Key(
        Text(what="a path"),
        "a Python file; it is named in a dry run and runs only in training",
        default="none",
    ),
    "remote_url": Key(
        Text(what="an address"),
        "a cost server, http:// or https://, or several with commas between them; `${NAME}` stands for an"
        " environment variable",
        default="none",
    ),
}


@dataclass(frozen=True)
class ReferenceSettings:
    """The sample of reference costs C_0."""

    #: None is `auto`, see :attr:`RiskProfile.reference_samples`.
    samples: int | None = field(
        default=None,
        metadata=about(
            Whole(MINIMUM_REFERENCE, 10_000_000, auto="auto makes its noise small against the ask"),
            "size of the sample of reference costs",
            unit="answers",
            default="`auto`",
            source="`auto` leaves a risk of normal costs uncertain by a fifth of the ask, and takes 256 to"
            " 4,096",
        ),
    )
    file: str | None = field(
        default=None,
        metadata=about(
            Text(optional=True, what="a path"),
            "an .npz file of reference costs",
            default="none",
            source="without one they are sampled from the reference policy",
        ),
    )


@dataclass(frozen=True)
class EvaluateSettings:
    """What an evaluation and a release gate take where the command line says nothing."""

    confidence: float = field(
        default=0.95,
        metadata=about(
            Number(Interval(0.5, 1, True, True), "0.95 is the default"),
            "confidence of verdicts and intervals",
            unit="probability",
            source="the usual one",
        ),
    )
    improvement: Level = field(
        default=Level(0.1, "spread"),
        metadata=about(
            Amount(),
            "ε of the gate: the risk must be lower than the reference's by this at least, surely",
            unit="cost, or relative",
            source="above 0, so that a policy that equals the reference cannot pass",
        ),
    )
    tolerance: Level = field(
        default=Level(0.1, "spread"),
        metadata=about(
            Amount(),
            "τ of the gate: no quantile that the risk weighs may be worse than the reference's by more",
            unit="cost, or relative",
            source="as far as the improvement reaches the other way",
        ),
    )
    threshold: float = field(
        default=0.0,
        metadata=about(
            Number(Interval(-math.inf, math.inf, True, True), "0 is the default"),
            "an answer is safe when its cost is at most this; for a flag 0, for a probability 0.5",
            unit="cost",
            source="the sign of a cost that is centred between harmless and harmful, as the paper's",
        ),
    )
    resamples: int = field(
        default=2000,
        metadata=about(
            Whole(200, 1_000_000),
            "draws of the bootstrap",
            source="the ends of a 95 % interval then rest on 50 of them each",
        ),
    )


@dataclass(frozen=True)
class Sections:
    """All that a profile says, in the order in which it is written.

    `risk`, `constraint`, `dual` and `cost` are those of the only constraint, or the defaults that the
    entries of `constraints` take over.
    """

    name: str
    description: str
    risk: Spectrum
    units: Units = "spread"
    constraint: ConstraintSettings = field(default_factory=ConstraintSettings)
    dual: DualSettings = field(default_factory=DualSettings)
    transport: TransportSettings = field(default_factory=TransportSettings)
    cost: CostSource | None = None
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    watches: WatchSettings = field(default_factory=WatchSettings)
    #: The constraints and their segments where the file has either; else the sections above are the only one.
    several: tuple[Constraint, ...] = ()

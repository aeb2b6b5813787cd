"""The keys of a profile, each once: its range, unit, default, the default's source and what it does.

The sections are pydantic models, so that the checks, the JSON Schema and the table of docs/profiles.md come
from the same line. What the method computes with are the plain records of
:mod:`openrlhf_rad.method.settings`; the models of `constraint`, `dual` and `transport` describe these, with
their defaults. What needs two keys at once is checked in :mod:`openrlhf_rad.profile.check`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.dataclasses import dataclass as section
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.method.settings import (
    MINIMUM_REFERENCE,
    NUMBER,
    PATTERN,
    ConstraintSettings,
    DualSettings,
    Level,
    TransportSettings,
)
from openrlhf_rad.method.spectrum import Interval

Severity = Literal["off", "warn", "stop"]
Schema = dict[str, Any]

#: YAML has told texts, numbers and truth values apart already: nothing is taken for another.
STRICT = ConfigDict(strict=True, allow_inf_nan=False, defer_build=True)


@dataclass(frozen=True)
class Key:
    """What a key is for, in words.

    Attributes:
        text: what it does, in a line.
        source: where its default comes from: an equation of the paper, a peer, a measurement.
        unit: of its number.
        default: the default in words.
        fix: what a message proposes where the value is not valid.
        what: a text's kind in words; all but a mere text must not be empty.
        range: of its number.
    """

    text: str
    source: str
    unit: str
    default: str
    fix: str
    what: str
    range: Interval

    def __call__(self, schema: Schema) -> None:
        """Put the words in place of pydantic's default."""
        unit = "" if self.unit == "—" else f" Unit: {self.unit}."
        text = f"{self.text[0].upper()}{self.text[1:]}.{unit}"
        schema["description"] = f"{text} Default: {self.default}."
        schema.pop("default", None)


def key(
    default: Any,
    text: str,
    source: str = "—",
    *,
    unit: str = "—",
    said: str = "",
    fix: str = "",
    what: str = "a text",
    **bounds: float,
) -> Any:
    """A field; said: the default in words where it is no single value; bounds: gt, ge, lt and le."""
    held = Interval(
        bounds.get("gt", bounds.get("ge", -math.inf)),
        bounds.get("lt", bounds.get("le", math.inf)),
        "ge" not in bounds,
        "le" not in bounds,
    )
    known: Any = bounds if what == "a text" or default == "" else {"min_length": 1}
    usual = f"{default:g}" if isinstance(default, float) else default
    about = Key(text, source, unit, said or str(usual), fix or f"{usual} is the default", what, held)
    return Field(default=default, json_schema_extra=about, **known)


@dataclass(frozen=True)
class Auto:
    """A whole number; None, which a file writes as `auto`, leaves it to the batch."""

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        auto = core_schema.no_info_after_validator_function(
            lambda _: None, core_schema.literal_schema(["auto", None])
        )
        whole = core_schema.int_schema(ge=self.low, le=self.high, strict=True)
        return core_schema.union_schema([auto, whole])

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        whole = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [{"const": "auto"}, whole]}


@dataclass(frozen=True)
class Amount:
    """A :class:`Level`, ≥ 0 unless signed; quantile: one of the reference can be meant too."""

    signed: bool = False
    quantile: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        number: Schema = {"type": "number"} if self.signed else {"type": "number", "minimum": 0}
        quantile = rf"|reference\s+quantile\s+{NUMBER}" if self.quantile else ""
        return {"anyOf": [number, {"type": "string", "pattern": rf"^\s*({PATTERN}{quantile})\s*$"}]}

    def read(self, raw: Any) -> Level:
        """The level that is meant. Raises PydanticCustomError with value, rule and fix."""
        if isinstance(raw, Level):
            return raw
        level = _level(raw)
        if level is None:
            rule = 'it must be a number in the cost\'s own units, or a share such as "20% of reference risk"'
            raise refused(rule, 'or write "0.5 of reference spread"')
        if level.unit == "quantile" and not self.quantile:
            rule = "a quantile of the reference is a cost to stay below, and this is an amount"
            raise refused(rule, "write for instance 20% of reference spread", str(level))
        if level.unit == "quantile" and not 0 < level.value < 1:
            raise refused("the quantile must lie in (0, 1)", "write reference quantile 0.9", str(level))
        if level.unit != "quantile" and level.value < 0 and not self.signed:
            raise refused("it must be ≥ 0", "a dominance gap is never negative")
        return level


def refused(rule: str, fix: str, value: str | None = None) -> PydanticCustomError:
    """What a validator raises; value: as it is shown, where that is not as it was written."""
    return PydanticCustomError("refused", "{rule}; {fix}", {"rule": rule, "fix": fix, "value": value})


def _level(raw: Any) -> Level | None:
    if not is_number(raw) and not isinstance(raw, str):
        return None
    try:
        level = Level.parse(raw)
    except (ValueError, OverflowError):
        return None
    return level if -1e300 < level.value < 1e300 else None


def is_number(value: Any) -> bool:
    """Whether YAML gave a number; truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


#: By how much λ and its step are greater under `tilted`, whose score is so many times smaller.
TILTED = 6.0
#: Key → the keys that belong to one of its values: a new value begins with their defaults.
BELONGS: dict[str, tuple[str, ...]] = {
    "form": ("level", "margin"),
    "method": ("proportional", "derivative", "smoothing", "delay"),
    "estimate": ("memory",),
}
#: A cost server's address, or an environment variable that holds one.
ADDRESS = r"^(https?://|\$\{[A-Za-z_][A-Za-z0-9_]*\})\S*$"


def _by_form(index: int) -> str:
    shown = {name: form.defaults[index] for name, form in FORMS.items() if form.defaults[index].value}
    return "by form: " + "; ".join(f"`{form}` {level}" for form, level in shown.items())


def _by_gradient(default: float) -> str:
    return f"{default:g}; with `tilted` {TILTED * default:g}"


@dataclass(frozen=True)
class Values:
    """The few values that a cost can have, rising."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        return {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 101}

    def read(self, raw: Any) -> tuple[float, ...]:
        """The values as floats. Raises PydanticCustomError with rule and fix."""
        held = raw if isinstance(raw, list | tuple) else ()
        plain = [float(value) for value in held if is_number(value) and math.isfinite(value)]
        if len(plain) < len(held) or not (2 <= len(plain) <= 101 or raw == ()) or plain != sorted({*plain}):
            raise refused("it must be a list of rising numbers", "write [0, 1] for a flag")
        return tuple(plain)


@section(frozen=True, config=STRICT)
class Shared:
    """The keys beside the sections."""

    units: Literal["spread", "cost"] = key(
        "spread",
        "what λ, its step and its maximum, and the entropy of the plan are counted in: spreads of the"
        " reference, or the cost's own unit",
        "a spread means the same for every cost; the paper counts in the cost's own unit",
    )
    values: Annotated[tuple[float, ...], Values()] = key(
        (),
        "the values that a cost can have, where it has few: `[0, 1]` of a flag, `[1, 2, 3, 4, 5]` of a"
        " rating; any other stops a run",
        "what the risk means is then said everywhere",
        said="none: any number",
        what="a list of rising numbers",
    )


@section(frozen=True, config=STRICT)
class ConstraintKeys:
    """`constraint`: what is asked of the policy's costs."""

    form: Literal["no_worse", "improvement", "spectral", "expected"] = key(
        ConstraintSettings.form,
        "which constraint: no quantile worse than the reference's, a gap over it (the paper's), a lower"
        " spectral risk, or a lower mean (Safe RLHF)",
        "Eqs. (15), (10), (16) and (2); `no_worse` cannot be met by noise, and keeps pulling on quantiles"
        " far above the reference",
    )
    level: Annotated[Level, Amount(signed=True, quantile=True)] = key(
        ConstraintSettings.level,
        "how much is asked: ε, τ or d of the form",
        "all ask for a risk lower by 0.4 spreads (level + margin); a `no_worse` level is also the most"
        " slack there can be, so that λ can come down",
        unit="cost, or relative",
        said=_by_form(0),
    )
    margin: Annotated[Level, Amount()] = key(
        ConstraintSettings.margin,
        "m, how far the reference is shifted (up for `improvement`, down for `no_worse`)",
        "without a shift `improvement` takes noise for a gap, and half of its quantiles have no gradient"
        " at step 0",
        unit="cost, or relative",
        said=_by_form(1),
    )
    floor: float | None = key(
        ConstraintSettings.floor,
        "the least cost that an answer can have: no quantile is asked to fall below it, and an ask that"
        " answers of this cost alone would not meet is refused",
        "a policy was seen to reach it",
        unit="cost",
        said="none: the least cost of the reference sample",
        fix="leave it out if none is known",
    )
    gradient: Literal["leave_one_out", "spacing", "tilted"] = key(
        ConstraintSettings.gradient,
        "the estimator of the quantile gradient: what the constraint of the rollout is without an answer,"
        " quantile spacings, or the paper's",
        "`benchmarks/estimators.py`: the only one without bias in small rollouts",
    )
    tails: Literal["winsorised", "whole"] = key(
        ConstraintSettings.tails,
        "whether `leave_one_out` and `spacing` shorten gaps where the reference's costs have heavier tails"
        " than a normal law; never of form `expected`",
        "`benchmarks/estimators.py`: there a single gap can outweigh the rollout",
    )


@section(frozen=True, config=STRICT)
class DualKeys:
    """`dual`: how λ moves, by what, and how sure of it."""

    initial: float = key(
        DualSettings.initial,
        "λ of the first batch",
        "Safe RLHF starts its multiplier at 1; a `tilted` score is several times smaller",
        unit="reward per spread",
        fix="0 starts without a price, 1 is the default",
        ge=0,
        said=_by_gradient(DualSettings.initial),
    )
    step: float = key(
        DualSettings.step,
        "how far a violation of one spread moves λ; the learning rate of `log` and `adam`; the integral gain"
        " of `pid`",
        "a violation of one spread then moves λ by its initial value in ten batches",
        unit="reward per spread²",
        ge=0,
        said=_by_gradient(DualSettings.step),
    )
    max: float = key(
        DualSettings.max,
        "the most that λ can be",
        "ten times the initial value: cost may outweigh reward, but cannot blow up training",
        unit="reward per spread",
        gt=0,
        said=_by_gradient(DualSettings.max),
    )
    method: Literal["ascent", "log", "adam", "pid"] = key(
        DualSettings.method,
        "how λ moves: by the violation, in proportion to itself (Safe RLHF), by Adam, by a controller",
        "[the dual variable](dual.md), measured",
    )
    gap: Literal["exact", "plan"] = key(
        DualSettings.gap,
        "the gap whose violation moves λ: the exact one, or ⟨P, M⟩ of the entropic plan, for the mean and a"
        " form with a plan",
        "Eqs. (15) and (25); the plan's is biased upwards, so that it takes a constraint for met",
    )
    estimate: Literal["last", "ema", "window"] = key(
        DualSettings.estimate,
        "which violation moves λ: the last batch's, or an exponential or plain average",
        "[the dual variable](dual.md): no average was better",
    )
    memory: int = key(
        DualSettings.memory,
        "how many batches the average holds; of `ema` as many as make it as calm as their plain mean",
        "a third of the noise, four batches late",
        unit="batches",
        said="8, where `estimate` is an average",
        ge=1,
        le=10_000,
    )
    confidence: float | None = key(
        DualSettings.confidence,
        "λ moves by the upper confidence bound of the violation, for instance at 0.9",
        "HC-RLHF",
        unit="probability",
        said="none: by the violation itself",
        fix="below 0.5 the bound would excuse a violation; for nine in ten use 0.9, for none null",
        ge=0.5,
        lt=1,
    )
    proportional: float = key(
        DualSettings.proportional,
        "the gain K_P on the smoothed violation",
        "Stooke et al. 2020; in [the benchmark](dual.md) 1 to 4",
        unit="reward per spread²",
        said="0.5, of `pid` alone",
        fix="0 leaves it out",
        ge=0,
    )
    derivative: float = key(
        DualSettings.derivative,
        "the gain K_D on its rise",
        "a rise between two batches is mostly noise",
        unit="reward per spread²",
        said="0, of `pid` alone",
        fix="0 leaves it out",
        ge=0,
    )
    smoothing: float = key(
        DualSettings.smoothing,
        "how much of the smoothed violation stays from the batch before",
        "about the last two batches",
        unit="share",
        said="0.5, of `pid` alone",
        fix="0 takes each violation as it is",
        ge=0,
        lt=1,
    )
    delay: int = key(
        DualSettings.delay,
        "how many batches the rise is taken over",
        "longer than the smoothing",
        unit="batches",
        said="5, of `pid` alone",
        ge=1,
        le=10_000,
    )


@section(frozen=True, config=STRICT)
class TransportKeys:
    """`transport`: how the quantile activations are found."""

    epsilon: float = key(
        TransportSettings.epsilon,
        "entropy of the transport plan (Eq. (6))",
        "the plan blurs over a tenth of a spread",
        unit="spreads",
        fix="0.1 is the default; for no entropy set transport.indicator: exact",
        gt=0,
    )
    particles: Annotated[int | None, Auto(2, 1_000_000)] = key(
        TransportSettings.particles,
        "number of cost quantiles (Eq. (12))",
        "`auto` is the number of samples of the batch, which wastes none",
        said="`auto`",
        fix="auto takes one particle per sample",
    )
    tolerance: float = key(
        TransportSettings.tolerance,
        "marginal error at which the transport solver stops",
        "Newton steps converge quadratically: a tighter tolerance costs a step at most",
        unit="probability",
        fix="1e-9 is the default",
        gt=0,
        lt=1,
    )
    max_iterations: int = key(
        TransportSettings.max_iterations,
        "the most Newton steps of the transport solver",
        "far above the handful that any `epsilon` takes",
        ge=1,
        le=10_000_000,
    )
    indicator: Literal["sinkhorn", "exact"] = key(
        TransportSettings.indicator,
        "activations from the smooth plan, or the exact indicator of the sorted pairs",
        "Eq. (6)",
    )


@section(frozen=True, config=STRICT)
class CostKeys:
    """`cost`: where costs come from; exactly one of these."""

    model: str = key(
        None,
        "a cost model of the policy's chat format: its folder, or its name on a hub",
        said="none",
        what="a path or a name",
    )
    classifier: str = key(
        None,
        "any model that tells harmful texts: the keys `cost.classifier`, or its folder or name alone",
        said="none",
        what="a mapping, or a path or a name",
    )
    judge: str = key(
        None,
        "a judge behind an OpenAI-compatible endpoint: the keys `cost.judge`",
        said="none",
        what="a mapping",
    )
    ensemble: str = key(
        None,
        "several cost models or Python files as one cost: their mean plus a multiple of their spread; the"
        " keys `cost.ensemble`",
        said="none",
        what="a mapping",
    )
    function: str = key(
        None, "a Python file; it is named in a dry run and runs only in training", said="none", what="a path"
    )
    remote_url: str = key(
        None,
        "a cost server, http:// or https://, or several with commas between them; `${NAME}` stands for an"
        " environment variable",
        said="none",
        what="an address",
    )


@section(frozen=True, config=STRICT)
class ReferenceSettings:
    """`reference`: the sample of reference costs C_0."""

    samples: Annotated[int | None, Auto(MINIMUM_REFERENCE, 10_000_000)] = key(
        None,
        "size of the sample of reference costs",
        "`auto` leaves a risk of normal costs uncertain by a fifth of the ask, and takes 256 to 4,096",
        unit="answers",
        said="`auto`",
        fix="auto makes its noise small against the ask",
    )
    file: str | None = key(
        None,
        "an .npz file of reference costs",
        "without one they are sampled from the reference policy",
        said="none",
        what="a path",
    )


@section(frozen=True, config=STRICT)
class EvaluateSettings:
    """`evaluate`: what an evaluation and a release gate take where the command line says nothing."""

    confidence: float = key(
        0.95, "confidence of verdicts and intervals", "the usual one", unit="probability", gt=0.5, lt=1
    )
    improvement: Annotated[Level, Amount()] = key(
        Level(0.1, "spread"),
        "ε of the gate: the risk must be lower than the reference's by this at least, surely",
        "above 0, so that a policy that equals the reference cannot pass",
        unit="cost, or relative",
    )
    worsening: Annotated[Level, Amount()] = key(
        Level(0.0),
        "δ of a gate for non-inferiority: above 0 the risk may be higher than the reference's by less than"
        " this, surely, and need not be lower by `improvement`",
        "0: a release must be safer",
        unit="cost, or relative",
    )
    tolerance: Annotated[Level, Amount()] = key(
        Level(0.1, "spread"),
        "τ of the gate: no quantile that the risk weighs may be worse than the reference's by more",
        "as far as the improvement reaches the other way",
        unit="cost, or relative",
    )
    threshold: float = key(
        0.0,
        "an answer is safe when its cost is at most this; for a flag 0, for a probability 0.5",
        "the sign of a cost that is centred between harmless and harmful, as the paper's",
        unit="cost",
    )
    resamples: int = key(
        2000,
        "draws of simulated processes",
        "the ends of a 95 % interval then rest on 50 of them each",
        ge=200,
        le=1_000_000,
    )


@section(frozen=True, config=STRICT)
class WatchSettings:
    """`watches`: when a run is called sick, and whether it is then warned of, or stopped at a checkpoint."""

    window: int = key(
        20,
        "how long a condition must last before its watch speaks; trends are taken over two windows",
        "on healthy noise fewer than one run in a hundred is called sick",
        unit="steps",
        ge=5,
        le=10_000,
    )
    harmful_label: str = key(
        "harmful",
        "the label of prompts that ask for harm, which `inverted` needs; an answer to one that is no refusal"
        " counts as harmful",
        "the label of the default job's prompts",
        what="a label",
    )
    inert: Severity = key(
        "warn", "when the constraint was never violated: it asks for nothing", "it may be met by luck"
    )
    dead: Severity = key(
        "stop", "when it is violated and no sample feels it", "λ would rise for ever, without effect"
    )
    at_cap: Severity = key(
        "warn",
        "when λ stays at its maximum and the constraint is still violated",
        "the reward may come round",
    )
    inverted: Severity = key(
        "stop",
        "when in the first window what is harmful costs less than what is not",
        "such a run trains towards harm",
    )
    saturated: Severity = key(
        "warn",
        "when policy and reference sit at the largest cost that occurs, on all that the risk weighs",
        "the risk may come to see a difference later",
    )
    no_control: Severity = key(
        "warn", "when λ rises and the risk rises with it", "an early policy may still be learning the reward"
    )
    transport: Severity = key(
        "warn", "when the transport solver does not converge", "its gradient is still approximate"
    )
    empty: Severity = key("warn", "when answers become empty", "a product may want silence")
    short: Severity = key("warn", "when answers become half as long", "a product may want brevity")
    alike: Severity = key("warn", "when answers become the same", "refusals are alike too")
    entropy: Severity = key(
        "warn", "when the policy becomes certain of every token", "late in training it may be meant"
    )


#: The sections whose keys each stand for themselves, in the order of the table.
SECTIONS: dict[str, Any] = {
    "constraint": ConstraintKeys,
    "dual": DualKeys,
    "transport": TransportKeys,
    "reference": ReferenceSettings,
    "evaluate": EvaluateSettings,
    "watches": WatchSettings,
    "cost": CostKeys,
}


def severities(settings: WatchSettings) -> Mapping[str, Severity]:
    """Watch → what it does, in the order of the table."""
    return {name: held for name, held in asdict(settings).items() if name not in ("window", "harmful_label")}


def unused_keys(dual: DualSettings) -> tuple[str, ...]:
    """Keys that play no part under this method and this estimate."""
    of_the_method = () if dual.method == "pid" else BELONGS["method"]
    return of_the_method + (BELONGS["estimate"] if dual.estimate == "last" else ())


def fields_of(model: Any) -> dict[str, FieldInfo]:
    """The fields of a section, in its order."""
    fields: dict[str, FieldInfo] = model.__pydantic_fields__
    return fields


def key_of(field: FieldInfo) -> Key:
    """The words of a field."""
    assert isinstance(field.json_schema_extra, Key)
    return field.json_schema_extra


def plain(record: Any) -> dict[str, Any]:
    """A record as a file would hold it; of `dual`, keys that belong to another choice are left out."""
    unused = unused_keys(record) if isinstance(record, DualSettings) else ()
    texts = {name: getattr(record, name) for name in asdict(record) if name not in unused}
    return {name: _plain(name, held) for name, held in texts.items()}


def _plain(name: str, held: Any) -> Any:
    if isinstance(held, Level):
        return held.plain()
    if held is None and name in ("particles", "samples", "max_length"):
        return "auto"
    return list(held) if isinstance(held, tuple) else held


def values(field: FieldInfo) -> str:
    """The values of a field in words, for the table."""
    about, options, auto = key_of(field), get_args(field.annotation), auto_of(field)
    null = " or `null`" if NoneType in options and not auto else ""
    if auto:
        return f"`auto` or a whole number, {auto.low} to {auto.high:,}"
    if field.annotation is int:
        return f"a whole number, {about.range.low:g} to {int(about.range.high):,}"
    if field.annotation is float or (float in options and Ellipsis not in options):
        return f"a number in {about.range}{null}"
    if field.annotation is str or str in options or Ellipsis in options:
        return f"{about.what}{null}"
    if field.annotation is Level:
        return (
            "a level"
            if any(isinstance(m, Amount) and m.quantile for m in field.metadata)
            else "a level ≥ 0, no quantile"
        )
    return ", ".join(f"`{option}`" for option in options)


def auto_of(field: FieldInfo) -> Auto | None:
    return next((mark for mark in field.metadata if isinstance(mark, Auto)), None)

"""Costs that are more than a name, their keys, and ready formats: `cost.classifier`, `.judge`, `.ensemble`.

A format (`formats.toml`) is a set of keys that a public model wants; what the profile says comes first.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.dataclasses import dataclass as section
from pydantic_core import CoreSchema, core_schema

from openrlhf_rad.errors import Problem, did_you_mean, shown
from openrlhf_rad.method.settings import CostSource
from openrlhf_rad.profile.language import ADDRESS, STRICT, Auto, Schema, key, plain, refused
from openrlhf_rad.profile.yaml import Node, Problems, from_plain

#: `${NAME}`, and nothing beside it.
VARIABLE = r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"
#: What a template is filled with; `{chat}` is prompt and answer in the model's own chat template.
PLACES = ("prompt", "answer", "chat")
PLACE = re.compile(r"\{([A-Za-z_]+)\}")
#: The largest rating that every tokenizer writes as one token.
_DIGIT = 9
#: Keys that say how ratings are had, not what they are.
_HOW = frozenset(
    {"format", "batch_size", "device", "api_key", "at_once", "timeout", "retries", "deadline", "cache"}
    | {"price_in", "price_out"}
)
#: Keys of a request that the judge itself sets.
_OURS = ("model", "messages", "input", "n", "stream", "logprobs", "top_logprobs")


@dataclass(frozen=True)
class Words:
    """A list of different texts, held as a tuple; a single text stands for a list of one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        text: Schema = {"type": "string", "minLength": 1}
        return {"anyOf": [text, {"type": "array", "items": text, "uniqueItems": True}]}

    def read(self, raw: Any) -> tuple[str, ...]:
        """The texts. Raises PydanticCustomError with rule and fix."""
        words = [raw] if isinstance(raw, str) else raw
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) and word for word in words):
            raise refused("it must be a list of texts", "write for instance [toxic, threat]")
        if len(set(words)) < len(words):
            raise refused("a text stands there twice", "remove one")
        return tuple(words)


@section(frozen=True, config=STRICT)
class ClassifierSettings:
    """`cost.classifier`: a model of its own tokenizer and template that tells harmful answers from others."""

    model: str = key(
        "", "the classifier: its folder, or its name on a hub", said="none", what="a path or a name"
    )
    format: str | None = key(
        None,
        "a ready set of the keys below, for a public model: `beaver-cost`, `llama-guard`, `shieldgemma`,"
        " `toxic-bert`, `toxicity-roberta`, `hate-roberta`",
        "the models' cards and training code",
        said="none",
        what="a name",
    )
    head: Literal["labels", "tokens"] = key(
        "labels",
        "what is read: the outputs of a classification head, or the next token of a language model",
        "what `AutoModelForSequenceClassification` loads",
    )
    value_head: str | None = key(
        None,
        "the name of a scalar head that stands beside the model in its files under a name of its own",
        said="none: transformers' own",
        what="a name",
    )
    harmful: Annotated[tuple[str, ...], Words()] = key(
        (),
        "the labels, or tokens, that count as harm",
        said="none; a head of one output needs none",
        what="texts",
    )
    harmless: Annotated[tuple[str, ...], Words()] = key(
        (),
        "those that count as harmless; others are not looked at",
        "harm against all else",
        said="of labels all others",
        what="texts",
    )
    outputs: Literal["auto", "exclusive", "independent"] = key(
        "auto",
        "whether labels exclude one another (softmax) or not (a sigmoid each)",
        "`problem_type` of the model's config.json",
    )
    score: Literal["logit", "probability"] = key(
        "logit",
        "the cost: the log-odds of harm, or its probability",
        "a probability has a floor and a ceiling, and crowds there where the tail is",
    )
    higher: Literal["harmful", "harmless"] = key(
        "harmful",
        "of a head with one output: what a larger one means; the output of a reward model is turned round",
        "a cost is higher for more harm",
    )
    template: str | None = key(
        None,
        "the text that the model reads, with `{answer}` and `{prompt}` in it, or `{chat}`, both in its own"
        " chat template; special tokens are written out",
        said="none: prompt and answer as a pair",
        what="a template",
    )
    max_length: Annotated[int | None, Auto(8, 1_000_000)] = key(
        None,
        "the most tokens of a text; of a longer one the prompt loses its beginning, then the answer its end",
        "what the model was made for",
        unit="tokens",
        said="`auto`: the model's own, at most 4,096",
        fix="auto takes what the model bears",
    )
    batch_size: int = key(16, "texts at a time", "fits the memory of most", unit="texts", ge=1, le=65_536)
    device: Literal["auto", "cpu"] = key(
        "auto",
        "where it runs in training: on GPUs of its own (`--rad.cost_num_gpus_per_node`), or in as many"
        " workers on CPUs",
        "as a cost model does",
    )

    @property
    def location(self) -> str:
        """The model."""
        return self.model


@section(frozen=True, config=STRICT)
class JudgeSettings:
    """`cost.judge`: a model behind an OpenAI-compatible endpoint that rates how harmful an answer is."""

    model: str = key("", "the judge, as the endpoint calls it", said="none", what="a name")
    base_url: str = key(
        "",
        "the endpoint's address, as `http://127.0.0.1:8000/v1`; `${NAME}` stands for an environment variable",
        said="none",
        what="an address",
    )
    api_key: str | None = key(
        None,
        "the environment variable that holds the key, as `${OPENAI_API_KEY}`; never the key itself",
        said="none; a server of this machine needs none",
        what="`${NAME}`",
    )
    ask: Literal["rating", "moderation"] = key(
        "rating",
        "what it is asked: to rate prompt and answer by a rubric, or to moderate the answer (`/moderations`)",
        "—",
    )
    rubric: str | None = key(
        None,
        "a text file with `{prompt}`, `{answer}` and `{format}` in it",
        "[as shipped](judging.md#ratings)",
        said="the shipped one",
        what="a path",
    )
    lowest: int = key(1, "the rating of an answer without harm", "a usual scale", unit="rating", ge=0, le=100)
    highest: int = key(5, "the rating of the most harmful", "a usual scale", unit="rating", ge=1, le=100)
    score: Literal["auto", "expected", "number"] = key(
        "auto",
        "the cost: the expected rating by the log-probabilities of the rating's token, or the rating that is"
        " written; `auto` takes the first where the endpoint gives them",
        "an expected rating is continuous: answers of one rating still differ",
    )
    form: Literal["number", "json"] = key(
        "number",
        'how the rating is written: alone, or as `{"rating": 3}`, whose schema goes along as'
        " `response_format`",
        "fewest tokens",
    )
    categories: Annotated[tuple[str, ...], Words()] = key(
        (),
        "of a moderation: the categories that count; the cost is the log-odds of the largest score",
        said="all",
        what="texts",
    )
    max_tokens: int = key(
        16, "the longest reply; a judge that thinks aloud needs hundreds", unit="tokens", ge=1, le=1_000_000
    )
    request: str | None = key(
        None,
        "a JSON object of further keys of each request; null leaves one out",
        said="none",
        what="a JSON object as text",
    )
    at_once: int = key(16, "requests at once", "what vLLM batches well", unit="requests", ge=1, le=10_000)
    timeout: float = key(60.0, "for one reply", "—", unit="seconds", gt=0, le=86_400)
    retries: int = key(5, "retries of a request, with backoff", "as `rad judge`", ge=0, le=1_000)
    deadline: float = key(
        1800.0, "for the ratings of one rollout; then the run stops", "—", unit="seconds", gt=0, le=864_000
    )
    price_in: float | None = key(
        None, "of a million tokens in, for the estimate of a dry run", said="none", unit="price", ge=0
    )
    price_out: float | None = key(None, "of a million tokens out", said="none", unit="price", ge=0)
    cache: str | None = key(
        None,
        "a file of the replies so far; the same request is not asked twice",
        said="`ratings.sqlite` in RAD's cache",
        what="a path",
    )

    @property
    def location(self) -> str:
        """The judge and its address."""
        return f"{self.model} at {self.base_url}"


@section(frozen=True, config=STRICT)
class EnsembleSettings:
    """`cost.ensemble`: several costs as one, on the careful side."""

    models: Annotated[tuple[str, ...], Words()] = key(
        (), "cost models, as `cost.model` names one", said="none", what="paths or names"
    )
    functions: Annotated[tuple[str, ...], Words()] = key(
        (), "Python files, as `cost.function` names one", said="none", what="paths"
    )
    spread: float = key(
        1.0,
        "k: the cost is the mean over the sources plus k of their standard deviations; all have one unit",
        "an answer on which they differ is one that a policy may have found",
        unit="standard deviations",
        fix="0 takes the mean alone",
        ge=0,
    )

    @property
    def location(self) -> str:
        """All of them."""
        return ", ".join((*self.models, *self.functions))

    @property
    def members(self) -> tuple[CostSource, ...]:
        """The sources, each as a cost of its own."""
        return (
            *(CostSource("model", name) for name in self.models),
            *(CostSource("function", name) for name in self.functions),
        )


#: Section → its keys; all are kinds of `cost`.
COSTS: dict[str, Any] = {
    "cost.classifier": ClassifierSettings,
    "cost.judge": JudgeSettings,
    "cost.ensemble": EnsembleSettings,
}


def members(cost: CostSource) -> tuple[CostSource, ...]:
    """The sources that an ensemble is made of; of any other kind the source itself."""
    return cost.settings.members if cost.kind == "ensemble" else (cost,)


@cache
def formats() -> Mapping[str, Mapping[str, Any]]:
    """The ready formats of classifiers, by name."""
    text = (
        importlib.resources.files("openrlhf_rad.profile").joinpath("formats.toml").read_text(encoding="utf-8")
    )
    return tomllib.loads(text)


def plain_cost(cost: CostSource | None) -> dict[str, Any] | None:
    """A cost as a file holds it, every default written out."""
    if cost is None:
        return None
    return {cost.kind: cost.location if cost.settings is None else plain(cost.settings)}


def digest_of(settings: Any) -> str:
    """A short name of what a source rates by: the same for settings that give the same costs."""
    kept = {name: held for name, held in plain(settings).items() if name not in _HOW}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def values_of(cost: CostSource | None) -> tuple[float, ...]:
    """The values that a cost can have by what it is: the ratings of a judge that writes them."""
    held = None if cost is None else cost.settings
    if not isinstance(held, JudgeSettings) or held.ask != "rating" or held.score != "number":
        return ()
    return tuple(map(float, range(held.lowest, held.highest + 1)))


def cost_of(kind: Any, location: str, settings: Mapping[str, Any] | None) -> CostSource:
    """The same from plain data that was valid once."""
    return CostSource(kind, location, settings and COSTS[f"cost.{kind}"](**settings))


def written_out(problems: Problems, kind: str, node: Node) -> Node:
    """The mapping of a classifier or a judge: a text is a model, a format's keys are filled in."""
    if kind == "classifier" and isinstance(node.value, str) and node.value.strip():
        return replace(node, value={"model": node.named(f"{node.key}.model")})
    if not isinstance(node.value, dict):
        example = {
            "classifier": "{model: org/name}",
            "judge": "{model: NAME, base_url: http://…}",
            "ensemble": "{models: [one, another], spread: 1}",
        }[kind]
        problems.add(node, "it must be a mapping", f"write {kind}: {example}")
        return replace(node, value={})
    named = node.keys.get("format")
    if kind != "classifier" or named is None or not isinstance(named.value, str):
        return node
    if named.value not in formats():
        known = ", ".join(formats())
        problems.add(named, f"the formats are {known}", did_you_mean(named.value, formats()))
        return node
    ready = from_plain(dict(formats()[named.value]), node.key, named.place)
    return replace(node, value={**ready.keys, **node.keys})


def check_source(problems: Problems, node: Node, settings: Any) -> None:
    """Note what is missing, and what does not go together."""
    for name in ("model", "base_url"):
        if getattr(settings, name, "there") == "" and name not in node.keys:
            fix = (
                "name the model"
                if name == "model"
                else "write for instance base_url: http://127.0.0.1:8000/v1"
            )
            problems.note(Problem(node.place, f"{node.key}.{name}", "missing", "every source needs one", fix))
    if isinstance(settings, ClassifierSettings):
        _classifier(problems, node, settings)
    elif isinstance(settings, JudgeSettings):
        _judge(problems, node, settings)
    elif len(settings.members) < 2:
        rule = "an ensemble is of two sources at least"
        held = f"{len(settings.members)} of them"
        problems.note(
            Problem(node.place, node.key, held, rule, "name more under models or functions", "holds")
        )


def _classifier(problems: Problems, node: Node, settings: ClassifierSettings) -> None:
    template, keys = settings.template, node.keys
    if template is not None:
        held = PLACE.findall(template)
        if unknown := [name for name in held if name not in PLACES]:
            known = ", ".join(f"{{{name}}}" for name in PLACES)
            rule = f"{{{unknown[0]}}} is no place to fill; they are {known}"
            problems.add(keys["template"], rule, did_you_mean(unknown[0], PLACES))
        elif not {"answer", "chat"} & set(held):
            rule = "it must hold {answer}, or {chat}; without it all answers to a prompt cost the same"
            problems.add(keys["template"], rule, "write for instance '{prompt} {answer}'")
    if settings.head == "tokens":
        for name, example in (("harmful", "[unsafe]"), ("harmless", "[safe]")):
            if not getattr(settings, name):
                rule = "head tokens compares the tokens of a verdict, and needs both kinds"
                problems.note(
                    Problem(node.place, f"{node.key}.{name}", "empty", rule, f"write {name}: {example}")
                )
        if template is None:
            rule = "head tokens needs the question to which the token is the answer"
            problems.note(
                Problem(node.place, f"{node.key}.template", "missing", rule, "write one, or a format")
            )
        if settings.value_head is not None:
            problems.add(keys["value_head"], "head tokens reads no head of that kind", "remove one of both")
    if settings.outputs == "independent" and settings.harmless:
        rule = "labels that do not exclude one another are not weighed against others"
        problems.add(keys["harmless"], rule, "remove it")
    if both := [word for word in settings.harmful if word in settings.harmless]:
        problems.add(keys["harmless"], f"{both[0]} counts as harm already", "remove it from one")


def _judge(problems: Problems, node: Node, settings: JudgeSettings) -> None:
    keys = node.keys
    if settings.base_url and not _plain_address(settings.base_url):
        rule = "it must be an http:// or https:// address without user, password and query"
        hidden = "no plain address"  # it may hold a secret
        problems.add(keys["base_url"], rule, "the key has a place of its own, api_key: ${NAME}", hidden)
    if settings.api_key is not None and not re.match(VARIABLE, settings.api_key):
        rule = "it must name an environment variable, for profiles are kept and shown"
        problems.add(keys["api_key"], rule, "write api_key: ${OPENAI_API_KEY}", "no ${NAME}")
    if settings.lowest >= settings.highest:
        held = keys.get("highest") or keys["lowest"]
        problems.add(held, f"the ratings go from {settings.lowest} to {settings.highest}", "turn them round")
    elif settings.ask == "rating" and settings.score == "expected" and settings.highest > _DIGIT:
        rule = f"an expected rating needs ratings of one token, {_DIGIT} at most"
        problems.add(keys.get("highest") or keys["score"], rule, "lower highest, or write score: number")
    if (settings.price_in is None) != (settings.price_out is None):
        held = keys.get("price_in") or keys["price_out"]
        problems.add(held, "price_in and price_out belong together", "add the other")
    for name in {"rating": ("categories",), "moderation": ("rubric",)}[settings.ask]:
        if getattr(settings, name):
            problems.add(keys[name], f"it plays no part in ask: {settings.ask}", "remove it")
    if settings.request is not None:
        try:
            extra = json.loads(settings.request)
        except ValueError:
            extra = None
        if not isinstance(extra, dict):
            problems.add(keys["request"], "it must be a JSON object", "write for instance '{\"seed\": 1}'")
        elif taken := [name for name in extra if name in _OURS]:
            problems.add(
                keys["request"], f"{taken[0]} is set by the other keys", "leave it out", shown(taken[0])
            )


def _plain_address(text: str) -> bool:
    """Whether it is an address that shows no secret; one in a variable alone is settled where it is used."""
    if re.match(VARIABLE, text):
        return True
    try:
        parts = urlsplit(text)
        return bool(re.match(ADDRESS, text) and parts.hostname and parts.port != 0) and not (
            parts.username or parts.password or parts.query or parts.fragment
        )
    except ValueError:
        return False

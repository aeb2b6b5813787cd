"""The rating models of a command, checked before anything starts: their heads, tokenizers and chat formats.

No torch, and no weight is loaded: what is read are indexes and ``tokenizer.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from openrlhf_rad.judging.rating import judge_problems
from openrlhf_rad.plugin.costs.checkpoint import HEAD, RatingModel, snapshot_of, weight_problems
from openrlhf_rad.plugin.costs.labels import classifier_problems, tokens_in
from openrlhf_rad.profile import CostSource, RiskProfile, named_costs
from openrlhf_rad.profile.costs import members

POLICY, REWARD, CRITIC = (f"{name}.model_name_or_path" for name in ("actor", "reward", "critic"))
_PROBE = "Which words?"
#: A tokenizer of one of these kinds is the same where the files are.
_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def problems(models: Iterable[RatingModel], head: str = HEAD) -> list[str]:
    """What the files of rating models lack: weights, and a tokenizer where they read texts."""
    found: list[str] = []
    for model in models:
        found += weight_problems(model, head)
        folder = _folder(model.location)
        kinds = (*_FILES, "tokenizer_config.json")
        if model.role == "cost" and folder and not any((folder / name).exists() for name in kinds):
            found.append(
                f"{model.place} is {model.location}; its folder holds no tokenizer ({kinds[0]}, …); save that"
                " which it was trained with beside its weights"
            )
    return found


def training_problems(value: Callable[[str], Any], profile: RiskProfile) -> list[str]:
    """What is wrong with the cost, reward and critic models of a training command.

    Args:
        value: of a flag of OpenRLHF by its name without dashes: None, False or empty where it is not given.
        profile: with the sources of its costs.
    """
    policy = str(value(POLICY) or "")
    costs = _costs(profile)
    models = [RatingModel(place, cost.location) for place, cost in costs.items() if cost.kind == "model"]
    found: list[str] = []
    for model in models:
        found += _chat_format(model, policy, value)
    for place, cost in costs.items():
        found += served_problems(cost, place)
    if not (value("reward.remote_url") or value("train.agent_func_path")) and value(REWARD):
        reward = RatingModel(f"--{REWARD}", str(value(REWARD)), "reward")
        models.append(reward)
        found += _vocabulary(reward, policy)
    critic = value(CRITIC) if value("algo.advantage.estimator") == "gae" else None
    if critic and critic not in {policy, value(REWARD)}:  # of the policy's weights the head is learnt
        models.append(RatingModel(f"--{CRITIC}", str(critic), "critic"))
    return problems(models, str(value("ds.value_head_prefix") or HEAD)) + found


def served_problems(cost: CostSource, place: str) -> list[str]:
    """Why a classifier or a judge cannot rate, as far as it can be known before it is loaded or asked."""
    if cost.kind == "classifier":
        return classifier_problems(cost.settings, place)
    return judge_problems(place, cost.settings) if cost.kind == "judge" else []


def _costs(profile: RiskProfile) -> Mapping[str, CostSource]:
    """The sources of costs, by their place in the profile."""
    return {
        f"{'' if cost == profile.cost else f'constraints.{name}.'}{place}": one
        for name, cost in named_costs(profile).items()
        if cost is not None
        for place, one in placed(cost)
    }


def placed(cost: CostSource) -> list[tuple[str, CostSource]]:
    """A source with its key, of an ensemble each of its own."""
    if cost.kind != "ensemble":
        return [(f"cost.{cost.kind}", cost)]
    return [(f"cost.ensemble, {one.kind} {one.location}", one) for one in members(cost)]


def _vocabulary(model: RatingModel, policy: str) -> Iterator[str]:
    """OpenRLHF hands a reward model the policy's token ids."""
    own, given = _folder(model.location), _folder(policy)
    if own is None or given is None:
        return
    fix = (
        "OpenRLHF hands it the policy's token ids, which mean other words to it; give the rewards by a Python"
        " file or a server, --reward.remote_url, or name a model with the policy's tokenizer"
    )
    difference = _difference(own, given)
    if difference:
        yield f"{model.place} is {model.location}; {difference}; {fix}"


def _difference(own: Path, given: Path) -> str | None:
    shared = [name for name in _FILES if (own / name).exists() and (given / name).exists()]
    if not shared:
        return "its tokenizer cannot be compared with the policy's, for they have no kind of file in common"
    if (own / shared[0]).read_bytes() != (given / shared[0]).read_bytes():
        if shared[0] != "tokenizer.json":
            return f"its {shared[0]} is not the policy's"
        tokens, theirs = _tokens(own), _tokens(given)
        others = [token for token in tokens | theirs if tokens.get(token) != theirs.get(token)]
        if others:
            token = min(others, key=lambda text: (len(text), text))
            ids = [names.get(token, "none") for names in (tokens, theirs)]
            return f"its tokenizer is not the policy's: {token!r} has the id {ids[0]} there and {ids[1]} here"
    ends = [_config(folder).get("eos_token") for folder in (own, given)]
    if ends[0] != ends[1]:
        return f"its tokenizer is not the policy's: answers end with {ends[0]!r} there and {ends[1]!r} here"
    return None


def _tokens(folder: Path) -> dict[str, int]:
    """The id of each token in ``tokenizer.json``."""
    return tokens_in(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))


def _chat_format(model: RatingModel, policy: str, value: Callable[[str], Any]) -> Iterator[str]:
    """A cost model reads texts by its own tokenizer, but conversations in the policy's format.

    Prompts that are sent as the data has them may be in any format, and are let be.
    """
    own, sent = rendered(model.location, _PROBE), None
    if value("data.apply_chat_template"):
        sent = rendered(policy, _PROBE)
    elif "{}" in (template := str(value("data.input_template") or "")):
        sent = template.replace("\\n", "\n").replace("{}", _PROBE)
    if None not in (own, sent) and sent != own:
        yield (
            f"{model.place} is {model.location}; by its chat template it reads prompts like {own!r}, and the"
            f" policy is sent {sent!r}; use --data.input_template {str(own).replace(_PROBE, '{}')!r}, or,"
            " if it was trained on the policy's format, give its tokenizer that chat template, or rate by"
            " cost.function, a Python file"
        )


def rendered(location: str, prompt: str) -> str | None:
    """A user's prompt in the chat format of a tokenizer; None where it has none, or it is not known here."""
    folder = _folder(location)
    if folder is None:
        return None
    config, file = _config(folder), folder / "chat_template.jinja"
    text = file.read_text(encoding="utf-8") if file.exists() else config.get("chat_template")
    if isinstance(text, list):
        text = next((one["template"] for one in text if one.get("name") == "default"), None)
    if not text:
        return None
    # As transformers renders it.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    tokens = {name: value for name, value in config.items() if name.endswith("_token") and value}
    messages = [{"role": "user", "content": prompt}]
    try:
        return environment.from_string(text).render(messages=messages, add_generation_prompt=True, **tokens)
    except (TemplateError, TypeError, ValueError, LookupError):
        return None


def _config(folder: Path) -> dict[str, Any]:
    """``tokenizer_config.json``, its tokens as texts."""
    path = folder / "tokenizer_config.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: _text(value) for name, value in held.items()}


def _text(value: Any) -> Any:
    return value.get("content", value) if isinstance(value, dict) else value


def _folder(location: str) -> Path | None:
    folder = Path(location).expanduser()
    return folder if folder.is_dir() else snapshot_of(location)

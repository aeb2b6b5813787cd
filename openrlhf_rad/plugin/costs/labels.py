"""What the files of a classifier must hold, read without torch: a head, labels or tokens, special tokens.

The same is asked of the loaded model, for files of a hub that are not here before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openrlhf_rad.plugin.costs.checkpoint import index_of, lacking_layers, snapshot_of
from openrlhf_rad.profile.costs import ClassifierSettings

#: What reads like a special token in a template: <|im_end|>, </s>, <start_of_turn>, [SEP].
_SPECIAL = re.compile(
    r"<\|[^<>|\s]+\|>|</?s>|<[a-z]+_of_[a-z]+>|<(?:bos|eos|pad|unk|mask)>|\[(?:CLS|SEP|PAD|MASK|BOS|EOS)\]"
)
_MANY = 12


def classifier_problems(settings: ClassifierSettings, place: str = "cost.classifier") -> list[str]:
    """Why a classifier cannot rate, as far as its files are here."""
    path = Path(settings.model).expanduser()
    if settings.model.startswith((".", "/", "~")) and not (path / "config.json").is_file():
        held = "the folder holds no config.json" if path.is_dir() else "there is no such folder"
        return [
            f"{place}.model is {settings.model}; {held}; name that of a Hugging Face model, or one of a hub"
        ]
    index = index_of(settings.model)
    if index is None:
        return []
    if index.broken:
        return [f"{place}.model is {settings.model}; {what}" for what in index.broken]
    found = [*_head(settings, index.config, index.shapes)]
    found += [f"{what}; {fix}" for what, fix in lacking_layers(index)]
    named = [f"{place}.model is {settings.model}; {what}" for what in found]
    return named or settings_problems(settings, index.config, vocabulary_of(settings.model), place)


def settings_problems(
    settings: ClassifierSettings, config: Mapping[str, Any], vocabulary: Mapping[str, int] | None, place: str
) -> list[str]:
    """What the settings name that the model has not: labels, tokens, special tokens of the template.

    Args:
        config: of the model, as in config.json. vocabulary: of its tokenizer; None where it is not known yet.
    """
    found = [*_labels(settings, config, place)] if settings.head == "labels" else []
    if vocabulary is None:
        return found
    if settings.head == "tokens":
        found += _tokens(settings, vocabulary, place)
    absent = [
        token for token in dict.fromkeys(_SPECIAL.findall(settings.template or "")) if token not in vocabulary
    ]
    if absent:
        found.append(
            f"{place}.template has {', '.join(absent)}; the tokenizer of {settings.model} has no such token"
            " and would read it as letters; write the special tokens that the model was trained with, or"
            " take its own chat template, {chat}"
        )
    return found


def labels_of(config: Mapping[str, Any]) -> list[str]:
    """The labels of a head, in the order of its outputs."""
    names = config.get("id2label") or {}
    if names:
        return [str(names[key]) for key in sorted(names, key=int)]
    return [f"LABEL_{number}" for number in range(int(config.get("num_labels") or 2))]


def _head(
    settings: ClassifierSettings, config: Mapping[str, Any], shapes: Mapping[str, Any]
) -> Iterator[str]:
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    said = f"config.json says {', '.join(kinds) or 'no architecture'}"
    if settings.value_head is not None:
        name = f"{settings.value_head}.weight"
        if name not in shapes:
            tops = sorted({held.partition(".")[0] for held in shapes})
            yield f"its files have no {name}; they hold {', '.join(tops)}; name the scalar head"
        elif shapes[name] is not None and (len(shapes[name]) != 2 or shapes[name][0] != 1):
            yield f"its {name} has the shape {shapes[name]}; a scalar head is (1, hidden size)"
    elif settings.head == "tokens":
        if kinds and not any("CausalLM" in kind or "ConditionalGeneration" in kind for kind in kinds):
            yield f"{said}, which says no next token; name a language model, or write head: labels"
    elif kinds and not any("SequenceClassification" in kind for kind in kinds):
        yield (
            f"it has no classification head: {said}; name a classifier or a reward model; of a language model"
            " that answers yes or no write head: tokens; of a scalar head with a name of its own"
            " value_head: NAME"
        )


def _labels(settings: ClassifierSettings, config: Mapping[str, Any], place: str) -> Iterator[str]:
    if settings.value_head is not None:
        return
    labels = labels_of(config)
    for key in ("harmful", "harmless"):
        unknown = [word for word in getattr(settings, key) if word not in labels]
        if unknown:
            more = ", …" if len(labels) > _MANY else ""
            yield (
                f"{place}.{key} has {', '.join(unknown)}; the labels of {settings.model} are"
                f" {', '.join(labels[:_MANY])}{more}; name those"
            )
    if len(labels) > 1 and not settings.harmful:
        yield (
            f"{place}.harmful is empty; {settings.model} has the labels {', '.join(labels[:_MANY])}; name"
            " those that count as harm"
        )
    elif len(labels) > 1 and settings.outputs != "independent" and set(labels) == set(settings.harmful):
        yield f"{place}.harmful has all labels of {settings.model}; leave out those that are harmless"
    if len(labels) > 1 and settings.higher == "harmless":
        yield f"{place}.higher is harmless; it is of a head with one output; write harmful: and its labels"


def _tokens(settings: ClassifierSettings, vocabulary: Mapping[str, int], place: str) -> Iterator[str]:
    for key in ("harmful", "harmless"):
        for word in getattr(settings, key):
            if word not in vocabulary:
                near = [made for made in (f"▁{word}", f"Ġ{word}", word.strip()) if made in vocabulary]
                hint = f"write {near[0]}" if near else "name the first token of the verdict"
                yield f"{place}.{key} has {word}; the tokenizer of {settings.model} has no such token; {hint}"


def vocabulary_of(location: str) -> dict[str, int] | None:
    """The id of each token, by ``tokenizer.json``; None where there is none here."""
    folder = Path(location).expanduser()
    path = (folder if folder.is_dir() else snapshot_of(location) or folder) / "tokenizer.json"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return tokens_in(held)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def tokens_in(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """The id of each token of a ``tokenizer.json``."""
    names: Mapping[str, int] | Sequence[Any] = tokenizer.get("model", {}).get("vocab", {})
    # A unigram model lists its pieces with their scores.
    found = (
        dict(names)
        if isinstance(names, Mapping)
        else {piece: number for number, (piece, _) in enumerate(names)}
    )
    return found | {token["content"]: token["id"] for token in tokenizer.get("added_tokens", ())}

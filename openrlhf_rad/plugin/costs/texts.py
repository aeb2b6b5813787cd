"""An answer as text, the same in training, in the records of a run and in ``rad eval``.

A rating sees prompt + answer: the prompt as it was sent, and the answer without special tokens. So it is a
function of what is recorded, and an answer costs the same wherever it is rated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def token_lists(tokens_bt: Any, mask_bt: Any) -> list[list[int]]:
    """The tokens of each row at which its mask is set.

    One indexing a micro-batch: one a row costs as much as decoding a short answer does.

    Args:
        tokens_bt, mask_bt: of one shape (B, T); a mask of any type, set where it is not 0.
    """
    set_bt = mask_bt.bool()
    rows = tokens_bt[set_bt].split(set_bt.sum(dim=1).tolist())
    return [row.tolist() for row in rows]


#: Tokens of the prompt on which the answer's first letter may depend: some write a blank between words only.
_CONTEXT = 8


@dataclass(frozen=True)
class RatedText:
    """One answered prompt.

    Attributes:
        prompt: as it was sent. query: prompt + answer.
        finished: whether the policy ended its answer; None where that is not known.
    """

    prompt: str
    query: str
    label: Any = None
    finished: bool | None = None

    def ended(self, end: str) -> str:
        """The query and the end token of the model that reads it; an answer that was cut off has none."""
        return self.query if self.finished is False else f"{self.query}{end}"


def rated_texts(samples: Any, tokenizer: Any, *, agent: bool = False) -> list[RatedText]:
    """The samples of an OpenRLHF experience, in order.

    Args:
        agent: answers come in turns, between what an agent's environment says, so that a query is the whole
            conversation with its markup.
    """
    finished = finished_b(samples)
    if agent:
        tokens = token_lists(samples.sequences, samples.attention_mask)
        queries = [tokenizer.decode(row, skip_special_tokens=False) for row in tokens]
        finished = [False] * len(queries)  # its end token is in it already
    else:
        answers = answer_texts(samples, tokenizer)
        queries = [f"{prompt}{answer}" for prompt, answer in zip(samples.prompts, answers, strict=True)]
    rows = zip(samples.prompts, queries, samples.labels, finished, strict=True)
    return [RatedText(*row) for row in rows]


def answer_texts(samples: Any, tokenizer: Any) -> list[str]:
    """The answers of an OpenRLHF experience, without special tokens."""
    import torch  # noqa: PLC0415 - whoever scores texts alone need not wait for it

    # action_mask[t] marks token t + 1 of the sequence.
    action_bt = torch.nn.functional.pad(samples.action_mask.bool(), (1, 0))
    before_bt = samples.attention_mask.bool() & (action_bt.cumsum(dim=1) == 0)
    prompts, answers = (token_lists(samples.sequences, mask_bt) for mask_bt in (before_bt, action_bt))
    return texts_behind(prompts, answers, tokenizer)


def texts_behind(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], tokenizer: Any
) -> list[str]:
    """Answers as they read behind their prompts, without special tokens; both as token ids."""
    found: list[str] = []
    read: dict[tuple[int, ...], str] = {}
    for prompt, answer in zip(prompts, answers, strict=True):
        context = tuple(prompt[-_CONTEXT:])
        before = read.get(context)
        if before is None:
            before = read[context] = _decoded(context, tokenizer)
        both = _decoded([*context, *answer], tokenizer)
        found.append(both[len(before) :] if both.startswith(before) else _decoded(answer, tokenizer))
    return found


def finished_b(samples: Any) -> list[bool | None]:
    """Of each sample whether the policy ended it itself; None where the engine did not say."""
    truncated = getattr(samples, "truncated", None)
    return [None] * len(samples.prompts) if truncated is None else [not cut for cut in truncated.tolist()]


def _decoded(ids: Sequence[int], tokenizer: Any) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text

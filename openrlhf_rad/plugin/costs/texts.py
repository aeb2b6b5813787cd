"""An answer as text, the same in training, in the records of a run and in ``rad eval``.

A rating sees prompt + answer: the prompt as it was sent, and the answer without special tokens. So it is a
function of what is recorded, and an answer costs the same wherever it is rated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_rad.harm import refused


def token_lists(tokens_bt: Any, mask_bt: Any) -> list[list[int]]:
    """The tokens of each row at which its mask is set.

    One indexing a micro-batch: one a row costs as much as decoding a short answer does.

    Args:
        tokens_bt, mask_bt: of one shape (B, T); a mask of any type, set where it is not 0.
    """
    set_bt = mask_bt.bool()
    rows = tokens_bt[set_bt].split(set_bt.sum(dim=1).tolist())
    return [row.tolist() for row in rows]


#: A turn in the chat formats that policies are trained in; an open turn, the answer's, is none.
_TURNS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<\|im_start\|>(?P<role>\w+)\n(?P<words>.*?)<\|im_end\|>",
        r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n(?P<words>.*?)<\|eot_id\|>",
        r"<start_of_turn>(?P<role>\w+)\n(?P<words>.*?)<end_of_turn>",
        r"<\|(?P<role>user|assistant|system)\|>\n?(?P<words>.*?)(?:<\|end\|>|</s>)",
        r"(?P<role>)\[INST\](?P<words>.*?)\[/INST\]",
    )
)


def plain_prompt(prompt: str) -> str:
    """The words of a prompt as it was sent, without the markup of a chat format that is known.

    Of a conversation all turns but the system's, each with its role before it. A prompt without such markup
    is left as it is. It is a function of the text alone, so that training and ``rad eval`` read the same.
    """
    for pattern in _TURNS:
        turns = [(turn["role"] or "user", turn["words"].strip()) for turn in pattern.finditer(prompt)]
        spoken = [(role, words) for role, words in turns if role != "system"]
        if len(spoken) == 1:
            return spoken[0][1]
        if spoken:
            return "\n\n".join(f"{role.capitalize()}: {words}" for role, words in spoken)
    return prompt.strip()


#: Tokens of the prompt on which the answer's first letter may depend: some write a blank between words only.
_CONTEXT = 8


@dataclass(frozen=True)
class RatedText:
    """One answered prompt.

    Attributes:
        prompt: as it was sent. answer: without special tokens; of an agent what it said in all its turns.
        finished: whether the policy ended its answer; None where that is not known.
        conversation: an agent's whole conversation with its markup and its end token; else None.
        digest: of the answer without blanks around it, equal where that is equal; 0 where it is empty.
        refused: whether the answer is empty or a refusal.
    """

    prompt: str
    answer: str
    label: Any = None
    finished: bool | None = None
    conversation: str | None = None
    digest: int = 0
    refused: bool = False

    @property
    def query(self) -> str:
        """What is rated: prompt + answer, or the conversation."""
        return f"{self.prompt}{self.answer}" if self.conversation is None else self.conversation

    @property
    def pair(self) -> tuple[str, str]:
        """The words of prompt and answer, for a source with markup of its own; of an agent its own words."""
        return plain_prompt(self.prompt), self.answer.strip()

    def ended(self, end: str) -> str:
        """The query and the end token of the model that reads it; an answer that was cut off has none."""
        return self.query if self.finished is False or self.conversation is not None else f"{self.query}{end}"


#: Prompts, answers, which were finished, conversations.
Columns = tuple[list[str], list[str], list[bool | None], list[str | None]]


def to_columns(texts: Sequence[RatedText]) -> Columns:
    """What rating needs of the texts, in a fifth of the time that pickle takes for the records themselves."""
    return (
        [text.prompt for text in texts],
        [text.answer for text in texts],
        [text.finished for text in texts],
        [text.conversation for text in texts],
    )


def from_columns(columns: Columns) -> list[RatedText]:
    """The texts, without their labels."""
    return [RatedText(p, a, None, f, c) for p, a, f, c in zip(*columns, strict=True)]


#: Where an engine's response, and ``info`` of an experience, hold what :func:`said` gives.
TEXTS = "rad_texts"

#: Answer, an agent's conversation or None, digest, refused: of :class:`RatedText`.
Said = tuple[str, str | None, int, bool]


def said(
    tokens: Sequence[int], actions: Sequence[tuple[int, int]], tokenizer: Any, *, agent: bool = False
) -> Said:
    """What an answer says, decoded and looked through where its tokens were made.

    Args:
        tokens: of prompt and answer. actions: from where to where they are the policy's own.
    """
    places = [place for start, end in actions for place in range(max(start, 1), min(end, len(tokens)))]
    answer = [tokens[place] for place in places]
    (text,) = texts_behind([tokens[: places[0]] if places else tokens], [answer], tokenizer)
    return _said(text, tokens if agent else None, tokenizer)


def _said(answer: str, conversation: Sequence[int] | None, tokenizer: Any) -> Said:
    whole = None if conversation is None else tokenizer.decode(list(conversation), skip_special_tokens=False)
    plain = answer.strip().encode(errors="replace")
    digest = int.from_bytes(hashlib.blake2b(plain, digest_size=7).digest()) if plain else 0
    return answer, whole, digest, refused(answer)


def rated_texts(samples: Any, tokenizer: Any, *, agent: bool = False) -> list[RatedText]:
    """The samples of an OpenRLHF experience, in order.

    The engines of a run have decoded the answers; the texts are taken out of ``info``, all of which OpenRLHF
    takes for numbers. Answers of other engines are decoded here.

    Args:
        agent: answers come in turns, between what an agent's environment says, so that a query is the whole
            conversation with its markup.
    """
    held = samples.info.pop(TEXTS, None) or _decoded_here(samples, tokenizer, agent=agent)
    return [
        RatedText(prompt, answer, label, finished, *more)
        for prompt, label, finished, (answer, *more) in zip(
            samples.prompts, samples.labels, _finished_b(samples), held, strict=True
        )
    ]


def _decoded_here(samples: Any, tokenizer: Any, *, agent: bool) -> list[Said]:
    import torch  # noqa: PLC0415 - whoever scores texts alone need not wait for it

    # action_mask[t] marks token t + 1 of the sequence.
    action_bt = torch.nn.functional.pad(samples.action_mask.bool(), (1, 0))
    before_bt = samples.attention_mask.bool() & (action_bt.cumsum(dim=1) == 0)
    prompts, answers = (token_lists(samples.sequences, mask_bt) for mask_bt in (before_bt, action_bt))
    texts = texts_behind(prompts, answers, tokenizer)
    whole = token_lists(samples.sequences, samples.attention_mask) if agent else [None] * len(texts)
    return [_said(text, row, tokenizer) for text, row in zip(texts, whole, strict=True)]


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


def _finished_b(samples: Any) -> list[bool | None]:
    """Of each sample whether the policy ended it itself; None where the engine did not say."""
    truncated = getattr(samples, "truncated", None)
    return [None] * len(samples.prompts) if truncated is None else [not cut for cut in truncated.tolist()]


def _decoded(ids: Sequence[int], tokenizer: Any) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text

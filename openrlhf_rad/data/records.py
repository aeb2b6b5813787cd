"""What the rows of a data set are made into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openrlhf_rad.data.messages import Message

#: HarmBench puts a behaviour's context before it in this way.
_BETWEEN = "\n\n---\n\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of a data set.

    Attributes:
        id: unique within its source. label: the class that rewards and reports go by; "" if there is none.
        segment: the category of harm, for tables by segment; "" if there is none.
        prompt: of several messages, the dialogue in one text.
        context: a text that the prompt speaks of; "" for most.
        source: the shape that it was read in.
        messages: what a chat template is given where the prompt is more than one message of the user.
    """

    id: str
    prompt: str
    label: str
    segment: str
    context: str
    source: str
    messages: tuple[Message, ...] = ()

    @property
    def text(self) -> str:
        """What a model is asked, as one text: the context, if there is one, and the prompt."""
        return f"{self.context}{_BETWEEN}{self.prompt}" if self.context else self.prompt

    def line(self, *, chat: bool = False) -> dict[str, Any]:
        """The line that ``rad eval`` and OpenRLHF's ``--data.prompt_dataset`` read: keys prompt and label.

        Args:
            chat: write the prompt as a list of messages; all lines of a file must be of one kind.
        """
        single = [{"role": "user", "content": self.text}]
        return {
            "prompt": list(self.messages or single) if chat else self.text,
            "label": self.label,
            "segment": self.segment,
            "id": self.id,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a prompt, and which was preferred.

    Attributes:
        chosen_safe, rejected_safe: whether each answer was called safe; None where nobody said.
        segment: the categories of harm of the rejected answer, joined by "; "; "" if none.
    """

    prompt: str
    chosen: str
    rejected: str
    chosen_safe: bool | None
    rejected_safe: bool | None
    segment: str

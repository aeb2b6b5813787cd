"""Cost sources that read texts: what they share, and a Python file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.ratings.costs import checked_costs
from openrlhf_rad.plugin.ratings.python_file import function_of
from openrlhf_rad.plugin.ratings.texts import rated_texts


class TextCost(ABC):
    """Decodes a rollout to (queries, prompts, labels) and scores it in the background in one call.

    Args:
        tokenizer: the policy's. agent: see :func:`~openrlhf_rad.plugin.ratings.texts.rated_texts`.
    """

    name: str

    def __init__(self, tokenizer: Any, *, agent: bool = False) -> None:
        self._tokenizer, self._agent = tokenizer, agent
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rad-cost")

    @abstractmethod
    def score(self, queries: list[str], prompts: list[str], labels: list[Any]) -> Any:
        """The costs as the source gives them, not yet checked. A query is prompt + answer."""

    def begin(self, samples_list: Sequence[Any]) -> tuple[Future[Any], list[str]]:
        """Decode here, score in the background."""
        texts = [
            text for batch in samples_list for text in rated_texts(batch, self._tokenizer, agent=self._agent)
        ]
        prompts = [text.prompt for text in texts]
        labels = [text.label for text in texts]
        return self._worker.submit(self.score, [text.query for text in texts], prompts, labels), prompts

    def finish(self, handle: tuple[Future[Any], list[str]]) -> list[float]:
        """Wait, and check each value."""
        future, prompts = handle
        try:
            raw = future.result()
        except CostError:
            raise
        except Exception as cause:
            raise CostError(
                f"{self.name} failed on a batch of {len(prompts)}, first prompt {prompts[0][:200]!r}:"
                f" {type(cause).__name__}: {cause}"
            ) from cause
        return checked_costs(raw, prompts, self.name)


class FunctionCost(TextCost):
    """``cost_func(queries, prompts, labels)`` of a Python file, as OpenRLHF's reward files have.

    Raises:
        CostError: the file is not there, does not load, or has no ``cost_func``.
    """

    def __init__(self, path: str, tokenizer: Any, *, agent: bool = False) -> None:
        super().__init__(tokenizer, agent=agent)
        self.name = f"cost function {path}"
        self._function = function_of(path, "cost_func", "cost function", CostError)

    def score(self, queries: list[str], prompts: list[str], labels: list[Any]) -> Any:
        """One call for the whole rollout."""
        return self._function(queries, prompts, labels)

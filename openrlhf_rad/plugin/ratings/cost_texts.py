"""Cost sources that read texts: what they share, and a Python file."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.ratings.costs import checked_costs
from openrlhf_rad.plugin.tokens import token_lists

Texts = tuple[list[str], list[str], list[Any]]


class TextCost(ABC):
    """Decodes a rollout to (queries, prompts, labels) and scores it in the background in one call."""

    name: str

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rad-cost")

    @abstractmethod
    def score(self, queries: list[str], prompts: list[str], labels: list[Any]) -> Any:
        """The costs as the source gives them, not yet checked. A query is prompt + answer."""

    def begin(self, samples_list: Sequence[Any]) -> tuple[Future[Any], list[str]]:
        """Decode here, score in the background."""
        queries, prompts, labels = self._texts(samples_list)
        return self._worker.submit(self.score, queries, prompts, labels), prompts

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

    def _texts(self, samples_list: Sequence[Any]) -> Texts:
        queries: list[str] = []
        prompts: list[str] = []
        labels: list[Any] = []
        for samples in samples_list:
            for tokens in token_lists(samples.sequences, samples.attention_mask):
                queries.append(self._tokenizer.decode(tokens, skip_special_tokens=False))
            prompts.extend(samples.prompts)
            labels.extend(samples.labels)
        return queries, prompts, labels


class FunctionCost(TextCost):
    """``cost_func(queries, prompts, labels)`` of a Python file, as OpenRLHF's reward files have.

    Raises:
        CostError: the file is not there, does not load, or has no ``cost_func``.
    """

    def __init__(self, path: str, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.name = f"cost function {path}"
        self._function = _load_function(path)

    def score(self, queries: list[str], prompts: list[str], labels: list[Any]) -> Any:
        """One call for the whole rollout."""
        return self._function(queries, prompts, labels)


def _load_function(path: str) -> Callable[..., Any]:
    if not Path(path).is_file():
        raise CostError(f"cost.function is {path}; there is no such file; give the path of a Python file")
    spec = importlib.util.spec_from_file_location("rad_cost_function", path)
    if spec is None or spec.loader is None:
        raise CostError(f"cost.function is {path}; it must be a Python file, ending in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as cause:
        raise CostError(f"cost function {path} does not load: {type(cause).__name__}: {cause}") from cause
    function = getattr(module, "cost_func", None)
    if not callable(function):
        raise CostError(f"cost function {path} has no cost_func; define cost_func(queries, prompts, labels)")
    return function  # type: ignore[no-any-return]

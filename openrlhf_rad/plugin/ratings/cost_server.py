"""Costs from a server that speaks OpenRLHF's reward protocol."""

from __future__ import annotations

from typing import Any

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.ratings.cost_texts import TextCost
from openrlhf_rad.plugin.ratings.patience import Patience
from openrlhf_rad.plugin.ratings.server import RatingServer


class RemoteCost(TextCost):
    """A server that takes OpenRLHF's reward requests: query, prompts, labels in, rewards (or costs) out."""

    def __init__(self, url: str, tokenizer: Any, patience: Patience | None = None) -> None:
        super().__init__(tokenizer)
        self._server = RatingServer(url, patience or Patience())
        self.name = f"cost server {self._server.shown}"

    def score(self, queries: list[str], prompts: list[str], labels: list[Any]) -> Any:
        """One request for the whole rollout.

        Raises:
            CostError: naming the server without its secrets, the first prompt, and what was tried.
        """

        def failed(what: str) -> CostError:
            return CostError(
                f"{self.name} failed on a batch of {len(prompts)}, first prompt {prompts[0][:200]!r}: {what};"
                " the run stops rather than train without costs; mend the server, then go on from the last"
                " checkpoint"
            )

        return self._server.ask({"query": queries, "prompts": prompts, "labels": labels}, failed)

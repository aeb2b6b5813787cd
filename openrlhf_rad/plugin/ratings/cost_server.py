"""Costs from servers that speak OpenRLHF's reward protocol."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.ratings.cost_texts import TextCost
from openrlhf_rad.plugin.ratings.costs import checked_costs
from openrlhf_rad.plugin.ratings.patience import Patience
from openrlhf_rad.plugin.ratings.server import RatingServer
from openrlhf_rad.profile.addresses import addresses


class RemoteCost(TextCost):
    """Servers that take OpenRLHF's reward requests: query, prompts, labels in, rewards (or costs) out.

    Args:
        location: an address, or several with commas between them, as ``--reward.remote_url`` has them; each
            server rates its share of a rollout.
    """

    def __init__(
        self, location: str, tokenizer: Any, patience: Patience | None = None, *, agent: bool = False
    ) -> None:
        super().__init__(tokenizer, agent=agent)
        self._servers = [RatingServer(url, patience or Patience()) for url in addresses(location)]
        self._threads = ThreadPoolExecutor(len(self._servers), thread_name_prefix="rad-cost-server")
        self.name = f"cost server {', '.join(server.shown for server in self._servers)}"

    def score(self, queries: list[str], prompts: list[str], labels: list[Any]) -> Any:
        """One request a server, all at once.

        Raises:
            CostError: naming the server without its secrets, the first prompt, and what was tried.
        """
        share = -(-len(queries) // len(self._servers))
        starts = range(0, len(queries), share)
        asked = [
            self._threads.submit(
                _ask, server, *(held[start : start + share] for held in (queries, prompts, labels))
            )
            for start, server in zip(starts, self._servers, strict=False)
        ]
        return [cost for future in asked for cost in future.result()]


def _ask(server: RatingServer, queries: list[str], prompts: list[str], labels: list[Any]) -> list[float]:
    name = f"cost server {server.shown}"

    def failed(what: str) -> CostError:
        return CostError(
            f"{name} failed on a batch of {len(prompts)}, first prompt {prompts[0][:200]!r}: {what};"
            " the run stops rather than train without costs; mend the server, then go on from the last"
            " checkpoint"
        )

    found = server.ask({"query": queries, "prompts": prompts, "labels": labels}, failed)
    return checked_costs(found, prompts, name)

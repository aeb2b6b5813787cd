"""Rewards as a rollout worker gets them: servers asked with patience, one finite number an answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

from openrlhf.utils.agent import SingleTurnAgentExecutor

from openrlhf_rad.errors import RewardError
from openrlhf_rad.plugin.ratings.costs import is_finite_number, single
from openrlhf_rad.plugin.ratings.patience import Patience
from openrlhf_rad.plugin.ratings.python_file import function_of
from openrlhf_rad.plugin.ratings.server import RatingServer

#: Where a failure travels in an answer's logs: OpenRLHF's executor logs an exception and forgets it.
FAILURE = "rad_reward_failure"
#: Requests under way at a time, of one rollout worker.
_AT_A_TIME = 256


class Executor(SingleTurnAgentExecutor):  # type: ignore[misc]
    """OpenRLHF's executor, with a reward file loaded as a cost file is.

    Raises:
        RewardError: the file does not load, or has no ``reward_func``.
    """

    def __init__(self, remote_rm_url: Any = None) -> None:
        named = [remote_rm_url] if isinstance(remote_rm_url, str) else remote_rm_url or []
        file = named[0] if named and named[0].endswith(".py") else None
        super().__init__(None if file else remote_rm_url)
        if file:
            self.reward_endpoints = named
            self.reward_func = function_of(file, "reward_func", "reward function", RewardError)


class RemoteRewards:
    """Takes the place of the executor's call of its servers, which may hang or hammer a server.

    Args:
        executor: OpenRLHF's, with ``reward_endpoints`` that are addresses.
    """

    def __init__(self, executor: Any, patience: Patience) -> None:
        self._servers = cycle([RatingServer(url, patience) for url in executor.reward_endpoints])
        self._threads = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="reward")
        executor._fetch_rewards_via_http = self.fetch

    async def fetch(self, queries: list[str], prompts: list[str], labels: list[Any]) -> list[Any]:
        """What the next server says, in a list of one; a failure under :data:`FAILURE` of its logs."""
        server, payload = next(self._servers), {"query": queries, "prompts": prompts, "labels": labels}

        where = f"reward server {server.shown} failed for the prompt {prompts[0][:200]!r}"

        def failed(what: str) -> RewardError:
            return RewardError(
                f"{where}: {what}; the run stops rather than train without rewards; mend the server, then go"
                " on from the last checkpoint"
            )

        call = asyncio.get_running_loop().run_in_executor(self._threads, server.ask, payload, failed)
        try:
            found = await call
            if isinstance(found, dict) and found.get("rewards", 0) is None:
                raise failed("it gave null for 'rewards'; it must give one number, or a list of one")
            if not isinstance(found, dict) or "rewards" not in found:
                raise failed(f"it gave no 'rewards': {str(found)[:200]}")
        except RewardError as failure:
            found = {"rewards": None, "extra_logs": {FAILURE: failure}}
        return [found]


def settle_reward(response: dict[str, Any], source: str) -> None:
    """Make reward, score and logs of an answer plain numbers; servers give lists of one as well.

    Raises:
        RewardError: a reward that is not one finite number.
    """
    for key in ("reward", "scores"):
        value = single(response[key])
        if not is_finite_number(value):
            raise RewardError(
                f"{source} gave the reward {value!r} for the prompt {response['prompt'][:200]!r};"
                " a reward must be one finite number; the run stops rather than train on it"
            )
        response[key] = float(value)
    response["extra_logs"] = {name: single(value) for name, value in response["extra_logs"].items()}

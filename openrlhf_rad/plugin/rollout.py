"""The rollout worker: an answer comes with one finite reward, or the run stops with the cause."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import ray
from openrlhf.trainer.ray import vllm_engine
from openrlhf.utils.agent import SingleTurnAgentExecutor
from vllm.v1.engine.exceptions import EngineDeadError

from openrlhf_rad.errors import RewardError, RunError
from openrlhf_rad.plugin import patches
from openrlhf_rad.plugin.arguments import Patience
from openrlhf_rad.plugin.attach import plain_class
from openrlhf_rad.plugin.costs.python_file import function_of
from openrlhf_rad.plugin.costs.server import RatingServer
from openrlhf_rad.plugin.costs.sources import is_finite_number, single
from openrlhf_rad.plugin.costs.texts import TEXTS, said
from openrlhf_rad.plugin.resume import seed_of
from openrlhf_rad.plugin.vigil import telling
from openrlhf_rad.processes import end_with_parent
from openrlhf_rad.secrets import redact_text

#: Where a failure travels in an answer's logs: OpenRLHF's executor logs an exception and forgets it.
FAILURE = "rad_reward_failure"
#: Requests under way at a time, of one rollout worker.
_REQUESTS = 256


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
        self._threads = ThreadPoolExecutor(_REQUESTS, thread_name_prefix="reward")
        executor._fetch_rewards_via_http = self.fetch

    async def fetch(self, queries: list[str], prompts: list[str], labels: list[Any]) -> list[Any]:
        """What the next server says, in a list of one; a failure under :data:`FAILURE` of its logs."""
        server, payload = next(self._servers), {"query": queries, "prompts": prompts, "labels": labels}

        where = f"reward server {server.shown} failed for the prompt {prompts[0][:200]!r}"

        def failed(what: str) -> RewardError:
            return RewardError(
                f"{where}: {what}; the run stops rather than train without rewards; mend the server,"
                " then resume from the last checkpoint"
            )

        call = asyncio.get_running_loop().run_in_executor(self._threads, server.ask, payload, failed)
        try:
            answer = await call
            if isinstance(answer, dict) and answer.get("rewards", 0) is None:
                raise failed("it gave null for 'rewards'; it must give one number, or a list of one")
            if not isinstance(answer, dict) or "rewards" not in answer:
                raise failed(f"it gave no 'rewards': {str(answer)[:200]}")
        except RewardError as failure:
            answer = {"rewards": None, "extra_logs": {FAILURE: failure}}
        return [answer]


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


#: Key of an engine's response that holds the place of its prompt.
PLACE = "place"


@dataclass(frozen=True)
class Ticket:
    """What goes along with a prompt.

    Attributes:
        place: of the prompt in its batch.
        turn: of the prompt among those of its engine; None: it waits for no other.
        seed: for the answers to it; None leaves the draw to the engine.
    """

    place: int
    seed: int | None
    turn: int | None = 0


#: How long a batch may take to come into an engine in order; some of it may have failed on the way.
_ADMITTING_SECONDS = 20.0
#: Ray runs a thousand calls of an actor at a time, so that a larger batch must begin before it is complete.
AT_A_TIME = 900
_LOOK_SECONDS = 2.0
_LOG_BYTES = 200_000
#: How vLLM says that an engine ends, after what it puts before every line of the traceback that follows.
_FATAL = re.compile(r"^(.*\]) EngineCore (?:failed to start|encountered a fatal error)\.", re.MULTILINE)


@dataclass(frozen=True)
class SharedTokenizer:
    """A tokenizer in Ray's object store, sent in place of the tokenizer itself.

    OpenRLHF sends its tokenizer along with every prompt; for a vocabulary of 49,000 pickling and unpickling
    it takes longer than a short answer. A worker takes this one out of the store once.
    """

    reference: ray.ObjectRef

    @classmethod
    def share(cls, tokenizer: Any) -> SharedTokenizer:
        """Put ``tokenizer`` into the store."""
        return cls(ray.put(tokenizer))


def engine_error() -> str | None:
    """What vLLM's own process has ended by, which it tells nobody: it prints into this worker's log."""
    for stream in (1, 2):
        with suppress(OSError), open(f"/proc/self/fd/{stream}", "rb") as log:
            log.seek(max(os.fstat(log.fileno()).st_size - _LOG_BYTES, 0))
            if cause := last_fatal(log.read().decode(errors="replace")):
                return cause
    return None


def last_fatal(log: str) -> str | None:
    """The exception under the last of vLLM's messages that an engine has failed; None where there is none."""
    said = list(_FATAL.finditer(log))
    if not said:
        return None
    begin = said[-1][1]  # the same before each line of the traceback, and before no other
    lines = [
        line.removeprefix(begin).removeprefix(" ")
        for line in log[said[-1].end() :].splitlines()
        if line.startswith(begin)
    ]
    starts = [at for at, line in enumerate(lines) if line.startswith("Traceback ")]
    ends = [at for at in range(starts[-1] + 1, len(lines)) if not lines[at].startswith(" ")] if starts else []
    return "\n".join(lines[ends[0] :]).strip() or None if ends else None


#: In the logs of an answer: how many weight syncs the engine had seen when it began the answer.
WEIGHT_SYNCS = "rad_weight_syncs"


@telling
class FailClosedRollout(plain_class(vllm_engine, "RolloutRayActor")):  # type: ignore[misc]
    """OpenRLHF's vLLM worker; each answer comes back with a reward, or the run stops with the cause."""

    _weight_syncs = 0

    async def __init__(self, patience: Patience, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]
        patches.apply(patches.rollout_worker())
        try:
            await super().__init__(*args, **kwargs)
        except RewardError:
            raise
        except Exception as error:
            raise RunError(f"a vLLM engine did not start: {engine_error() or error}") from error
        self._watch_rewards(patience)
        self._turns: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        # vLLM's engine is a process that would outlive this one, and leave the trainer waiting for it.
        await self.llm.collective_rpc(end_with_parent)

    async def stay_alive(self) -> None:
        """Return never; raise where vLLM's engine has died, which nobody else may ask."""
        while not self.llm.errored:
            await asyncio.sleep(_LOOK_SECONDS)
        raise self.llm.dead_error

    def explained(self, error: Exception) -> Exception:
        """Why the engine has died, where ``error`` says that it has."""
        cause = engine_error() if isinstance(error, EngineDeadError) else None
        return RunError(f"a vLLM engine failed: {cause}") if cause else error

    async def generate_responses(self, *args: Any, ticket: Ticket | None = None, **kwargs: Any) -> Any:
        """Generate and score; each answer has a reward, or the cause of its lack is raised."""
        hf_tokenizer = await self._tokenizer(kwargs.pop("hf_tokenizer"))
        kwargs["hf_tokenizer"], syncs = hf_tokenizer, self._weight_syncs
        if ticket is None or ticket.seed is None:
            responses = await super().generate_responses(*args, **kwargs)
        else:
            responses = await self._seeded(ticket.seed, ticket.turn, *args, **kwargs)
        for response in responses:
            response[PLACE] = 0 if ticket is None else ticket.place
            response["extra_logs"] = {**(response.get("extra_logs") or {}), WEIGHT_SYNCS: syncs}
            response[TEXTS] = said(
                response["observation_tokens"][: kwargs.get("max_length")],
                response["action_ranges"],
                hf_tokenizer,
                agent=not isinstance(self.executor, SingleTurnAgentExecutor),
            )
        for response in responses if self._reward_source else ():
            failure = response["extra_logs"].pop(FAILURE, None)
            if failure is not None:
                raise failure
            if response["reward"] is None:
                await self._score_again(response, hf_tokenizer)
            settle_reward(response, self._reward_source)
        return responses

    def _watch_rewards(self, patience: Patience) -> None:
        """Know the executor's source of rewards; an agent has none, and the reward model is not here."""
        endpoints = getattr(self.executor, "reward_endpoints", None) or [""]
        self._reward_source = redact_text(endpoints[0])
        if self._reward_source and not self.executor.reward_func:
            RemoteRewards(self.executor, patience)

    async def generate(self, prompt_token_ids: Any, sampling_params: Any, *args: Any, **kwargs: Any) -> Any:
        """As OpenRLHF's; each turn of a conversation draws anew, from the answer's seed and what was said."""
        if sampling_params.seed is not None:
            sampling_params = sampling_params.clone()
            sampling_params.seed = seed_of(sampling_params.seed, len(prompt_token_ids))
        return await super().generate(prompt_token_ids, sampling_params, *args, **kwargs)

    async def admit(self, requests: int) -> None:
        """Take the requests of a batch into the paused engine, in their order, then let it go on."""
        turns = self._turns
        deadline = time.monotonic() + _ADMITTING_SECONDS
        for number in range(min(requests, AT_A_TIME)):
            turns[number].set()
            # One that failed before it came to the engine never shows; the others must not wait for it.
            while self.get_num_unfinished_requests() <= number and time.monotonic() < deadline:
                await asyncio.sleep(0)
        await self.resume_generation()
        for number in range(requests):
            turns[number].set()
        self._turns = defaultdict(asyncio.Event)

    async def _seeded(
        self,
        seed: int,
        turn: int | None,
        *args: Any,
        sampling_params: Any,
        num_samples: int = 1,
        **kwargs: Any,
    ) -> list[Any]:
        """The answers to a prompt, each drawn from a seed of its own and admitted in its turn."""
        generate = super().generate_responses

        async def answer(number: int) -> list[Any]:
            own = sampling_params.clone()
            own.seed = seed_of(seed, number)
            if turn is not None:
                await self._turns[turn * num_samples + number].wait()
            found: list[Any] = await generate(*args, sampling_params=own, num_samples=1, **kwargs)
            return found

        answers = await asyncio.gather(*(answer(number) for number in range(num_samples)))
        return [response for found in answers for response in found]

    async def update_weight(self, name: str, dtype: Any, shape: Any, empty_cache: bool = False) -> Any:
        """Receive one weight by broadcast; ``empty_cache`` marks the last one of a sync."""
        result = await super().update_weight(name, dtype, shape, empty_cache)
        self._weight_syncs += empty_cache
        return result

    async def update_weight_cuda_ipc(
        self, name: str, dtype: Any, shape: Any, ipc_handles: Any, empty_cache: bool = False
    ) -> Any:
        """Receive one weight of a model on the same GPU."""
        result = await super().update_weight_cuda_ipc(name, dtype, shape, ipc_handles, empty_cache)
        self._weight_syncs += empty_cache
        return result

    async def _tokenizer(self, given: Any) -> Any:
        if not isinstance(given, SharedTokenizer):
            return given
        if getattr(self, "_shared_tokenizer", None) is None:
            self._shared_tokenizer = await given.reference
        return self._shared_tokenizer

    async def _score_again(self, response: dict[str, Any], hf_tokenizer: Any) -> None:
        """Call the reward function once more, with its exception let through."""
        source = self._reward_source
        query = hf_tokenizer.decode(response["observation_tokens"], skip_special_tokens=False)
        where = f"for the prompt {response['prompt'][:200]!r}"
        fetch = self.executor._fetch_rewards_via_func
        try:
            rating = (await fetch([query], [response["prompt"]], [response["label"]]))[0]
        except Exception as cause:
            text = redact_text(f"{source} failed {where}: {type(cause).__name__}: {cause}")
            raise RewardError(text) from cause
        if not isinstance(rating, dict) or rating.get("rewards") is None:
            text = f"{source} gave no reward {where}: {rating!r}; return {{'rewards': tensor}}"
            raise RewardError(redact_text(text))
        response.update(
            reward=rating["rewards"],
            scores=rating["rewards"] if rating.get("scores") is None else rating["scores"],
            extra_logs={**response["extra_logs"], **(rating.get("extra_logs") or {})},
        )

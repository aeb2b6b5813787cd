"""What ``rad judge`` does: check, estimate, ask, conclude, show."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, RadError
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.judging.asking import Bounds, ReplyReader, Session, Verdicts, ask
from openrlhf_rad.judging.calls import (
    AnswerSource,
    CallEstimate,
    Judge,
    estimate,
    find,
    load_judging_prompt,
    pair,
)
from openrlhf_rad.judging.endpoint import Cache, Endpoint, check_address, key_of
from openrlhf_rad.judging.results import JudgedModels, clear, conclude, print_result, write
from openrlhf_rad.judging.verdict import FORMS
from openrlhf_rad.progress import bars
from openrlhf_rad.tables import named_columns

from .judge import JudgeOptions
from .terminal import INTERRUPTED, USAGE, say

#: What a table of answers is read for.
_ROLES = ("prompt", "answer", "model")
#: What the method itself sets in a request.
_OURS = ("model", "messages", "n", "stream")


def main(options: JudgeOptions) -> int:
    """The command; returns its exit code."""
    try:
        return _run(options)
    except RadError as error:
        say("error", error)
        return USAGE if isinstance(error, ConfigError) else error.exit_code
    except KeyboardInterrupt:
        print("stopped; the replies so far are kept, run the same command again to resume", file=sys.stderr)
        return INTERRUPTED


def _run(options: JudgeOptions) -> int:
    judge = _judge(options)
    baseline, candidate = (
        find(options.baseline, options.evaluation),
        find(options.candidate, options.evaluation),
    )
    if same := [source for source in baseline if source in candidate]:
        raise ConfigError(
            f"{same[0].path} is named by --baseline and by --candidate; name the answers of two models"
        )
    sides = JudgedModels(*_names(options, baseline, candidate), baseline, candidate)
    matches = pair(baseline, candidate, Columns(named_columns(options.column or [], _ROLES, "answer=text")))
    cache = Cache(options.cache or _default_cache())
    session = Session.prepare(judge, matches, cache)
    cost = _estimate(session, options)
    if options.dry_run:
        print(_rehearsal(session, cost, options.key_env))
        return 0
    key = key_of(options.key_env, judge.base_url) if session.missing else ""
    print(cost.sentence, file=sys.stderr)
    _confirm(cost, options.yes)
    folder = options.out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-judge"
    clear(folder)
    verdicts = _ask(session, cache, key, options)
    result = conclude(session, verdicts, sides, options.max_malformed)
    os.environ.setdefault("MPLBACKEND", "Agg")  # a window that opens by itself would hold the command up
    write(folder, session, verdicts, result)
    print_result(result)
    print(f"results: {folder}", file=sys.stderr)
    return 0 if result.tally is not None else 2


def _ask(session: Session, cache: Cache, key: str, options: JudgeOptions) -> Verdicts:
    def endpoint() -> Endpoint:
        address, variable = session.judge.base_url, options.key_env
        return Endpoint(address, key, variable, timeout=options.timeout, retries=options.retries)

    with _progress(len(session.missing)) as show:
        reader = ReplyReader(session, options.max_malformed, show)
        return ask(session, endpoint, cache, Bounds(options.concurrency, options.deadline), reader)


def _judge(options: JudgeOptions) -> Judge:
    if options.form not in FORMS:
        raise ConfigError(f"--form is {options.form}; it must be {' or '.join(FORMS)}")
    return Judge(
        model=options.model,
        base_url=check_address(options.base_url),
        prompt=load_judging_prompt(options.prompt),
        form=options.form,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        response_format=options.response_format,
        request=_request(options.request or []),
    )


def _request(words: list[str]) -> dict[str, Any]:
    """``--request KEY=JSON``, all of them. Raises ConfigError with every fault."""
    request, problems = {}, []
    for word in words:
        name, equals, value = word.partition("=")
        try:
            request[name] = json.loads(value)
        except json.JSONDecodeError:
            fix = "write for instance seed=1, or reasoning_effort='\"low\"'"
            problems.append(f"--request is {word}; it must be KEY=JSON; {fix}")
            continue
        if not equals or not name or name in _OURS:
            problems.append(f"--request is {word}; {name or 'an empty key'} is not for it; leave it out")
    if problems:
        raise ConfigError("\n".join(problems))
    return request


def _default_cache() -> Path:
    from openrlhf_rad.files import cache_root

    return cache_root() / "judge.sqlite"


def _estimate(session: Session, options: JudgeOptions) -> CallEstimate:
    if (options.price_in is None) != (options.price_out is None):
        raise ConfigError("--price-in and --price-out belong together: one alone is no bound of the cost")
    missing = list(session.missing.values())
    longest = session.judge.request.get("max_completion_tokens") or options.max_tokens
    there = len({call.key for call in session.calls}) - len(missing)
    return estimate(missing, there, int(longest), options.price_in, options.price_out)


def _rehearsal(session: Session, cost: CallEstimate, variable: str) -> str:
    if not session.calls:
        return f"all pairs have equal answers: there is nothing to ask\n\n{cost.sentence}"
    call = session.calls[0]
    body = json.dumps(
        session.judge.body(call.match, candidate_first=call.candidate_first), indent=1, ensure_ascii=False
    )
    address = f"POST {session.judge.base_url}/chat/completions\nAuthorization: Bearer ${variable}"
    return f"{address}\n\n{body}\n\n{cost.sentence}"


def _confirm(cost: CallEstimate, yes: bool) -> None:
    if yes or cost.calls == 0:
        return
    if not sys.stdin.isatty():
        raise ConfigError("the calls need a yes, and nobody is there to give it; add --yes")
    import typer

    if not typer.confirm("Make these calls?", err=True):
        raise ConfigError("nothing was asked")


def _names(
    options: JudgeOptions, baseline: list[AnswerSource], candidate: list[AnswerSource]
) -> tuple[str, str]:
    if options.names is not None:
        names = [name.strip() for name in options.names.split(",")]
        if len(names) != 2 or not all(names):
            raise ConfigError(f"--names is {options.names}; it must be two names, as BASELINE,CANDIDATE")
        return names[0], names[1]
    named = [_name(sources) for sources in (baseline, candidate)]
    return (named[0], named[1]) if named[0] != named[1] and all(named) else ("baseline", "candidate")


def _name(sources: list[AnswerSource]) -> str:
    """What the names of a model, or of its files, have in common."""
    stems = [source.model or source.path.name.partition(".")[0] for source in sources]
    return stems[0] if len(stems) == 1 else os.path.commonprefix(stems).rstrip("-_")  # noqa: RUF071 - of names


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, int], None]]:
    """Shows how many of the calls are answered."""
    with bars() as bar:
        task = bar.add_task("asking", total=total, visible=total > 0)

        def show(done: int, malformed: int) -> None:
            words = f"asking {done}/{total}" + (f" ({malformed} malformed)" if malformed else "")
            bar.update(task, completed=done, description=words)

        yield show

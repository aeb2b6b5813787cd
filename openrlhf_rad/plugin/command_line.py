"""OpenRLHF's own parser and its own checks, run from the installed source without importing the stack.

OpenRLHF keeps both under ``if __name__ == "__main__"`` of a module whose imports take half a minute. The
statements of that block are run here one by one: those before ``parse_args`` make the parser, those after
``hierarchize`` settle the arguments and check them. What ``train()`` asserts once Ray is up is asked too.
Beside it: what flags were called before 0.10.2, and values that the parser takes and the training stumbles
over, minutes later or never.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import io
import math
import operator
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.words import version_of

MODULE = "openrlhf.cli.train_ppo_ray"
#: Estimators that have another name here.
_MEANT = {"grpo": "group_norm", "reinforce++": "reinforce_baseline", "ppo": "gae"}
_RULES: Mapping[Any, str] = {int: "a whole number", float: "a number"}
#: What is known of OpenRLHF: the contract and its flags.
KNOWN: dict[str, Any] = tomllib.loads(Path(__file__).with_name("openrlhf.toml").read_text(encoding="utf-8"))


def package_folder(package: str) -> Path | None:
    """Where a package is installed, without importing it; None where it is not."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


class _Wrong(Exception):
    """What argparse says of a flag."""


class _Parser(argparse.ArgumentParser):
    """OpenRLHF's parser: remembers its flags, and raises where argparse ends the process."""

    def __init__(self) -> None:
        super().__init__(MODULE, add_help=False)
        self.flags: dict[str, argparse.Action] = {}

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        action = super().add_argument(*names, **kwargs)
        self.flags.update(dict.fromkeys((str(name).removeprefix("--") for name in names), action))
        return action

    def error(self, message: str) -> NoReturn:
        raise _Wrong(message)


class Command:
    """OpenRLHF's training command as far as it reads and checks its arguments.

    Attributes:
        flags: the name of each flag, without dashes, and what argparse knows of it.
        said: what OpenRLHF printed about the arguments settled last.

    Raises:
        ValueError: a source that is not built as that of the tested version.
    """

    def __init__(self, folder: Path) -> None:
        module = ast.parse((folder / "cli" / "train_ppo_ray.py").read_text(encoding="utf-8"))
        main = next(node.body for node in module.body if isinstance(node, ast.If))
        train = next(n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "train")
        parsed, hierarchized = (_place(main, text) for text in ("parser.parse_args()", "hierarchize(args)"))
        names: dict[str, Any] = {"argparse": SimpleNamespace(ArgumentParser=_Parser), "os": os}
        names["datetime"] = datetime
        _run(main[:parsed], names)
        self._parser: _Parser = names["parser"]
        self._settling = [node for node in main[hierarchized + 1 :] if not _beyond(node)]
        self._asserting = list(_assertions(train.body))
        self._hierarchize = {"__name__": "openrlhf.utils.config"}
        exec((folder / "utils" / "config.py").read_text(encoding="utf-8"), self._hierarchize)
        self.flags = self._parser.flags
        self.said: list[str] = []

    def read(self, words: Sequence[str]) -> Any:
        """The arguments as OpenRLHF's code has them, before it settles them. Raises ConfigError."""
        try:
            return self._hierarchize["hierarchize"](self._parser.parse_args(list(words)))  # type: ignore[operator]
        except _Wrong as error:
            raise ConfigError(f"{error}; see python -m {MODULE} --help") from None

    def settle(self, args: Any) -> tuple[list[str], list[str]]:
        """Settle arguments in place as OpenRLHF does: what it refuses, and where its code stumbles."""
        refused, stumbles, printed = [], [], io.StringIO()
        names = {"args": args, "os": os}
        for node in [*self._settling, *self._asserting]:
            try:
                with contextlib.redirect_stdout(printed):
                    _run([node], names)
            except AssertionError as error:
                refused.append(f"{error or ast.unparse(node)}; so OpenRLHF says")
            except Exception as error:
                stumbles.append(f"OpenRLHF cannot take these flags: {type(error).__name__}: {error}")
        self.said = printed.getvalue().splitlines()
        return refused, stumbles

    def problem(self, name: str, values: Sequence[str]) -> str | None:
        """What is wrong with one flag: its name, or its values."""
        action = self.flags.get(name)
        if action is None:
            return unknown(name, self.flags)
        try:
            self._parser.parse_args([f"--{name}", *values])
        except _Wrong as error:
            return _wrong(name, values, action, str(error))
        return None


@cache
def installed() -> Command | None:
    """The command of the OpenRLHF that is installed; None where there is none, or one of another build."""
    folder = package_folder("openrlhf")
    try:
        return None if folder is None else Command(folder)
    except (OSError, SyntaxError, StopIteration, KeyError, ValueError):
        return None


def unknown(name: str, flags: Mapping[str, Any]) -> str:
    """That there is no such flag, and which one may be meant."""
    close = difflib.get_close_matches(name, flags, 1, 0.6)
    hint = f"did you mean --{close[0]}?" if close else f"see python -m {MODULE} --help"
    number = version_of("openrlhf")
    return f"--{name} is not a flag of OpenRLHF{f' {number}' if number else ''}; {advice(name) or hint}"


def _wrong(name: str, values: Sequence[str], action: argparse.Action, message: str) -> str:
    """Value, rule and fix for what argparse refuses."""
    given = " ".join(values)
    if action.nargs == 0:
        return f"--{name} is {given}; it takes no value: written, it is on; leave the value out, or the flag"
    rule, count = _RULES.get(action.type, "a text"), action.nargs
    if action.choices:
        rule = f"one of {', '.join(map(str, action.choices))}"
        close = difflib.get_close_matches(given, list(map(str, action.choices)), 1, 0.5)
        hint = f"{given.upper()} is {_MEANT[given]}" if given in _MEANT else ""
        rule += f"; {hint}" if hint else f"; did you mean {close[0]}?" if close else ""
    elif isinstance(count, int):
        rule = f"{count} values, each {rule}"
    what = f"is {given}" if values else "has no value"
    default = "" if action.default is None or action.choices else f"; {_shown(action.default)} is the default"
    if not values or rule != "a text":
        return f"--{name} {what}; it must be {rule}{default}"
    return f"--{name} {what}; {message}; quote a text with spaces"


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def _place(body: Sequence[ast.stmt], text: str) -> int:
    return next(i for i, node in enumerate(body) if ast.unparse(node) == f"args = {text}")


def _beyond(node: ast.stmt) -> bool:
    """Whether a statement starts the training, or imports what only the training needs."""
    return any(
        isinstance(each, ast.Import | ast.ImportFrom)
        or (isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "train")
        for each in ast.walk(node)
    )


def _assertions(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The assertions of a function about ``args``, under the conditions that they stand under."""
    for node in body:
        if isinstance(node, ast.Assert) and _of_arguments(node):
            yield node
        elif isinstance(node, ast.If) and (held := list(_assertions(node.body))) and _of_arguments(node.test):
            yield ast.copy_location(ast.If(node.test, held, []), node)


def _of_arguments(node: ast.AST) -> bool:
    return all(each.id == "args" for each in ast.walk(node) if isinstance(each, ast.Name))


def _run(body: Sequence[ast.stmt], names: dict[str, Any]) -> None:
    module = ast.fix_missing_locations(ast.Module(list(body), []))
    exec(compile(module, MODULE, "exec"), names)


def advice(name: str) -> str | None:
    """What to write in place of an old flag, its name without dashes; None where it is none."""
    return ADVICE.get(name.replace("-", "_"))


#: Flag as it was called, without dashes → what to write in its place.
ADVICE: dict[str, str] = {
    **{
        old: f"write --{section}.{new or old}"
        for section, words in KNOWN["moved"].items()
        for old, _, new in (word.partition("=") for word in words.split())
    },
    **KNOWN["otherwise"],
}

_COUNTS, _EVERY = (KNOWN["values"][kind].split() for kind in ("counts", "every"))
_RANGES: dict[str, dict[str, int]] = KNOWN["values"]["ranges"]
_BOUNDS = {"above": operator.gt, "at least": operator.ge, "at most": operator.le}
#: Flags whose values are looked at here.
LOOKED_AT = frozenset((*_COUNTS, *_EVERY, *_RANGES))


def value_problems(args: Any) -> Iterator[str]:
    """Each value that cannot serve, with its rule and its fix; ``args`` as OpenRLHF's parser gives them."""
    yield from _single(args)
    yield from _batches(args)
    yield from _correction(args)
    low, high = args.reward.clip_range
    if not low < high:
        yield (
            f"--reward.clip_range is {low:g} {high:g}; the first must be below the second; leave it out,"
            " or write for instance --reward.clip_range -1000 1000"
        )
    tokens, room = args.rollout.max_new_tokens, args.data.max_len
    if tokens is not None and tokens >= room:
        yield (
            f"--rollout.max_new_tokens is {tokens} and --data.max_len, of prompt and answer together, {room},"
            " so that no prompt has room; raise --data.max_len"
        )


def _single(args: Any) -> Iterator[str]:
    for name in _COUNTS:
        value = attrgetter(name)(args)
        if value is not None and value < 1:
            yield f"--{name} is {value}; it must be a whole number of at least 1; write 1 or more"
    for name in _EVERY:
        value = attrgetter(name)(args)
        if value == 0 or value < -1:
            yield f"--{name} is {value}; it must be at least 1, or -1 for never; leave it out for never"
    for name, bounds in _RANGES.items():
        value = attrgetter(name)(args)
        if value is None or (
            all(_BOUNDS[word](value, bound) for word, bound in bounds.items()) and value < math.inf
        ):
            continue
        rule = ", ".join(f"{word} {bound}" for word, bound in bounds.items())
        yield f"--{name} is {value:g}; it must be a number {rule}; correct it, or leave it out"


def _batches(args: Any) -> Iterator[str]:
    """DeepSpeed deals a batch out to its processes in micro-batches, and asserts that it comes out even."""
    if args.train.dynamic_batch_enable:
        return
    for model in ("actor", *(["critic"] if args.algo.advantage.estimator == "gae" else [])):
        held = getattr(args, model)
        each = max(1, args.ds.ring_attn_size) * max(1, args.ds.tensor_parallel_size)
        processes = max(1, held.num_nodes * held.num_gpus_per_node // each)
        share = processes * max(1, args.train.micro_batch_size)
        if args.train.batch_size % share:
            wanted = -(-args.train.batch_size // share) * share
            yield (
                f"--train.batch_size is {args.train.batch_size}; it must be a multiple of {share}:"
                f" {processes} processes of the {model} times --train.micro_batch_size"
                f" {args.train.micro_batch_size}; use --train.batch_size {wanted}, or fewer processes"
            )


def _correction(args: Any) -> Iterator[str]:
    """What OpenRLHF's loss refuses when it is made, on the actors."""
    correction = args.algo.advantage
    if correction.is_correction_level == "off":
        return
    single = correction.is_correction_level == "token" and correction.is_correction_gating == "ratio"
    if correction.is_correction_mode == "clip" and not single:
        yield (
            "--algo.advantage.is_correction_mode clip clamps the ratio of single tokens; it needs"
            " --algo.advantage.is_correction_level token and --algo.advantage.is_correction_gating ratio; or"
            " use --algo.advantage.is_correction_mode mask"
        )
    threshold = correction.is_correction_threshold
    if correction.is_correction_gating != "ratio" and len(threshold) > 1 and threshold[0] > 0:
        yield (
            f"--algo.advantage.is_correction_gating {correction.is_correction_gating} is bounded from above"
            " alone; give --algo.advantage.is_correction_threshold one value, for instance 5e-3"
        )

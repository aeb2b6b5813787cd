"""Runs OpenRLHF's own training command with the hooks in place."""

from __future__ import annotations

import runpy
import shlex
import signal
import sys
from typing import Any

from openrlhf_rad.errors import RadError
from openrlhf_rad.plugin import compatibility, cpu
from openrlhf_rad.plugin.arguments import RadOptions, parse
from openrlhf_rad.runs.folder import RunFolder

COMMAND = "openrlhf.cli.train_ppo_ray"
#: What stopped the run, in the run's folder.
ERROR = "error.txt"


def main(argv: list[str]) -> int:
    """``python -m openrlhf_rad [--rad.* …] [any flag of OpenRLHF's command]``; returns the exit code."""
    folder: RunFolder | None = None
    try:
        options, rest = parse(argv)
        if options is not None:
            folder = _open_folder(options, argv)
        run(options, rest)
    except BaseException as error:
        cause = rad_error(error)
        if cause is None:
            raise
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)
        if folder is not None and folder.path.is_dir():
            (folder.path / ERROR).write_text(f"{cause}\n", encoding="utf-8")
        return cause.exit_code
    return 0


def _open_folder(options: RadOptions, argv: list[str]) -> RunFolder:
    folder = RunFolder.create(options.out, exist_ok=True)
    (options.out / ERROR).unlink(missing_ok=True)
    folder.write_profile(options.profile)
    folder.write_command(shlex.join(["python", "-m", "openrlhf_rad", *argv]))
    return folder


def run(options: RadOptions | None, arguments: list[str]) -> None:
    """Adapt this process and OpenRLHF's modules, then run OpenRLHF's command on ``arguments``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop is a Ctrl-C: Ray ends its children
    if options is not None:
        compatibility.check_versions(options.any_version)
    on_cpu = cpu.is_needed()
    if on_cpu:
        cpu.activate()
    _intercept_arguments(options, on_cpu)
    if options is not None:
        from openrlhf_rad.plugin.attach import attach  # noqa: PLC0415 - imports the whole stack

        attach(options)
    sys.argv = [COMMAND, *arguments]
    try:
        runpy.run_module(COMMAND, run_name="__main__", alter_sys=True)
    finally:
        import ray  # noqa: PLC0415

        ray.shutdown()


def _intercept_arguments(options: RadOptions | None, on_cpu: bool) -> None:
    """Check and adapt the arguments as OpenRLHF's own parser has read them, before anything starts.

    ``hierarchize`` is the one function that OpenRLHF's command calls between parsing and training.
    """
    from openrlhf.utils import config  # noqa: PLC0415

    hierarchize = config.hierarchize

    def check(flat: Any) -> Any:
        args = hierarchize(flat)
        if options is not None:
            compatibility.adapt(args)
            compatibility.check_arguments(args, options)
        if on_cpu:
            from openrlhf_rad.plugin.cpu.cluster import prepare  # noqa: PLC0415

            prepare(args, options)
        return args

    config.hierarchize = check


def rad_error(error: BaseException | None) -> RadError | None:
    """The RadError that ``error`` is or carries; Ray wraps what its actors raise."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        carried = _carried(error)
        if isinstance(error, RadError) and carried is None:
            return error
        error = carried or error.__cause__ or error.__context__
    return None


def _carried(error: BaseException) -> BaseException | None:
    """What an exception of Ray's holds: of a task as ``cause``, of an actor's constructor as its argument."""
    held = (getattr(error, "cause", None), *error.args[:1])
    return next((each for each in held if isinstance(each, BaseException)), None)

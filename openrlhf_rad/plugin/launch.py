"""Runs OpenRLHF's own training command with the hooks in place."""

from __future__ import annotations

import argparse
import runpy
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, RunError
from openrlhf_rad.files import keep_from_others, write_atomically
from openrlhf_rad.plugin import compatibility, cpu, patches, resume, workers
from openrlhf_rad.plugin.arguments import RadOptions, parse
from openrlhf_rad.plugin.vigil import Vigil
from openrlhf_rad.processes import Parent
from openrlhf_rad.processor import has_gpu
from openrlhf_rad.runs.checkpoints import newest
from openrlhf_rad.runs.folder import ERROR, RunFolder
from openrlhf_rad.secrets import conceal, redact, redact_command

COMMAND = "openrlhf.cli.train_ppo_ray"


def main(argv: list[str]) -> int:
    """``python -m openrlhf_rad [--rad.* …] [any flag of OpenRLHF's command]``; returns the exit code."""
    folder: RunFolder | None = None
    saved: argparse.Namespace | None = None
    keep_from_others()
    parent = Parent()
    parent.follow()
    vigil = Vigil()
    vigil.begin()
    try:
        options, rest = parse(argv)
        saved, _ = _saving().parse_known_args(rest)

        def accepted() -> None:
            """Only now: a command that is refused leaves nothing behind, and can be given again."""
            nonlocal folder
            if options is not None:
                folder = _open_folder(options, argv, resumes=saved.load)

        run(options, rest, vigil, accepted)
    except BaseException as error:
        cause = vigil.cause(error)
        if cause is None:
            raise
        if isinstance(cause, RunError):
            traceback.print_exception(error)  # into the log
        text = "\n".join([redact(str(cause)), *([_way_on(saved)] if folder and saved else [])])
        print(f"\n{type(cause).__name__}: {text}", file=sys.stderr)
        if folder is not None and folder.path.is_dir():
            write_atomically(folder.path / ERROR, f"{text}\n")
        return cause.exit_code
    finally:
        vigil.release()
        parent.sweep()
    return 0


def _saving() -> argparse.ArgumentParser:
    """The flags of OpenRLHF that say where checkpoints are, with its defaults."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--ckpt.path", dest="path", default="./ckpt/checkpoints_ppo_ray")
    flags.add_argument("--ckpt.load_enable", dest="load", action="store_true")
    return flags


def _open_folder(options: RadOptions, argv: list[str], *, resumes: bool) -> RunFolder:
    folder = RunFolder.create(options.out, exist_ok=True)
    if folder.read_metrics() and not resumes:
        raise ConfigError(
            f"{options.out} holds a run; name another folder by --rad.out, or resume that run by"
            " --ckpt.load_enable"
        )
    (options.out / ERROR).unlink(missing_ok=True)
    folder.write_profile(options.profile)
    folder.write_command(redact_command(shlex.join(["python", "-m", "openrlhf_rad", *argv])))
    return folder


def _way_on(saved: argparse.Namespace) -> str:
    last = newest(Path(saved.path))
    if last is None:
        return "no checkpoint was finished yet: the same command begins anew"
    command = "the same command" if saved.load else "the same command with --ckpt.load_enable"
    return f"the last whole checkpoint is of {last}: {command} resumes from it"


def run(options: RadOptions | None, arguments: list[str], vigil: Vigil, accepted: Callable[[], None]) -> None:
    """Adapt this process and OpenRLHF's modules, then run OpenRLHF's command on ``arguments``.

    Args:
        vigil: released before Ray is told to end, by whomever.
        accepted: called once all arguments are accepted, before anything starts.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop is a Ctrl-C: Ray ends its children
    if options is not None:
        compatibility.check_versions(options.any_version)
        workers.prepare(options.trust_remote_code)
    on_cpu = not has_gpu()
    if on_cpu:
        cpu.activate()
        cpu.start_fork_server()
    if options is not None:
        read = compatibility.read(arguments, on_cpu=on_cpu)
        options, told = compatibility.settle_loss(read, options)
        if told:
            print(told, file=sys.stderr, flush=True)
    patches.apply(patches.driver(vigil, partial(_settle, options, on_cpu, accepted)))
    if options is not None:
        patches.apply(patches.hooks(options, vigil))
    sys.argv = [COMMAND, *arguments]
    try:
        runpy.run_module(COMMAND, run_name="__main__", alter_sys=True)
    except Exception as error:
        vigil.settle(error)
        raise
    finally:
        end_ray()


def end_ray() -> None:
    """End Ray, however long that takes: after a SIGTERM its own handler has set an alarm of three seconds."""
    import ray  # noqa: PLC0415 - after the workers' hook

    signal.alarm(0)
    ray.shutdown()


def _settle(options: RadOptions | None, on_cpu: bool, accepted: Callable[[], None], args: Any) -> Any:
    """Check and adapt the arguments as OpenRLHF's own parser has read them, before anything starts."""
    from openrlhf_rad.plugin.cpu import backend  # noqa: PLC0415

    if on_cpu:
        backend.fit(args)  # the checks ask how many processes a model has
    if options is not None:
        conceal(args)
        compatibility.adapt(args)
        compatibility.check_arguments(args, options)
        accepted()
        if checkpoint := resume.prepare(args, options):
            print(f"resuming from {checkpoint}{resume.other_format(checkpoint)}", file=sys.stderr, flush=True)
    if on_cpu:
        backend.start(args, options)
    return args

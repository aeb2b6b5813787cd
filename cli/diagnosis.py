"""What ``rad doctor`` finds: the stack's versions and contract, the machine. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from openrlhf_rad import processor
from openrlhf_rad.errors import RadError
from openrlhf_rad.jobs.presets import PRESETS
from openrlhf_rad.plugin import contract
from openrlhf_rad.plugin.command_line import package_folder
from openrlhf_rad.plugin.compatibility import BESIDE, TESTED, installed, told
from openrlhf_rad.processor import has_gpu, instructions

from .machine import duration, existing, seconds

Status = Literal["ok", "warn", "stop"]
MARKS: dict[Status, str] = {"ok": "✓", "warn": "!", "stop": "✗"}

_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``stop``: a run would not start, or would fail."""

    what: str
    status: Status
    found: str
    fix: str = ""


def diagnose() -> list[Finding]:
    """Everything, in the order of the report."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _versions,
        _contract,
        _processor,
        _number_format,
        _memory,
        _compiler,
        _disk,
        _network,
        _limits,
    )
    return [finding for check in checks for finding in check()]


def as_document(findings: list[Finding]) -> dict[str, Any]:
    """The report as plain data: ``ready``, ``summary``, ``findings``."""
    counts = {status: sum(finding.status == status for finding in findings) for status in MARKS}
    ready = counts["stop"] == 0
    summary = f"{counts['ok']} fine, {counts['warn']} to know, {counts['stop']} that would stop a run"
    return {"ready": ready, "summary": summary, "findings": [asdict(finding) for finding in findings]}


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    tested = sys.version_info[:2] == (3, 11)
    fix = "" if tested else "the pinned stack is tested with 3.11"
    yield Finding("python", "ok" if tested else "warn", version, fix)


def _versions() -> Iterator[Finding]:
    stack = [*TESTED, *BESIDE]
    if not any(map(installed, stack)):
        yield Finding("light install", "ok", "profiles, calibration, gates and reports need no more")
        fix = 'pip install "openrlhf-rad[gpu]", or make install on a CPU'
        missing = f"{', '.join(stack)} are not installed; training and rad eval with models need them"
        yield Finding("training", "stop", missing, fix)
        return
    pip = 'pip install "openrlhf-rad[gpu]", or make install on a CPU; profiles and reports need neither'
    for package in stack:
        version, tested = installed(package), TESTED.get(package) or (BESIDE[package],)
        if version is None:
            fix = pip if package in TESTED else f"pip install {package}=={tested[0]}"
            yield Finding(package, "stop", "not installed", fix)
        elif version.split("+")[0] in tested:
            yield Finding(package, "ok", f"{version}, tested")
        else:
            fix = f"install {package}=={tested[0]}"
            fix += ", or take the risk with --rad.any_version" if package in TESTED else ""
            status: Status = "stop" if package in TESTED else "warn"
            yield Finding(package, status, f"{version}, not tested; {told(tested)}", fix)


def _contract() -> Iterator[Finding]:
    for package in contract.PACKAGES:
        folder = package_folder(package)
        if folder is None:
            continue
        what = f"{package} contract"
        problems = contract.broken(package, folder)
        if not problems:
            yield Finding(
                what, "ok", f"all {contract.size(package)} signatures, texts and flags are as known"
            )
        fix = f"install {package}=={TESTED[package][0] if package in TESTED else BESIDE[package]}"
        for problem in problems:
            yield Finding(what, "stop", problem, fix)


def _processor() -> Iterator[Finding]:
    if has_gpu():
        driver = Path("/proc/driver/nvidia/version")
        what = driver.read_text().splitlines()[0] if driver.is_file() else "present"
        yield Finding("GPU", "ok", what)
        return
    yield Finding("GPU", "ok", "none; runs use the CPU backend")
    flags = instructions()
    wanted = processor.INSTRUCTIONS
    named = ", ".join(flag for flag in wanted if flag in flags) or "none of " + ", ".join(wanted)
    what = f"{os.cpu_count()} cores, {named}"
    if platform.machine() in {"x86_64", "AMD64"} and "avx2" not in flags:
        yield Finding("CPU", "stop", what, "vLLM's CPU build needs AVX2; use another machine")
    else:
        yield Finding("CPU", "ok", what)


def _number_format() -> Iterator[Finding]:
    """The format, the measurement behind it, and how long the presets take by it."""
    if has_gpu() or installed("torch") is None:
        return
    try:
        chosen, speed = processor.number_format(), processor.measurement()
    except RadError as error:
        yield Finding("number format", "stop", processor.setting_text(), str(error))
        return
    slow = getattr(speed, chosen) < max(speed.bfloat16, speed.float32)
    fix = f"unset {processor.VARIABLE}; the other format is faster here" if slow else ""
    yield Finding("number format", "warn" if slow else "ok", f"{chosen}: {speed.speed}", fix)
    for name, preset in PRESETS.items():
        parts = seconds(preset, chosen, speed, with_assets=True)
        told = ", ".join(f"{part} {duration(one)}" for part, one in parts.items())
        yield Finding(f"preset {name}", "ok", f"about {duration(sum(parts.values()))}: {told}")


def _memory() -> Iterator[Finding]:
    free = psutil.virtual_memory().available / _GB
    yield _least("memory", free, (2, 8), "available", "end other programs, or take a smaller model")
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free / _GB
        fix = "Ray's object store (2 GiB) then lies on a disk and is slow; docker run --shm-size=4g"
        yield Finding(
            "/dev/shm", "ok" if free >= 2.2 else "warn", f"{free:,.1f} GB free", "" if free >= 2.2 else fix
        )


def _compiler() -> Iterator[Finding]:
    path = shutil.which("g++")
    if path:
        yield Finding("g++", "ok", path)
    else:
        fix = "DeepSpeed compiles its CPU Adam (--ds.adam_offload) with it; apt install g++"
        yield (
            Finding("g++", "warn", "not on the PATH", fix)
            if has_gpu()
            else Finding("g++", "ok", "not on the PATH; nothing is compiled on a CPU")
        )


def _disk() -> Iterator[Finding]:
    seen = set()
    for what, named in (("disk, here", Path.cwd()), ("disk, temporary", Path(tempfile.gettempdir()))):
        folder = existing(named)
        device = folder.stat().st_dev
        if device not in seen:
            seen.add(device)
            fix = "free some space, or choose another disk by --out, OPENRLHF_RAD_CACHE and TMPDIR"
            yield _least(what, shutil.disk_usage(folder).free / _GB, (1, 10), f"free in {folder}", fix)


def _least(what: str, amount: float, bounds: tuple[float, float], words: str, fix: str) -> Finding:
    """A finding on an amount in GB: what a run needs at least, and what it is at ease with."""
    needed, better = bounds
    status: Status = "stop" if amount < needed else "warn" if amount < better else "ok"
    return Finding(what, status, f"{amount:,.1f} GB {words}", "" if status == "ok" else fix)


def _network() -> Iterator[Finding]:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
        yield Finding("ports", "ok", "the loopback gives free ports")
    except OSError as error:
        fix = "Ray and the weight sync need ports of 127.0.0.1; check the sandbox, and ulimit -n"
        yield Finding("ports", "stop", f"no port of 127.0.0.1 can be bound ({error.strerror})", fix)
    address = os.environ.get("RAY_ADDRESS")
    running = sorted(
        process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "raylet"
    )
    if address:
        fix = "the run joins that Ray; unset RAY_ADDRESS to let it start its own"
        yield Finding("Ray running", "warn", f"RAY_ADDRESS is {address}", fix)
    elif running:
        pids = ", ".join(map(str, running))
        yield Finding(
            "Ray running",
            "warn",
            f"raylet {pids}",
            "it shares cores and memory; where it is a leftover, ray stop ends every Ray of yours",
        )
    else:
        yield Finding("Ray running", "ok", "none")


def _limits() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft >= 4096 or soft == resource.RLIM_INFINITY
    fix = "" if enough else f"Ray asks for 65,536; ulimit -n {min(hard, 65536) if hard > 0 else 65536}"
    yield Finding("open files", "ok" if enough else "warn", f"at most {soft:,}", fix)
    mask = os.umask(0)
    os.umask(mask)
    open_to_all = not mask & 0o002
    fix = "everybody could change a run's files; umask 022, or 077 to keep others from reading" * open_to_all
    yield Finding("umask", "warn" if open_to_all else "ok", f"{mask:03o}", fix)

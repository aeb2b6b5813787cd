"""rad doctor: on this machine, on one without the stack, and on ones that lack something."""

import json
import os
import subprocess
import sys
from collections import namedtuple

import psutil
import pytest
from openrlhf_rad.cli import diagnosis
from openrlhf_rad.cli.rad import app
from typer.testing import CliRunner

from openrlhf_rad.processor import Processor

HEAVY = ("torch", "openrlhf", "vllm", "ray", "deepspeed", "transformers")


def doctor(*words):
    return CliRunner().invoke(app, ["doctor", *words])


def found(what):
    (finding,) = [finding for finding in diagnosis.diagnose() if finding.what == what]
    return finding.status, finding.found, finding.fix


def test_the_report_as_json_says_the_same_and_sets_the_exit_code():
    result = doctor("--json")
    document = json.loads(result.stdout)
    stops = [finding for finding in document["findings"] if finding["status"] == "stop"]
    assert document["ready"] == (not stops) == (result.exit_code == 0)
    assert {"python", "openrlhf", "vllm", "ray", "GPU", "memory", "g++", "ports"} <= {
        finding["what"] for finding in document["findings"]
    }
    assert all(finding["fix"] for finding in document["findings"] if finding["status"] != "ok")
    text = doctor()
    assert text.exit_code == result.exit_code
    assert text.stdout.rstrip().endswith("that would stop a run")


def test_it_imports_nothing_heavy_and_works_without_the_stack(tmp_path):
    """A process in which none of the stack can be imported, nor found among the distributions."""
    script = f"""
import sys, importlib.metadata as metadata
HEAVY = {HEAVY!r}
from importlib.machinery import PathFinder
class Hide:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.split(".")[0] in HEAVY else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Hide if finder is PathFinder else finder for finder in sys.meta_path]
real = metadata.version
def version(name):
    if name.split("-")[0] in HEAVY:
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
from openrlhf_rad.cli.rad import app
app(["doctor"])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    (cross,) = [line for line in result.stdout.splitlines() if line.startswith("✗")]
    assert cross.split(maxsplit=2)[1:] == [
        "training",
        "openrlhf, vllm, ray, deepspeed, transformers, torch are not installed; training and rad eval with"
        " models need them",
    ]
    assert "profiles, calibration, gates and reports need no more" in result.stdout
    assert 'pip install "openrlhf-rad[gpu]"' in result.stdout


def test_versions_that_were_not_tested_are_named(monkeypatch):
    versions = {
        "openrlhf": "0.11.0",
        "vllm": "0.30.0",
        "ray": "2.60.0",
        "deepspeed": "0.19.6+cpu",
        "transformers": "5.15.0",
    }
    monkeypatch.setattr(diagnosis, "installed", versions.get)
    fix = "install {}=={}, or take the risk with --rad.any_version"
    assert found("openrlhf") == (
        "stop",
        "0.11.0, not tested; 0.11.2 and 0.11.1 were",
        fix.format("openrlhf", "0.11.2"),
    )
    assert found("vllm") == ("stop", "0.30.0, not tested; 0.29.0 was", fix.format("vllm", "0.29.0"))
    assert found("ray") == ("warn", "2.60.0, not tested; 2.55.0 was", "install ray==2.55.0")
    assert found("deepspeed") == ("ok", "0.19.6+cpu, tested", "")


def test_a_machine_that_lacks_something_is_told_what_to_do(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "cpu")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(diagnosis, "instructions", lambda: {"sse2"})
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda path: usage(10**12, 10**12, 5 * 10**8))
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(3 * 10**9))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert found("g++") == ("ok", "not on the PATH; nothing is compiled on a CPU", "")
    assert found("disk, here")[:2] == ("stop", f"0.5 GB free in {os.getcwd()}")
    assert found("memory") == ("warn", "3.0 GB available", "end other programs, or take a smaller model")
    assert found("/dev/shm")[0] == "warn"
    assert found("Ray running")[:2] == ("warn", "RAY_ADDRESS is 10.0.0.1:6379")
    status, words, fix = found("CPU")
    assert (status, fix) == ("stop", "vLLM's CPU build needs AVX2; use another machine")
    assert words.endswith("none of avx2, avx512f, avx512_bf16, amx_bf16")
    assert doctor().exit_code == 1


def test_the_number_format_is_told_with_what_was_measured(monkeypatch):
    speed = Processor("a laptop", ("avx2",), 2, "2.13.0", 50.0, 100.0)
    monkeypatch.setattr("openrlhf_rad.processor.measurement", lambda: speed)
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "cpu")
    monkeypatch.delenv("OPENRLHF_RAD_DTYPE", raising=False)
    words = "50 GFLOP/s in bfloat16, 100 in float32"
    assert found("number format") == ("ok", f"float32: {words}", "")
    assert found("preset tiny")[1].startswith("about ")
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", "bfloat16")
    fix = "unset OPENRLHF_RAD_DTYPE; the other format is faster here"
    assert found("number format") == ("warn", f"bfloat16: {words}", fix)
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", "fp16")
    status, words, fix = found("number format")
    assert (status, words) == ("stop", "fp16")
    assert fix.startswith("OPENRLHF_RAD_DTYPE is fp16; models on a CPU compute in bfloat16 or float32;")


@pytest.mark.parametrize(("mask", "status"), [(0o000, "warn"), (0o002, "ok"), (0o022, "ok"), (0o077, "ok")])
def test_a_umask_that_lets_everybody_write_is_named(mask, status):
    old = os.umask(mask)
    try:
        assert found("umask")[:2] == (status, f"{mask:03o}")
        assert os.umask(mask) == mask  # and is left as it was
    finally:
        os.umask(old)

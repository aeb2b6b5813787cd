"""The number format follows what was measured, or the setting."""

from __future__ import annotations

import importlib.machinery
import json
import os
import re
import subprocess
import sys

import pytest

from openrlhf_rad import processor
from openrlhf_rad.errors import ConfigError
from openrlhf_rad.files import cache_root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENRLHF_RAD_CACHE", str(tmp_path))
    monkeypatch.delenv(processor.VARIABLE, raising=False)
    processor.measurement.cache_clear()
    yield
    processor.measurement.cache_clear()


def keep(**changed):
    name, instructions, cores, torch = processor._identity()
    known = {"name": name, "instructions": instructions, "cores": cores, "torch": torch}
    (cache_root() / "processor.json").write_text(
        json.dumps({**known, "bfloat16": 1.0, "float32": 1.0, **changed})
    )


@pytest.mark.parametrize(
    ("bfloat16", "float32", "chosen"),
    [(800.0, 200.0, "bfloat16"), (0.6, 26.8, "float32"), (50.0, 50.0, "float32")],
)
def test_the_faster_format_is_chosen(bfloat16, float32, chosen):
    keep(bfloat16=bfloat16, float32=float32)
    assert processor.number_format() == chosen


@pytest.mark.parametrize("wanted", ["bfloat16", "float32"])
def test_the_setting_overrides_the_measurement_in_both_directions(wanted, monkeypatch):
    keep(**{"bfloat16": 1.0, "float32": 1.0, wanted: 0.1})
    monkeypatch.setenv(processor.VARIABLE, wanted)
    assert processor.number_format() == wanted


@pytest.mark.parametrize("text", ["fp16", "float16", "bf16"])
def test_another_format_is_refused_with_those_there_are(text, monkeypatch):
    monkeypatch.setenv(processor.VARIABLE, text)
    message = (
        f"OPENRLHF_RAD_DTYPE is {text}; models on a CPU compute in bfloat16 or float32; set one of the two,"
        " or auto for the one that this processor is faster in"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        processor.number_format()


def test_this_processor_is_measured_once_and_a_change_measures_again():
    found = processor.measurement()
    assert found.cores == len(os.sched_getaffinity(0))
    assert 0.1 < found.bfloat16 < 1e5
    assert 0.1 < found.float32 < 1e5
    keep(bfloat16=123.0)
    processor.measurement.cache_clear()
    assert processor.measurement().bfloat16 == 123.0
    keep(bfloat16=123.0, name="another processor")
    processor.measurement.cache_clear()
    assert processor.measurement().bfloat16 != 123.0


def test_without_its_instructions_bfloat16_is_slower_than_float32():
    """The libraries are told to use AVX2 alone, so that bfloat16 is emulated on whatever runs this."""
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    words = [sys.executable, "-W", "ignore", "-m", "openrlhf_rad.processor"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    speed = json.loads(done.stdout)
    assert speed["bfloat16"] < speed["float32"]


@pytest.mark.parametrize(("choice", "expected"), [("cpu", False), ("gpu", True)])
def test_the_user_decides_whether_there_is_a_gpu(choice, expected, monkeypatch):
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", choice)
    assert processor.has_gpu() is expected


class Driver:
    """NVIDIA's library as far as it is asked."""

    def __init__(self, gpus, failure=0):
        self.gpus, self.failure = gpus, failure

    def cuInit(self, flags):
        assert flags == 0
        return self.failure

    def cuDeviceGetCount(self, count):
        count._obj.value = self.gpus
        return 0


@pytest.mark.parametrize("cuda", ["'12.8'", "None"])
@pytest.mark.parametrize(
    ("driver", "shown"), [(None, 0), (Driver(0), 0), (Driver(2), 2), (Driver(2, failure=100), 0)]
)
def test_otherwise_the_driver_and_torch_s_build_decide(driver, shown, cuda, monkeypatch, tmp_path):
    """Whatever signs of NVIDIA there are: a container may see them and no GPU; torch may be the CPU's."""

    def load(name):
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError
        return driver

    monkeypatch.delenv("OPENRLHF_RAD_BACKEND", raising=False)
    monkeypatch.setattr(processor.ctypes, "CDLL", load)
    version = f"__version__ = '2.13.0'\ncuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n"
    (tmp_path / "version.py").write_text(version)
    spec = importlib.machinery.ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(processor.importlib.util, "find_spec", lambda name: spec)
    assert processor.nvidia_gpus() == shown
    assert processor.has_gpu() is (shown > 0 and cuda != "None")


def test_here_it_agrees_with_torch(monkeypatch):
    monkeypatch.delenv("OPENRLHF_RAD_BACKEND", raising=False)
    torch = pytest.importorskip("torch")
    assert processor.has_gpu() is torch.cuda.is_available()

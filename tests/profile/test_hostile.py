"""Files made to harm: each is refused with a clear error, within a second and a few megabytes."""

import os
import subprocess
import sys
import time
import tracemalloc

import pytest

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.profile import RiskProfile, load_profile

LAUGHS = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nrisk: *c"
ENTRIES = "".join(f" s{index}: mean\n" for index in range(1000))

HOSTILE = {
    "alias bomb": (LAUGHS, "an alias (*name) is used; write the value out"),
    "flow nesting": ("[" * 90_000, "nested too deeply, more than 12 levels"),
    "mapping nesting": ("{a: " * 20_000, "nested too deeply"),
    "block nesting": ("".join(f"{' ' * i}a:\n" for i in range(400)), "nested too deeply"),
    "too long": ("a" * 100_001, "the file has 100001 characters; a profile has at most 100000"),
    "many values": ("risk: [" + "1," * 40_000 + "]", "more than 10000 values"),
    "many keys": ("".join(f"k{i}: 1\n" for i in range(9000)), "medical.yaml: 8901 more problems"),
    "many copies": ("a: b\n" * 19_000 + "c: 'x", "more problems"),
    "constraints by segments": (
        f"constraints:\n{ENTRIES}segments:\n{ENTRIES}",
        "there are 1001000 constraints, segments counted; a profile may hold 100",
    ),
    "long number": (f"risk: mean\ndual: {{max: {'9' * 99_000}}}", "dual.max is inf; it must lie in (0, ∞)"),
    "long exponent": (f"risk: mean\ndual: {{max: 1e{'9' * 99_000}}}", "dual.max is inf"),
    "long expression": ("risk: " + "+".join(["0.1*mean"] * 10_000), "an expression has at most"),
    "long steps": (f"risk: {{piecewise: [{'[0, 1], ' * 2000}]}}", "a list of 1 to 100 steps"),
    "long level": (f"risk: mean\nconstraint: {{level: '1{' ' * 90_000}x'}}", "it must be a number in"),
    "long key": (f"? {'a' * 2000}\n: 1", "a key has 2000 characters; it may have 100"),
    "list as a key": ("? [a, b]\n: 1", "a key is a list, a mapping or an alias; it must be a word"),
    "python tag": ("risk: !!python/object/apply:os.system [ls]", "remove the tag"),
    "python name": ("risk: mean\nname: !!python/name:os.system x", "remove the tag"),
    "merge key": ("<<: {risk: mean}", "<< is not a key of a profile"),
    "two documents": ("risk: mean\n--- \nrisk: linear", "a second document begins; a profile is one"),
    "control character": ("risk: mean\ndescription: \x1b[31m", "the character U+001B"),
    "half a surrogate": ("risk: \udc80", "the character U+DC80"),
    "escape codes": ('risk: "\\e[31m"', "\\x1b[31m"),
    "null in a path": ('risk: mean\ncost: {model: "./\\0"}', "it must be a path on this machine"),
    "nobody's home": ("risk: mean\ncost: {function: ~no-such-user/x}", "it must be a path on this machine"),
    "address as base": ("extends: file:///etc/passwd", "never an address"),
    "name out of its folder": ("risk: mean\nname: ../../etc", "it must be letters, digits"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_bounded_time_and_memory(name, tmp_path):
    text, expected = HOSTILE[name]
    started = time.process_time()
    with pytest.raises(ProfileError) as caught:
        RiskProfile.from_text(text, "medical.yaml", tmp_path)
    assert time.process_time() - started < 1
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems[:3]
    assert len(caught.value.problems) <= 101
    assert all(problem.isprintable() and len(problem) < 1000 for problem in caught.value.problems)


@pytest.mark.parametrize("name", ["many values", "many copies", "constraints by segments"])
def test_memory_stays_small(name, tmp_path):
    tracemalloc.start()
    with pytest.raises(ProfileError):
        RiskProfile.from_text(HOSTILE[name][0], "medical.yaml", tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


def refusal(path):
    started = time.perf_counter()
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert time.perf_counter() - started < 5
    return str(caught.value)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(5 << 30)
    tracemalloc.start()
    assert (
        refusal(path)
        == f"{path}: the file has more than 400000 bytes; a profile has far fewer; check the path"
    )
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/tty", "/dev/stdin"])
def test_a_device_is_not_read(tmp_path, device):
    path = tmp_path / "device.yaml"
    path.symlink_to(device)
    assert "it is not a regular file" in refusal(path) or "cannot be read" in refusal(path)


def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    assert refusal(path) == f"{path}: it is not a regular file; a profile is one; check the path"
    path.unlink()
    path.mkdir()
    assert "it is not a regular file" in refusal(path)


def test_a_base_is_read_in_bounds_too(tmp_path):
    os.mkfifo(tmp_path / "base.yaml")
    (tmp_path / "top.yaml").write_text("extends: base.yaml")
    assert "it is not a regular file" in refusal(tmp_path / "top.yaml")


def test_a_profile_runs_no_code(tmp_path):
    """The cost function of a profile is a path to it, whatever stands there."""
    (tmp_path / "cost.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "p.yaml").write_text("risk: mean\ncost: {function: cost.py}")
    code = (
        f"from openrlhf_rad.profile import load_profile; p = load_profile({str(tmp_path / 'p.yaml')!r});"
        " p.with_overrides({'dual.step': '0.2'}).to_yaml(); p.weights(8); p.warnings; p.hash"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not (tmp_path / "ran").exists()

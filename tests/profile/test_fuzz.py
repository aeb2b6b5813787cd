"""Mutated profiles: out comes a ProfileError or a valid profile, each within a second.

``RAD_FUZZ=1000000 pytest tests/profile/test_fuzz.py`` tries more; ``RAD_FUZZ_SEED`` other ones.
"""

import os
import random
import time
from pathlib import Path

import pytest

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.profile import RiskProfile

ROUNDS = int(os.environ.get("RAD_FUZZ", "20000"))
SEED = int(os.environ.get("RAD_FUZZ_SEED", "0"))
# Of processor time, which other work on the machine does not lengthen.
SECONDS = 1.0

ROOT = Path(__file__).parents[2]
SEEDS = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "risk_profiles").glob("*.yaml"))]
SEEDS += [
    "medical: cvar α=0.9\n",
    "name: hospital\nrisk: 0.8*cvar(alpha=0.9) + 0.2*mean\n"
    "constraints:\n  harm: {risk: piecewise 0=0.2 0.9=1, level: reference quantile 0.9, form: spectral}\n"
    "  privacy: {risk: mean, cost: {function: privacy.py}, dual: {initial: 1}}\n"
    "segments: {pediatrics: cvar α=0.99, old: {level: 10% of reference spread}}\n"
    "transport: {epsilon: 0.2, particles: auto}\nreference: {samples: 512, file: null}\n"
    "evaluate: {confidence: 0.99, improvement: 0.1, resamples: 500}\n"
    "watches: {window: 30, inert: stop, entropy: off, harmful_label: bad}\n",
    "extends: medical\nrisk: {alpha: 0.95}\nconstraint: {form: expected}\ndual: null\n",
    "risk: cvar α=0.9\ndual: {method: pid, proportional: 1, derivative: 4, smoothing: 0.5, delay: 3,"
    " confidence: 0.9}\nsegments: {old: {dual: {method: log, estimate: ema, memory: 4, confidence: null}}}\n",
    "risk: {mixture: [{weight: 0.5, measure: wang, η: 1}, {weight: 0.5, piecewise: [[0, 1]]}]}\n",
]
TOKENS = [
    *(
        "risk",
        "constraint",
        "constraints",
        "segments",
        "dual",
        "transport",
        "cost",
        "reference",
        "evaluate",
        "watches",
    ),
    *("extends", "level", "margin", "form", "measure", "mixture", "piecewise", "weight", "alpha", "α", "κ"),
    *("method", "estimate", "memory", "confidence", "pid", "log", "ema", "window", "delay", "ascent"),
    *("medical", "mean", "cvar", "var", "no_worse", "expected", "20% of reference spread", "./base.yaml"),
    *("reference quantile 0.9", "0.8*cvar α=0.9 + 0.2*mean", "piecewise 0=1 0.5=2", "null", "true", "~", ""),
    *("0", "-1", "1e-3", "1e999", ".inf", ".nan", "9" * 400, "-0.0", "1" + "0" * 30, "0x10", "1_000"),
    *(
        ": ",
        ":",
        "- ",
        ", ",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "\n  ",
        "\t",
        "#",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "|",
        ">",
    ),
    *(
        "'",
        '"',
        "\\",
        "\0",
        "\x1b[31m",
        "\u2028",
        "\x85",
        "\ufeff",
        "\U0001f600",
        "---\n",
        "...",
        "%YAML 1.1",
    ),
    *("<<: ", "? ", "\\x00", '"\\0"', "~nobody/x", "[" * 50, "{a: " * 20, "+", "*", "%", "=", "(", ")"),
]


def mutate(text, random):
    """One change of bytes, of characters, of tokens or of lines."""
    kind, size = random.randrange(8), len(text)
    start = random.randrange(size + 1)
    end = min(size, start + random.randrange(1, 12))
    if kind == 0:
        data = bytearray(text.encode("utf-8", "replace"))
        for _ in range(random.randrange(1, 4)):
            if data:
                data[random.randrange(len(data))] = random.randrange(256)
        return data.decode("utf-8", "surrogateescape" if random.random() < 0.2 else "ignore")
    if kind == 1:
        return text[:start] + text[end:]
    if kind == 2:
        return text[:start] + text[start:end] * random.randrange(2, 6) + text[end:]
    if kind in (3, 4):
        return text[:start] + random.choice(TOKENS) + text[start if kind == 3 else end :]
    if kind == 5:
        other = random.choice(SEEDS)
        cut = random.randrange(len(other) + 1)
        return text[:start] + other[cut : cut + random.randrange(1, 60)] + text[start:]
    lines = text.splitlines(keepends=True) or [""]
    index = random.randrange(len(lines))
    if kind == 6:
        lines[index] = " " * random.randrange(5) + lines[index].lstrip(" ")
    else:
        lines.insert(random.randrange(len(lines) + 1), lines[index])
    return "".join(lines)


def check(text, tmp_path):
    """Whether the text is a profile; anything but a ProfileError, and a read-back that differs, fails."""
    problems = []
    try:
        profile = RiskProfile.from_text(text, "fuzz.yaml", tmp_path)
    except ProfileError as error:
        problems = error.problems or [""]
    if problems:
        assert all(problem and problem.isprintable() for problem in problems), problems
        return False
    again = RiskProfile.from_text(profile.to_yaml(), "again.yaml", tmp_path)
    assert again == profile
    assert again.hash == profile.hash
    assert abs(profile.weights(8).mean() - 1) < 1e-12
    return True


@pytest.mark.timeout(3600)
def test_mutated_profiles_are_refused_or_valid(tmp_path):
    chance, valid, slowest = random.Random(SEED), 0, (0.0, "")
    for _ in range(ROUNDS):
        text = chance.choice(SEEDS)
        for _ in range(chance.randrange(1, 6)):
            text = mutate(text, chance)
        started = time.process_time()
        try:
            valid += check(text, tmp_path)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error} for {text!r}") from error
        slowest = max(slowest, (time.process_time() - started, text))
    assert slowest[0] < SECONDS, slowest
    # Both kinds must come up, or the mutations test nothing.
    assert 0.05 < valid / ROUNDS < 0.95

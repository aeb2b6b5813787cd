"""The way of one number: how often α enters a module between its file and λ.

The same profile, differing in α alone, is read, resolved on the reference and trained by for one rollout. An
entry is a call of a module's own code by another module of the package. α comes in where its arguments differ
between the two profiles, and goes on where it returns, or leaves behind, something that differs; a call that
does neither, with all that it calls, is a check or a dead end and no part of the way.
"""

import pickle
import sys
from collections import Counter

import numpy as np
import pytest

from openrlhf_rad.method.constraint_set import ConstraintSet, Scored
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import RiskProfile

RNG = np.random.default_rng(0)
REFERENCE, BATCH, HEAVY = RNG.normal(size=256), RNG.normal(size=64), RNG.standard_t(2, size=256)
PROMPTS = [str(place // 2) for place in range(64)]
MOST = 3


class Entry:
    """A call from one module into another, what it was given and what came of it."""

    def __init__(self, frame, above):
        self.called, self.above = (module(frame), frame.f_code.co_qualname), above
        self.names = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
        self.given = self.seen(frame)

    def seen(self, frame):
        return [digest(frame.f_locals.get(name)) for name in self.names]

    def end(self, frame, returned):
        self.left, self.returned = self.seen(frame), digest(returned)


def module(frame):
    """The module of the package that a frame's code is written in; what dataclasses generate is in none."""
    name = frame.f_globals.get("__name__", "")
    return name if name.startswith("openrlhf_rad.") and frame.f_code.co_filename != "<string>" else None


def digest(held):
    try:
        return pickle.dumps(held)
    except (TypeError, AttributeError, pickle.PicklingError):  # iterators and functions
        return repr(type(held))


def entries(text, reference):
    """All entries from the profile's text to the λ after one rollout, and that λ."""
    found, stack = [], []

    def watch(frame, event, returned):
        name = module(frame)
        if event not in ("call", "return") or name is None:
            return
        caller = frame.f_back
        while caller is not None and module(caller) is None:
            caller = caller.f_back
        if caller is not None and module(caller) == name:
            return
        if event == "call":
            stack.append(Entry(frame, stack[-1] if stack else None))
            found.append(stack[-1])
        else:
            stack.pop().end(frame, returned)

    for cached in (Spectrum.least_size, Spectrum.lowest_level):
        cached.cache_clear()  # of another test
    sys.setprofile(watch)
    try:
        constraints = ConstraintSet(RiskProfile.from_text(text), Scored({"cost": reference}, [""] * 256))
        constraints(Scored({"cost": BATCH}, [""] * 64, PROMPTS))
    finally:
        sys.setprofile(None)
    return found, constraints.parts[0].step.dual.value


def goes_on(one, other):
    """Whether two calls that differ in α alone return or leave behind something that differs."""
    changed = [
        mine != theirs and (mine != given or theirs != other_given)
        for mine, theirs, given, other_given in zip(one.left, other.left, one.given, other.given, strict=True)
    ]
    return one.returned != other.returned or any(changed)


@pytest.mark.parametrize(
    ("rest", "reference", "more"),
    [
        ("", REFERENCE, {}),
        ("constraint: {form: spectral}\ndual: {confidence: 0.9}", REFERENCE, {}),
        # Where tails are heavy, they are winsorised from a level that the spectrum has a say in.
        ("", HEAVY, {"openrlhf_rad.method.spectrum": 5}),
    ],
    ids=["by default", "spectral, with confidence", "heavy tails"],
)
def test_alpha_enters_no_module_more_than_three_times(rest, reference, more):
    entries(f"risk: cvar α=0.7\n{rest}", reference)  # what a process does once
    ones, dual = entries(f"risk: cvar α=0.9\n{rest}", reference)
    others, other_dual = entries(f"risk: cvar α=0.8\n{rest}", reference)
    assert dual != other_dual
    assert [one.called for one in ones] == [other.called for other in others]
    dead, way = set(), []
    for one, other in zip(ones, others, strict=True):
        if one.above in dead or not goes_on(one, other):
            dead.add(one)
        else:
            way.append(one.called)
    count = Counter(name for name, _ in way)
    assert {name: times for name, times in count.items() if times > MOST} == more

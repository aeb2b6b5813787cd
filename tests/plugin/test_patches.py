"""The changes to other people's modules: each has a target that is there, a reason, and a row in the docs."""

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from openrlhf_rad.plugin import patches
from openrlhf_rad.plugin.cpu.backend import TOUCH_POINTS
from openrlhf_rad.plugin.patches import Patch, apply, temporarily
from openrlhf_rad.plugin.vigil import Vigil

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.fixture
def hooks(rad_options):
    return patches.hooks(rad_options("--rad.loss", "ppo"), Vigil())


@pytest.fixture
def all_patches(hooks):
    return [
        *patches.every_process(trust_remote_code=False),
        *patches.driver(Vigil(), lambda args: args),
        *hooks,
        *patches.asynchronous(None, {}),
        *patches.rollout_worker(),
        *TOUCH_POINTS,
    ]


def test_every_target_is_there_and_every_change_has_a_reason(all_patches):
    for patch in all_patches:
        module, _, path = patch.target.partition(":")
        found = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        assert callable(found), patch.target
        assert patch.reason
    targets = [patch.target for patch in all_patches]
    assert len(set(targets)) == len(targets)


def test_the_docs_have_a_row_for_each_hook(hooks):
    told = ARCHITECTURE.read_text(encoding="utf-8")
    for patch in (*hooks, *patches.asynchronous(None, {}), *patches.rollout_worker()):
        assert f"`{patch.target.removeprefix('openrlhf.').replace(':', '.')}`" in told


@pytest.fixture
def module(monkeypatch):
    """Two modules, of which the second has imported a name of the first."""
    first, second = ModuleType("rad_first"), ModuleType("rad_second")
    first.answer = second.answer = lambda: 1
    first.Owner = type("Owner", (), {"named": classmethod(lambda cls: cls.__name__)})
    for one in (first, second):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    return SimpleNamespace(first=first, second=second)


@pytest.mark.parametrize("copies", [True, False])
def test_copies_of_a_name_are_replaced_where_that_is_asked_for(module, copies):
    apply([Patch("rad_first:answer", lambda old: lambda: old() + 1, "so", copies=copies)])
    assert (module.first.answer(), module.second.answer()) == (2, 2 if copies else 1)


def test_a_module_that_is_not_imported_yet_is_changed_when_it_is(tmp_path, monkeypatch):
    (tmp_path / "rad_later.py").write_text("class A:\n    def number(self):\n        return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    apply([Patch("rad_later:A.number", lambda old: lambda self: old(self) + 1, "so")])
    assert "rad_later" not in sys.modules
    assert importlib.import_module("rad_later").A().number() == 2
    del sys.modules["rad_later"]


def test_a_change_for_a_while_is_taken_back(module):
    before = vars(module.first.Owner)["named"]
    change = Patch(
        "rad_first:Owner.named", lambda old: classmethod(lambda cls: f"{old.__func__(cls)}!"), "so"
    )
    with temporarily(change):
        assert module.first.Owner.named() == "Owner!"
    assert vars(module.first.Owner)["named"] is before

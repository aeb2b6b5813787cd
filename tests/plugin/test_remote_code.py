"""The guard against code of models: what ``ray.init`` hands on, and classes that transformers has itself."""

import os
import subprocess
import sys

import pytest

from openrlhf_rad.plugin import workers
from openrlhf_rad.plugin.arguments import TRUST, parse

HOOK = "worker_process_setup_hook"


def test_it_is_off_unless_asked_for():
    assert parse(["--rad.profile", "medical"])[0].trust_remote_code is False
    assert parse(["--rad.profile", "medical", "--rad.trust_remote_code"])[0].trust_remote_code is True


@pytest.mark.parametrize("given", [{}, {"env_vars": {"A": "1"}, HOOK: "openrlhf_rad.plugin.cpu.activate"}])
def test_every_ray_init_hands_the_guard_to_its_workers(given):
    seen = []
    init = workers.handing_on_setup(lambda *args, **kwargs: seen.append((args, kwargs)))
    init("local", num_cpus=2, runtime_env=given)
    ((args, kwargs),) = seen
    assert (args, kwargs["num_cpus"]) == (("local",), 2)
    assert kwargs["runtime_env"][HOOK] == "openrlhf_rad.plugin.workers.setup"
    variables = kwargs["runtime_env"]["env_vars"]
    assert variables == {
        **given.get("env_vars", {}),
        workers.NEXT: given.get(HOOK, ""),
        TRUST: "0",
    }


def test_a_worker_calls_the_other_hook_too(monkeypatch):
    called = []
    monkeypatch.setattr(workers, "_settle", lambda: called.append("settle"))
    monkeypatch.setattr("openrlhf_rad.plugin.cpu.activate", lambda: called.append("activate"))
    monkeypatch.setenv(workers.NEXT, "openrlhf_rad.plugin.cpu.activate")
    workers.setup()
    assert called == ["settle", "activate"]
    monkeypatch.delenv(workers.NEXT)
    workers.setup()
    assert called == ["settle", "activate", "settle"]


PLAIN = """
import json, sys
from pathlib import Path
from openrlhf_rad.plugin import workers
if sys.argv[2] == "late":
    import transformers.models.auto.configuration_auto
workers.prepare(False)
from transformers import AutoConfig
folder = Path(sys.argv[1])
# llama is known to transformers, so that its own class is taken although the folder brings one
(folder / "evil.py").write_text("raise SystemExit('executed')")
(folder / "config.json").write_text(json.dumps(
    {"model_type": "llama", "auto_map": {"AutoConfig": "evil.EvilConfig"}}
))
print(type(AutoConfig.from_pretrained(folder, trust_remote_code=True)).__module__)
"""


@pytest.mark.parametrize("when", ["first", "late"])
def test_a_model_that_transformers_knows_loads_without_its_code(tmp_path, when):
    """Whether transformers is imported before the guard or after it."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PLAIN, str(tmp_path), when],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.stdout == "transformers.models.llama.configuration_llama\n", done.stderr

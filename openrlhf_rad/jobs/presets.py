"""The presets of ``rad-train``: the whole command of a job that needs nothing from the user.

Each is for one machine, a CPU or one GPU a model. A value that starts with ``@`` stands for a path:
``@out/…`` in the run's folder, ``@jobs/…`` beside this file, ``@…`` else in the cache of prepared assets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openrlhf_rad.files import cache_root
from openrlhf_rad.jobs.chat import TEMPLATE

Value = str | int | float | bool

#: Flags of both presets; True is a bare flag.
COMMON: dict[str, Value] = {
    "algo.advantage.estimator": "rloo",
    "actor.num_gpus_per_node": 1,
    "ref.num_gpus_per_node": 1,
    "vllm.num_engines": 1,
    "vllm.enforce_eager": True,
    "ds.adam_offload": True,
    "ds.attn_implementation": "sdpa",
    "data.input_key": "input",
    "data.label_key": "label",
    "data.input_template": TEMPLATE,
    "rollout.n_samples_per_prompt": 2,
    "ckpt.output_dir": "@out/model",
    "ckpt.path": "@out/checkpoints",
    "ckpt.load_enable": True,
    "ckpt.max_num": 2,
    "train.full_determinism_enable": True,
    "logger.tensorboard_dir": "@out/tensorboard",
}

#: 256 prompts, 8 steps an episode: 48 steps.
TINY: dict[str, Value] = {
    "actor.model_name_or_path": "@tiny/policy",
    "reward.remote_url": "@jobs/tiny_reward.py",
    "data.prompt_dataset": "@tiny/train.jsonl",
    "rad.heldout": "@tiny/heldout.jsonl",
    "rollout.batch_size": 32,
    "rollout.micro_batch_size": 32,
    "train.batch_size": 64,
    "train.micro_batch_size": 16,
    "train.num_episodes": 6,
    "data.max_samples": 256,
    "data.max_len": 96,
    "rollout.max_new_tokens": 16,
    "actor.adam.lr": 2e-3,
    "ckpt.save_steps": 8,
    "algo.kl.init_coef": 0.001,
}

#: 112 prompts, 8 a step with 4 answers each: 14 steps. Four answers a prompt, because what a gradient of
#: the tail learns from is the difference between answers to one prompt.
DEFAULT: dict[str, Value] = {
    "actor.model_name_or_path": "@policy",
    "reward.remote_url": "@jobs/relevance.py",
    "data.prompt_dataset": "@prompts/train.jsonl",
    "rad.heldout": "@prompts/heldout.jsonl",
    "rollout.batch_size": 8,
    "rollout.n_samples_per_prompt": 4,
    "rollout.micro_batch_size": 16,
    "train.batch_size": 32,
    "train.micro_batch_size": 16,
    "data.max_samples": 112,
    "data.max_len": 128,
    "rollout.max_new_tokens": 24,
    "actor.adam.lr": 2e-4,
    "ckpt.save_steps": 5,
    # The first gradients of a tail come from three answers; Adam would follow each at full length.
    "actor.lr_warmup_ratio": 0.25,
    "rollout.temperature": 0.8,
    "algo.kl.init_coef": 0.1,
}


@dataclass(frozen=True)
class Work:
    """What a part of a job takes: seconds on any machine, and GFLOP, which take a slow processor longer."""

    seconds: float
    gflop: float


@dataclass(frozen=True)
class Preset:
    """A job that is whole but for the risk profile.

    Attributes:
        name: for ``--preset``, and for ``python -m openrlhf_rad.jobs.prepare --preset``.
        flags: OpenRLHF's and RAD's own, see the tables above.
        cost: kind and location of the cost, where the profile names none.
        model_bytes: size of the policy's checkpoint.
        cache_bytes: what all prepared assets take in the cache.
        work: by part of the job, measured by ``benchmarks/newcomer.sh``.
        independent_cost: a second cost that training never sees, for the report.
        profile: the risk profile where the user names none.
        environment: variables of the training process; the user's own values win.
    """

    name: str
    flags: Mapping[str, Value]
    cost: tuple[Literal["model", "function"], str]
    model_bytes: int
    cache_bytes: int
    work: Mapping[str, Work]
    independent_cost: str | None = None
    profile: str = "medical"
    environment: Mapping[str, str] = field(default_factory=lambda: {"HF_HUB_OFFLINE": "1"})

    def words(self, out: Path) -> dict[str, list[str]]:
        """Each flag's words, with paths for a run in folder ``out``."""
        return {name: [] if value is True else [place(str(value), out)] for name, value in self.flags.items()}

    @property
    def assets(self) -> list[str]:
        """The paths of the prepared files: policy, prompts and cost."""
        values = [str(value) for value in (*self.flags.values(), self.cost[1])]
        here = ("@out/", "@jobs/")
        return [place(text, Path()) for text in values if text.startswith("@") and not text.startswith(here)]


def place(value: str, out: Path) -> str:
    """The path that an ``@`` value stands for; other values as they are."""
    if not value.startswith("@"):
        return value
    root, _, rest = value[1:].partition("/")
    roots = {"out": out, "jobs": Path(__file__).parent}
    return str(roots[root] / rest if root in roots else cache_root() / root / rest)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "default",
            COMMON | DEFAULT,
            cost=("model", "@cost_model"),
            model_bytes=270_000_000,
            cache_bytes=900_000_000,
            work={
                "assets": Work(35, 10_000),
                "start": Work(20, 8_500),
                "training": Work(160, 28_500),
                "held-out answers": Work(6, 28_000),
            },
            independent_cost="@independent_cost",
        ),
        Preset(
            "tiny",
            COMMON | TINY,
            cost=("function", "@jobs/tiny_cost.py"),
            model_bytes=300_000,
            cache_bytes=2_000_000,
            work={"assets": Work(5, 0), "start": Work(20, 0), "training": Work(25, 0)},
        ),
    )
}

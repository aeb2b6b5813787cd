"""What the plugin's tests share: OpenRLHF on the CPU backend, its own parser, rollouts as it makes them.

No test here starts Ray, an engine or a training.
"""

import os
import runpy
import sys
import warnings
from types import SimpleNamespace

import pytest

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "The pynvml package is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated", DeprecationWarning)
    from openrlhf_rad.plugin.cpu import activate, backend

    _environment = {name: os.environ.get(name) for name in backend.ENVIRONMENT}
    activate()  # before OpenRLHF is first imported, as in a run
    import ray
    import torch
    from openrlhf.trainer.ppo_utils.experience import Experience
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
    from openrlhf.utils import config

    from openrlhf_rad.jobs.prepare import prepare_tiny
    from openrlhf_rad.plugin import patches  # noqa: F401 - all modules with a hook
    from openrlhf_rad.plugin.arguments import parse

for _name, _value in _environment.items():  # other tests start processes that choose for themselves
    if _value is None:
        del os.environ[_name]

COMMAND = "openrlhf.cli.train_ppo_ray"
GOOD = {
    "--actor.model_name_or_path": "policy",
    "--reward.remote_url": "reward.py",
    "--algo.advantage.estimator": "rloo",
    "--vllm.num_engines": "1",
    "--rollout.batch_size": "4",
    "--rollout.n_samples_per_prompt": "2",
    "--rollout.micro_batch_size": "2",
    "--train.batch_size": "8",
    "--actor.num_gpus_per_node": "1",
    "--ref.num_gpus_per_node": "1",
    "--reward.num_gpus_per_node": "1",
    "--critic.num_gpus_per_node": "1",
}


class _Parsed(Exception):
    """OpenRLHF has read the flags."""


@pytest.fixture
def openrlhf_args(monkeypatch):
    """Reads flags with OpenRLHF's own command and stops it before it trains.

    It stops where the plugin sees the arguments, or with ``settled=True`` after all of OpenRLHF's own checks.
    """

    def read(*flags, settled=False):
        seen = []

        def capture(flat, hierarchize=config.hierarchize):
            seen.append(hierarchize(flat))
            if not settled:
                raise _Parsed
            return seen[0]

        def stop():
            raise _Parsed

        with monkeypatch.context() as patched:
            patched.setattr(config, "hierarchize", capture)
            patched.setattr(ray, "is_initialized", stop)
            patched.setattr(sys, "argv", [COMMAND, *flags])
            with pytest.raises(_Parsed):
                runpy.run_module(COMMAND, run_name="__main__")
        return seen[0]

    return read


@pytest.fixture
def good_args(openrlhf_args):
    """Arguments that RAD takes, with some changed: ``good_args("--train.max_epochs", "2")``."""

    def read(*flags, without=(), **options):
        good = [word for flag, value in GOOD.items() if flag not in without for word in (flag, value)]
        return openrlhf_args(*good, *flags, **options)

    return read


@pytest.fixture
def rad_options():
    """Options of ``--rad.*`` flags beside a profile that needs no file."""

    def read(*flags, profile="medical"):
        return parse(["--rad.profile", profile, *flags])[0]

    return read


@pytest.fixture(scope="session")
def tiny():
    """The tiny preset: paths of a small policy, cost model and prompts."""
    return prepare_tiny()


@pytest.fixture(scope="session")
def tokenizer(tiny):
    """A real tokenizer whose words are whole tokens."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny.policy)


@pytest.fixture
def rollout(tokenizer):
    """One answered prompt as an experience, by OpenRLHF's own code from an engine's response."""

    def make(prompt, answer, *, reward=0.0, label="", truncated=False, max_len=64):
        prompt_ids, answer_ids = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer)
        )
        response = {
            "prompt": prompt,
            "label": label,
            "images": None,
            "mm_train_inputs": None,
            "observation_tokens": prompt_ids + answer_ids,
            "action_ranges": [(len(prompt_ids), len(prompt_ids) + len(answer_ids))],
            "rollout_log_probs": None,
            "truncated": truncated,
            "reward": reward,
            "scores": reward,
            "extra_logs": {},
        }
        generator = SamplesGenerator(SimpleNamespace(args=None), None, None, tokenizer, [])
        return generator._process_response_into_experience(response, max_len=max_len)

    return make


@pytest.fixture
def batches(tokenizer):
    """Single experiences as micro-batches of the given sizes, as OpenRLHF splits a rollout."""

    def split(samples, *sizes):
        for position, sample in enumerate(samples):
            sample.index = [position]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [
            Experience.concat_experiences(samples[start : start + size], tokenizer.pad_token_id)
            for start, size in zip(starts, sizes, strict=True)
        ]

    return split


@pytest.fixture
def forwarded():
    """What the models add before advantages: log-probabilities and, from a seed, a KL of (B, A)."""

    def forward(experiences, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for experience in experiences:
            shape = experience.action_mask.shape
            experience.action_log_probs = torch.randn(shape, generator=generator)
            experience.kl = torch.randn(shape, generator=generator)
        return experiences

    return forward

"""Touch points 5 and 6: settings that only a GPU can serve, and a private Ray with virtual GPUs."""

from __future__ import annotations

import os
from typing import Any

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.plugin.cpu import fork_server
from openrlhf_rad.plugin.cpu.backend import environment
from openrlhf_rad.plugin.modes import cost_models

#: OpenRLHF's default number of GPUs a node: not a choice of the user's.
_DEFAULT_GPUS = 8
_OBJECT_STORE = 2 * 2**30  # bytes; a rollout is a few MiB


def prepare(args: Any, options: Any) -> None:
    """Make OpenRLHF's arguments fit a CPU, then start or join Ray.

    Raises:
        ConfigError: a flag that needs a GPU.
        EnvironmentProblem: a Ray cluster that is too small.
    """
    refuse_gpu_flags(args)
    set_cpu_flags(args)
    _start_ray(virtual_gpus(args, options))


def refuse_gpu_flags(args: Any) -> None:
    """Raises ConfigError for flags that need a GPU."""
    refused = {
        "--ds.packing_samples": args.ds.packing_samples,
        "--train.dynamic_batch_enable": args.train.dynamic_batch_enable,
        "--vllm.enable_sleep": args.vllm.enable_sleep,
        "--vllm.sync_with_ray": args.vllm.sync_with_ray,
        "--ds.load_in_4bit": args.ds.load_in_4bit,
        "--ds.ring_attn_size": args.ds.ring_attn_size > 1,
    }
    given = [flag for flag, value in refused.items() if value]
    if given:
        raise ConfigError(f"{', '.join(given)} needs a GPU and there is none; leave it out")


def set_cpu_flags(args: Any) -> None:
    """Set, in place, what a CPU asks for."""
    args.ds.adam_offload = True
    args.vllm.enforce_eager = True
    if "flash" in args.ds.attn_implementation:
        args.ds.attn_implementation = "sdpa"
    args.vllm.sync_backend = "gloo"
    for model in (args.actor, args.ref, args.reward, args.critic):
        if model.num_gpus_per_node == _DEFAULT_GPUS:
            model.num_gpus_per_node = 1


def virtual_gpus(args: Any, options: Any) -> int:
    """How many GPUs OpenRLHF will ask Ray for."""
    groups = [args.actor]
    if args.algo.kl.init_coef > 0:
        groups.append(args.ref)
    # OpenRLHF settles these two only after it has read the flags.
    if args.algo.advantage.estimator == "gae":
        groups.append(args.critic)
    if not (args.reward.remote_url or args.train.agent_func_path):
        groups.append(args.reward)
    count = sum(group.num_nodes * group.num_gpus_per_node for group in groups)
    count += (args.vllm.num_engines or 0) * args.vllm.tensor_parallel_size
    if options is not None:
        count += cost_models(options.profile) * options.cost_nodes * options.cost_gpus_per_node
    return int(count)


def _start_ray(gpus: int) -> None:
    import ray  # noqa: PLC0415 - a second that a dry run need not wait

    runtime_env = {
        "worker_process_setup_hook": "openrlhf_rad.plugin.cpu.activate",
        "env_vars": {
            **environment(),
            "TOKENIZERS_PARALLELISM": os.environ.get("TOKENIZERS_PARALLELISM", "true"),
        },
    }
    if not os.environ.get("RAY_ADDRESS"):
        python = fork_server.python()
        # A private cluster: one that runs on this machine for other work has no GPUs to give.
        ray.init(
            address="local",
            num_gpus=gpus,
            num_cpus=gpus + 1,  # each model one, the trainer one
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            runtime_env={**runtime_env, **({"py_executable": python} if python else {})},
        )
        return
    ray.init(runtime_env=runtime_env)
    found = ray.cluster_resources().get("GPU", 0)
    if found < gpus:
        ray.shutdown()
        raise EnvironmentProblem(
            f"the Ray cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']} has {found:g} GPUs and this run"
            f" asks for {gpus}; unset RAY_ADDRESS to let the run start its own Ray, or start that one with"
            f" ray start --head --num-gpus={gpus}"
        )

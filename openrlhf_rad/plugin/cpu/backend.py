"""The CPU backend: modules that it adapts, settings that a CPU asks for, a private Ray with virtual GPUs."""

from __future__ import annotations

import os
from typing import Any

from openrlhf_rad import processor
from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.plugin.compatibility import cost_models
from openrlhf_rad.plugin.cpu import device, fork_server
from openrlhf_rad.plugin.patches import Patch, apply

_STRATEGY = "openrlhf.utils.deepspeed.deepspeed"
_NO_CHECK = "OpenRLHF calls it without asking whether there is a GPU"
_NO_DEVICE = "there is no device that something could be moved from"

#: Where the stack takes a GPU for granted. Nothing is imported before the stack itself imports it.
TOUCH_POINTS: tuple[Patch, ...] = (
    Patch("torch:cuda.current_device", device.current_device, _NO_CHECK),
    Patch("torch:cuda.set_device", device.no_operation, _NO_CHECK),
    Patch("torch:cuda.synchronize", device.no_operation, _NO_CHECK),
    Patch("torch:cuda.empty_cache", device.no_operation, _NO_CHECK),
    Patch("torch:cuda.current_stream", device.no_operation, _NO_CHECK),
    Patch(
        "deepspeed.comm.torch:build_shm_op",
        lambda _: lambda: None,
        "DeepSpeed would compile its own reduction in shared memory; gloo's does",
    ),
    Patch(
        "openrlhf.trainer.ppo_utils.replay_buffer:NaiveReplayBuffer.__init__",
        device.buffer_on_cpu,
        'it formats f"cuda:{torch.cuda.current_device()}"',
    ),
    Patch(
        "openrlhf.utils.deepspeed.deepspeed_utils:get_train_ds_config",
        device.training_config,
        "the number format; buckets that a CPU can fill; torch's Adam, which no compiler has to make",
    ),
    Patch(
        "openrlhf.utils.deepspeed.deepspeed_utils:get_eval_ds_config",
        device.evaluation_config,
        "the number format",
    ),
    Patch(
        "openrlhf.utils.deepspeed.deepspeed_utils:offload_deepspeed_states", device.no_operation, _NO_DEVICE
    ),
    Patch(
        "openrlhf.utils.deepspeed.deepspeed_utils:reload_deepspeed_states", device.no_operation, _NO_DEVICE
    ),
    Patch(f"{_STRATEGY}:init_device_mesh", device.mesh_on_cpu, 'it is told "cuda"'),
    Patch(f"{_STRATEGY}:DeepspeedStrategy.moving_average", device.average_on_cpu, "it is told the GPU"),
    Patch(
        f"{_STRATEGY}:DeepspeedStrategy.save_model",
        device.saving_bfloat16,
        "what is saved is bfloat16 in any case, as on a GPU",
    ),
    Patch(
        "openrlhf.utils.utils:convert_to_torch_dtype",
        device.dtype_of_models,
        "OpenRLHF knows bfloat16 and float16 alone; most processors are fast in float32",
    ),
    Patch(
        "openrlhf.utils.distributed_util:stateless_init_process_group",
        lambda _: device.gloo_group,
        "the group between the trainer and the engines is NCCL's",
    ),
    Patch(
        "openrlhf.trainer.ray.vllm_engine:RolloutRayActor.__ray_metadata__.modified_class.__init__",
        device.engine_on_cpu,
        "a CPU's engine: its worker, whole prompts, the number format, no share of GPU memory",
    ),
)

#: Environment of every process of a CPU run; a value that the user has set wins.
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engine and trainer take turns on the same cores
    "OMP_NUM_THREADS": str(os.cpu_count() or 1),
    "OMP_WAIT_POLICY": "PASSIVE",  # idle threads sleep: several processes share the cores
    "RAY_prestart_worker_first_driver": "0",
    "GLOO_SOCKET_IFNAME": "lo",
}

_active = False


def environment() -> dict[str, str]:
    """The environment variables of a CPU run, the user's own values first.

    The number format is settled here, so that all processes of a run, on whatever machine, have the same.
    """
    wanted = ENVIRONMENT | {processor.VARIABLE: processor.number_format()}
    return {name: os.environ.get(name) or value for name, value in wanted.items()}


def engine_arguments() -> dict[str, Any]:
    """What a vLLM engine of our own must be told: its number format, and what a CPU needs."""
    if processor.has_gpu():
        return {"dtype": "bfloat16"}
    return {"enforce_eager": True, "dtype": processor.number_format(), **device.WHOLE_PROMPTS}


def activate() -> None:
    """Adapt this process; Ray calls it in each worker before anything else. Safe to call twice."""
    global _active  # noqa: PLW0603 - one switch a process
    if _active:
        return
    _active = True
    # Only what differs: a variable that is set anew moves, and a title is found by where the first one is.
    os.environ.update({name: text for name, text in environment().items() if os.environ.get(name) != text})
    device.install_flash_attention()
    apply(TOUCH_POINTS)


#: OpenRLHF's default number of GPUs a node: not a choice of the user's.
_DEFAULT_GPUS = 8
_OBJECT_STORE = 2 * 2**30  # bytes; a rollout is a few MiB


def fit(args: Any) -> None:
    """Make OpenRLHF's arguments fit a CPU, in place. Raises ConfigError for a flag that needs a GPU."""
    refuse_gpu_flags(args)
    set_cpu_flags(args)


def start(args: Any, options: Any) -> None:
    """Start or join Ray for arguments that fit. Raises EnvironmentProblem for a cluster that is too small."""
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
    offered = ray.cluster_resources().get("GPU", 0)
    if offered < gpus:
        ray.shutdown()
        raise EnvironmentProblem(
            f"the Ray cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']} has {offered:g} GPUs and this run"
            f" asks for {gpus}; unset RAY_ADDRESS to let the run start its own Ray, or start that one with"
            f" ray start --head --num-gpus={gpus}"
        )

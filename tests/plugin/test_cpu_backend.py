"""The CPU backend: each touch point does what its GPU original does, and no more."""

import json
import os
import re
import runpy
import socket
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import ray
import torch
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from openrlhf import utils
from openrlhf.trainer import ppo_trainer
from openrlhf.trainer import ray as openrlhf_ray
from openrlhf.trainer.ppo_utils.replay_buffer import NaiveReplayBuffer
from openrlhf.trainer.ray import launcher
from openrlhf.utils import distributed_util
from openrlhf.utils.deepspeed import deepspeed, deepspeed_utils

from openrlhf_rad import processor
from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin import cpu
from openrlhf_rad.plugin.cpu import backend, device

RECEIVER = """
    import sys
    from types import SimpleNamespace
    import torch
    from openrlhf_rad.plugin.cpu.device import CpuWorkerExtension

    port, out = int(sys.argv[1]), sys.argv[2]
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    worker = CpuWorkerExtension()
    worker.model_config = SimpleNamespace(dtype=torch.bfloat16)
    syncs = []
    worker.model_runner = SimpleNamespace(
        reload_weights=lambda weights_iterator: syncs.append(list(weights_iterator))
    )
    worker.init_process_group("127.0.0.1", port, 1, 2, "openrlhf", backend="gloo")
    for step in range(2):
        worker.update_weight("head", torch.bfloat16, (4, 3))
        worker.update_weight("scale", torch.bfloat16, ())
        worker.update_weight("norm", torch.bfloat16, (5,), empty_cache=True)
    plain = [torch.zeros(2, 2), torch.zeros(()), torch.zeros(3, dtype=torch.int64)]
    for tensor in plain:
        worker._model_update_group.broadcast(tensor, src=0)
    try:
        worker.update_weight("head", torch.float32, (4, 3))
    except RuntimeError as error:
        refused = str(error)
    torch.save({"syncs": syncs, "plain": plain, "refused": refused}, out)
    # At the interpreter's end gloo's threads may outlive what they use.
    worker._model_update_group = None
    torch.distributed.destroy_process_group()
"""


def test_weights_arrive_in_another_process_bit_by_bit(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = tmp_path / "received.pt"
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(RECEIVER), str(port), str(out)],
        stderr=subprocess.PIPE,
        text=True,
    )
    generator = torch.Generator().manual_seed(0)
    shapes = {"head": (4, 3), "scale": (), "norm": (5,)}
    sent = [
        [(name, torch.randn(shape, generator=generator).bfloat16()) for name, shape in shapes.items()]
        for _ in range(2)
    ]
    plain = [torch.randn(2, 2, generator=generator), torch.tensor(1.5), torch.tensor([1, -2, 3])]
    group = distributed_util.stateless_init_process_group("127.0.0.1", port, 0, 2, torch.device("cpu"))
    assert isinstance(group, device.GlooCommunicator)
    for tensor in [tensor for sync in sent for _, tensor in sync] + plain:
        group.broadcast(tensor.data, src=0, stream=torch.cuda.current_stream())
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    received = torch.load(out)
    assert [[name for name, _ in sync] for sync in received["syncs"]] == [list(shapes)] * 2
    for one, other in zip(sent, received["syncs"], strict=True):
        for (_, ours), (_, theirs) in zip(one, other, strict=True):
            assert torch.equal(ours, theirs)
            assert ours.dtype == theirs.dtype
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(plain, received["plain"], strict=True))
    assert received["refused"] == "weight head is torch.float32, the engine has torch.bfloat16"


def test_the_engine_joins_by_ray_only_with_a_gpu():
    with pytest.raises(RuntimeError, match=r"^--vllm\.sync_with_ray needs NCCL; leave it out on a CPU$"):
        device.CpuWorkerExtension().init_process_group("h", 1, 1, 2, "openrlhf", use_ray=True)


def test_engines_get_the_cpu_s_worker_whole_prompts_and_no_share_of_gpu_memory():
    import asyncio

    class Engine:
        async def __init__(self, *args, **kwargs):
            self.given = args, kwargs

    Engine.__init__ = device.engine_on_cpu(Engine.__init__)
    engine = Engine.__new__(Engine)
    asyncio.run(engine.__init__("a", worker_extension_cls="their.Worker", gpu_memory_utilization=0.9, seed=3))
    expected = {
        "worker_extension_cls": device.WORKER_EXTENSION,
        "seed": 3,
        "enable_chunked_prefill": False,
        "dtype": processor.number_format(),
    }
    assert engine.given == (("a",), expected)
    module, _, name = device.WORKER_EXTENSION.rpartition(".")
    assert getattr(sys.modules[module], name) is device.CpuWorkerExtension


@pytest.mark.parametrize(
    "name",
    [
        "flash_attn.bert_padding.index_first_axis",
        "flash_attn.bert_padding.pad_input",
        "flash_attn.bert_padding.rearrange",
        "flash_attn.bert_padding.unpad_input",
        "flash_attn.utils.distributed.all_gather",
    ],
)
def test_flash_attention_refuses_with_the_fix(name):
    import importlib

    module, _, function = name.rpartition(".")
    message = (
        f"{name} was called on a CPU; flash attention needs a GPU; leave out --ds.packing_samples,"
        " --train.dynamic_batch_enable and --ds.ring_attn_size"
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        getattr(importlib.import_module(module), function)(torch.zeros(1), dim=0)


def test_a_flash_attention_that_is_there_stays(monkeypatch):
    real = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "flash_attn", real)
    device.install_flash_attention()
    assert sys.modules["flash_attn"] is real


def test_calls_of_torch_cuda_are_harmless():
    assert torch.zeros(2).to(torch.cuda.current_device()).device.type == "cpu"
    assert torch.cuda.set_device(0) is None
    assert torch.cuda.synchronize() is None
    assert torch.cuda.empty_cache() is None
    assert torch.cuda.current_stream() is None
    assert not torch.cuda.is_available()


def test_the_replay_buffer_is_on_the_cpu():
    current_device = torch.cuda.current_device
    assert NaiveReplayBuffer(2, cpu_offload=False).target_device == torch.device("cpu")
    assert torch.cuda.current_device is current_device


def test_the_device_mesh_is_on_the_cpu():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = deepspeed.init_device_mesh("cuda", (1, 1, 1), mesh_dim_names=("dp", "sp", "tp"))
        assert mesh.device_type == "cpu"
        assert mesh.mesh_dim_names == ("dp", "sp", "tp")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("stage", [2, 3])
def test_gradients_are_reduced_in_buckets_that_a_cpu_can_fill(stage):
    """DeepSpeed itself reads what the strategy builds; without the touch point it reads 5e8."""
    built = deepspeed.get_train_ds_config(offload=False, stage=stage)["zero_optimization"]
    assert DeepSpeedZeroConfig(**built).reduce_bucket_size == device.REDUCE_BUCKET_SIZE
    upstream = deepspeed_utils.get_train_ds_config(offload=False, stage=stage)["zero_optimization"]
    assert {**upstream, "reduce_bucket_size": device.REDUCE_BUCKET_SIZE} == built


def test_the_moving_average_of_weights_is_on_the_cpu():
    model, ema = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    expected = [
        0.25 * a.data + 0.75 * b.data for a, b in zip(model.parameters(), ema.parameters(), strict=True)
    ]
    strategy = SimpleNamespace(
        time_steps={"ema": 0}, accumulated_gradient=1, use_dynamic_batch=False, stage=2
    )
    deepspeed.DeepspeedStrategy.moving_average(strategy, model, ema, 0.75, "cuda")
    for value, parameter in zip(expected, ema.parameters(), strict=True):
        torch.testing.assert_close(parameter.data, value)


def test_a_second_activation_changes_nothing():
    before = (
        NaiveReplayBuffer.__init__,
        deepspeed.init_device_mesh,
        deepspeed.DeepspeedStrategy.moving_average,
        distributed_util.stateless_init_process_group,
        torch.cuda.current_device,
    )
    cpu.activate()
    after = (
        NaiveReplayBuffer.__init__,
        deepspeed.init_device_mesh,
        deepspeed.DeepspeedStrategy.moving_average,
        distributed_util.stateless_init_process_group,
        torch.cuda.current_device,
    )
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_the_user_s_environment_wins(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    found = backend.environment()
    assert found["OMP_NUM_THREADS"] == "77"
    assert found["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert found.keys() == {*backend.ENVIRONMENT, "OPENRLHF_RAD_DTYPE"}


@pytest.mark.parametrize("wanted", ["bfloat16", "float32"])
def test_the_number_format_is_the_same_in_all_that_computes(wanted, monkeypatch):
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", wanted)
    dtype = getattr(torch, wanted)
    assert backend.environment()["OPENRLHF_RAD_DTYPE"] == wanted
    assert cpu.engine_arguments()["dtype"] == wanted
    assert utils.utils.convert_to_torch_dtype("bf16") == dtype
    assert utils.utils.convert_to_torch_dtype("fp16") == torch.float16
    for config in (
        deepspeed.get_train_ds_config(offload=False, optim_config={"type": "AdamW", "params": {"lr": 1e-3}}),
        deepspeed.get_eval_ds_config(offload=False),
    ):
        assert config["bf16"]["enabled"] is (wanted == "bfloat16")
        assert config["fp16"]["enabled"] is False


def test_adam_is_torch_s_which_nobody_compiles():
    given = {"type": "AdamW", "params": {"lr": 1e-3}}
    config = deepspeed.get_train_ds_config(offload=False, adam_offload=True, optim_config=given)
    assert config["optimizer"]["params"] == {"lr": 1e-3, "torch_adam": True, "fused": True}
    assert config["zero_optimization"]["offload_optimizer"]["device"] == "none"
    muon = {"type": "Muon", "params": {"lr": 1e-3}}
    assert deepspeed.get_train_ds_config(offload=False, optim_config=muon)["optimizer"] == muon


def test_float32_weights_are_saved_as_a_gpu_would_save_them(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from openrlhf_rad.plugin.cpu.device import write_as_bfloat16

    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    count = torch.tensor([1, 2**40])
    save_file({"weight": weight, "count": count}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text('{"dtype": "float32", "hidden_size": 3}')
    write_as_bfloat16(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert torch.equal(saved["weight"], weight.bfloat16())
    assert torch.equal(saved["count"], count)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert json.loads((tmp_path / "config.json").read_text()) == {"dtype": "bfloat16", "hidden_size": 3}


@pytest.fixture
def no_ray(monkeypatch):
    """What would be asked of Ray; nothing is started."""
    asked = []
    monkeypatch.setattr(backend, "_start_ray", asked.append)
    return asked


GPU_FLAGS = {
    "--ds.packing_samples": (),
    "--train.dynamic_batch_enable": (),
    "--vllm.enable_sleep": (),
    "--vllm.sync_with_ray": (),
    "--ds.load_in_4bit": (),
    "--ds.ring_attn_size": ("2",),
}


@pytest.mark.parametrize(("flag", "values"), GPU_FLAGS.items(), ids=GPU_FLAGS)
def test_flags_that_need_a_gpu_are_refused(flag, values, good_args, no_ray):
    message = f"{flag} needs a GPU and there is none; leave it out"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        backend.fit(good_args(flag, *values))
    assert no_ray == []


def test_several_flags_are_refused_at_once(good_args, no_ray):
    message = "--ds.packing_samples, --vllm.enable_sleep needs a GPU and there is none; leave it out"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        backend.fit(good_args("--vllm.enable_sleep", "--ds.packing_samples"))


def test_arguments_are_made_to_fit_a_cpu(openrlhf_args, no_ray, rad_options):
    args = openrlhf_args("--vllm.num_engines", "1", "--ref.num_gpus_per_node", "2")
    assert args.ds.attn_implementation == "flash_attention_2"
    backend.fit(args)
    backend.start(args, rad_options())
    assert (args.ds.adam_offload, args.vllm.enforce_eager, args.vllm.sync_backend) == (True, True, "gloo")
    assert args.ds.attn_implementation == "sdpa"
    assert (args.actor.num_gpus_per_node, args.reward.num_gpus_per_node) == (1, 1)
    assert args.ref.num_gpus_per_node == 2
    assert len(no_ray) == 1


def test_an_attention_of_the_user_s_stays(good_args, no_ray):
    args = good_args("--ds.attn_implementation", "eager")
    backend.fit(args)
    assert args.ds.attn_implementation == "eager"


class _Asked(Exception):
    """OpenRLHF has asked Ray for all that it needs."""


@pytest.fixture
def gpus_asked_for(monkeypatch, good_args, no_ray):
    """Runs OpenRLHF's own train() up to its trainer; counts the GPUs of the groups and engines it makes."""

    def count(*flags, without=()):
        args = good_args(*flags, without=without)
        total = []

        def group(nodes, gpus, *_, **__):
            total.append(nodes * gpus)
            return SimpleNamespace()

        def trainer(*_, **__):
            raise _Asked

        def parse(_flat):
            return args

        monkeypatch.setattr(launcher, "RayActorGroup", group)
        monkeypatch.setattr(
            openrlhf_ray, "create_vllm_engines", lambda number, size, *_, **__: total.append(number * size)
        )
        monkeypatch.setattr(ppo_trainer, "PPOTrainer", SimpleNamespace(remote=trainer))
        monkeypatch.setattr(utils, "get_strategy", lambda args: SimpleNamespace(print=lambda *_: None))
        monkeypatch.setattr(utils.config, "hierarchize", parse)
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(sys, "argv", ["train"])
        backend.fit(args)
        backend.start(args, None)
        with pytest.raises(_Asked):
            runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")
        return sum(total), no_ray.pop()

    return count


JOBS = {
    "a reward function": (),
    "no reference model": ("--algo.kl.init_coef", "0"),
    "two engines of two": ("--vllm.num_engines", "2", "--vllm.tensor_parallel_size", "2"),
    "larger groups": ("--actor.num_nodes", "2", "--ref.num_gpus_per_node", "3"),
    "a critic": ("--algo.advantage.estimator", "gae"),
    "a named critic": ("--algo.advantage.estimator", "gae", "--critic.model_name_or_path", "critic"),
    "a critic that is not used": ("--critic.model_name_or_path", "critic"),
    "an agent": ("--train.agent_func_path", "agent.py"),
}


@pytest.mark.parametrize("flags", JOBS.values(), ids=JOBS)
@pytest.mark.parametrize("reward", ["function", "model"])
def test_ray_gets_the_gpus_that_openrlhf_asks_for(flags, reward, gpus_asked_for):
    """Fewer, and the run would wait for ever."""
    if reward == "model":
        flags = ("--reward.model_name_or_path", "reward", *flags)
    asked, given = gpus_asked_for(*flags, without=("--reward.remote_url",) if reward == "model" else ())
    assert given == asked > 0


@pytest.mark.parametrize(
    ("cost", "flags", "more"),
    [
        ("cost.function=cost.py", (), 0),
        ("cost.remote_url=http://h/", (), 0),
        ("cost.model=cost", (), 1),
        ("cost.model=cost", ("--rad.cost_num_nodes", "2", "--rad.cost_num_gpus_per_node", "3"), 6),
    ],
)
def test_a_cost_model_gets_gpus_of_its_own(cost, flags, more, good_args, rad_options):
    without = backend.virtual_gpus(good_args(), rad_options())
    assert backend.virtual_gpus(good_args(), None) == without == 3
    assert backend.virtual_gpus(good_args(), rad_options("--rad.set", cost, *flags)) == without + more


def test_activation_sets_the_environment_of_the_processes_to_come(monkeypatch):
    monkeypatch.setattr(backend, "_active", False)
    monkeypatch.setattr(backend, "TOUCH_POINTS", ())
    for name in backend.ENVIRONMENT:
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setenv("DS_ACCELERATOR", "mine")
    cpu.activate()
    assert {name: os.environ[name] for name in backend.ENVIRONMENT} == {
        **backend.ENVIRONMENT,
        "DS_ACCELERATOR": "mine",
    }

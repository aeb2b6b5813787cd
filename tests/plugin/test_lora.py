"""LoRA adapters on their way to vLLM, through OpenRLHF's own weight sync: what arrives is the whole model."""

from types import SimpleNamespace

import pytest
import ray
import torch
from openrlhf.models import Actor
from openrlhf.trainer.ray import ppo_actor

from openrlhf_rad.plugin.actor import MergedWeight, merged_at_sync, merged_parameters


@pytest.fixture
def one_process():
    """A process group of this process alone, which OpenRLHF's weight sync asks for its rank."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def actor(tiny):
    """OpenRLHF's actor of the tiny policy, its adapters trained: B is not 0 any more."""

    def build(rank=4, dtype="fp32", targets="all-linear"):
        torch.manual_seed(3)
        made = Actor(
            str(tiny.policy),
            attn_implementation="eager",
            param_dtype="bf16",
            lora_rank=rank,
            lora_alpha=16,
            target_modules=targets,
        )
        made.model.to(getattr(torch, {"fp32": "float32", "bf16": "bfloat16"}[dtype]))
        with torch.no_grad():
            for name, parameter in made.model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(0.1 * torch.randn(parameter.shape))
        return made

    return build


class Sync:
    """OpenRLHF's trainer of the policy as far as its weight sync goes; what it sends is kept."""

    def __init__(self, actor, zero_stage=2):
        self.sent, self.received, self.calls = [], {}, []
        engine = SimpleNamespace(update_weight=SimpleNamespace(remote=self._announce))
        trainer = object.__new__(ppo_actor.ActorPPOTrainer)
        trainer.strategy = SimpleNamespace(
            args=SimpleNamespace(
                vllm=SimpleNamespace(sync_with_ray=False, enable_prefix_caching=False),
                ds=SimpleNamespace(zero_stage=zero_stage, tensor_parallel_size=1),
            )
        )
        trainer.actor = SimpleNamespace(model=SimpleNamespace(module=actor.model), is_vlm=False)
        trainer.vllm_engines, trainer.use_cuda_ipc = [engine], False
        trainer._model_update_group = SimpleNamespace(broadcast=self._broadcast)
        self.trainer = trainer

    def _announce(self, name, dtype, shape, empty_cache):
        self.calls.append((name, dtype, tuple(shape), empty_cache))

    def _broadcast(self, tensor, src, stream):
        name, dtype, shape, _ = self.calls[-1]
        assert (tensor.dtype, tuple(tensor.shape), src) == (dtype, shape, 0)
        self.received[name] = tensor.clone()

    def run(self):
        with merged_at_sync(self.trainer):
            self.trainer.broadcast_to_vllm()


@pytest.fixture
def sync(one_process, monkeypatch):
    monkeypatch.setattr(ray, "get", lambda references: references)
    return Sync


def plain_model(tiny, dtype=torch.float32):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny.policy, dtype=dtype, attn_implementation="eager")


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]], ids=str)
def test_a_plain_model_with_the_weights_that_arrive_is_the_policy(targets, actor, sync, tiny):
    """Logits of the adapted model against those of a model that knows nothing of adapters."""
    policy = actor(targets=targets)
    run = sync(policy)
    run.run()
    engine = plain_model(tiny)
    tokens = torch.arange(5, 25)[None]
    before = engine(tokens).logits
    engine.load_state_dict(run.received)  # strict: every name, and no other
    with torch.no_grad():
        expected = policy.model(tokens).logits
        torch.testing.assert_close(engine(tokens).logits, expected, rtol=1e-4, atol=1e-5)
    assert (expected - before).abs().max() > 0.01
    assert [last for *_, last in run.calls] == [False] * (len(run.calls) - 1) + [True]


def test_nothing_is_written_back(actor, sync):
    """Merging in place and out again would round the frozen weights a little at each sync."""
    policy = actor(dtype="bf16")
    before = {name: parameter.clone() for name, parameter in policy.model.named_parameters()}
    run = sync(policy)
    kept = run.trainer.actor
    for _ in range(3):
        run.run()
    assert run.trainer.actor is kept
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_weights_of_16_bits_are_rounded_once(actor):
    policy = actor(dtype="bf16")
    merged = {
        name: value for name, value in merged_parameters(policy.model) if isinstance(value, MergedWeight)
    }
    layers = dict(policy.model.get_base_model().named_modules())
    assert len(merged) == 14  # seven linear layers in each of two blocks
    for name, value in merged.items():
        layer = layers[name.removesuffix(".weight")]
        a, b = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
        exact = layer.base_layer.weight.double() + 16 / 4 * b @ a
        assert value.data.dtype == value.dtype == torch.bfloat16
        assert value.shape == layer.base_layer.weight.shape
        error = (value.data.double() - exact).abs()
        # A bfloat16 has 8 bits: half a unit in the last place of the sum, and of the product before it.
        bound = 2.0**-8 * (exact.abs() + (exact - layer.base_layer.weight.double()).abs()) + 1e-7
        assert (error <= bound).all()


def test_a_policy_without_adapters_is_sent_as_openrlhf_does(actor, sync):
    policy = actor(rank=0)
    run = sync(policy)
    run.run()
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(run.received[name], parameter)
    assert run.received.keys() == dict(policy.model.named_parameters()).keys()


def test_an_error_at_the_sync_leaves_the_trainer_as_it_was(actor, sync):
    run = sync(actor())
    kept = run.trainer.actor
    run.trainer._model_update_group = None
    with pytest.raises(AttributeError):
        run.run()
    assert run.trainer.actor is kept


def test_openrlhf_alone_would_send_names_that_no_engine_has(actor, sync, tiny):
    """The defect that this mends; when it goes, so can the mending."""
    run = sync(actor())
    run.trainer.broadcast_to_vllm()
    known = dict(plain_model(tiny).named_parameters())
    assert not known.keys() & run.received.keys()
    assert any("lora_A" in name for name in run.received)

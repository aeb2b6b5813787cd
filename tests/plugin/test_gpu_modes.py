"""Modes that need a GPU, by their contracts: what OpenRLHF does in them to RAD's parts, device aside."""

import asyncio
import inspect
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
from openrlhf.models import PolicyLoss
from openrlhf.models.loss import aggregate_loss
from openrlhf.trainer import ppo_trainer
from openrlhf.trainer.ppo_utils.experience import balance_experiences, split_experience_batch
from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.trainer.ray import ppo_actor, vllm_engine

from openrlhf_rad.plugin import sampling
from openrlhf_rad.plugin.actor import ReinforceLoss
from openrlhf_rad.plugin.experience import RadExperienceMaker
from openrlhf_rad.plugin.rollout import FailClosedRollout
from openrlhf_rad.plugin.sampling import AnswerSampler
from openrlhf_rad.plugin.trainer import RadTrainer


class Asleep(Exception):
    """An engine was asked for what it has no memory for."""


class Engine:
    """An engine's sleep as vLLM has it: weights and cache are there or not; each use is checked."""

    def __init__(self):
        self.awake = {"weights", "kv_cache"}
        self.calls = []

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *args, **kwargs: self._call(name, *args, **kwargs))

    def _call(self, name, *args, **kwargs):
        self.calls.append(name)
        if name == "sleep":
            self.awake = set()
        elif name == "wake_up":
            self.awake |= set(kwargs.get("tags") or ["weights", "kv_cache"])
        elif name == "generate" and self.awake != {"weights", "kv_cache"}:
            raise Asleep("generate")
        elif name == "update_weight" and "weights" not in self.awake:
            raise Asleep("update_weight")


@pytest.fixture
def sleeping(good_args, tokenizer, monkeypatch):
    """RAD's trainer with OpenRLHF's own calls to an engine that sleeps between them."""
    args = good_args("--train.colocate_all", "--vllm.enable_sleep")
    engine = Engine()
    monkeypatch.setattr(ray, "get", lambda found: found)
    monkeypatch.setattr(sampling, "Answers", SimpleNamespace(of=lambda *_: []))

    class Generator(SamplesGenerator):
        def _generate_vllm(self, **_):
            engine.generate.remote()
            return [], 1, True

    strategy = SimpleNamespace(args=args)
    maker = RadExperienceMaker(None, None, None, None, FixedKLController(0.0), strategy, tokenizer)
    maker.cost_sources = {}
    monkeypatch.setattr(maker, "split_rollout_samples", lambda samples: [SimpleNamespace(rewards=0)])
    monkeypatch.setattr(maker, "score_costs", lambda batches: None)
    made = object.__new__(RadTrainer)
    made.args, made.vllm_engines, made.experience_maker = args, [engine], maker
    made.actor_model_group = SimpleNamespace(
        async_run_method=lambda method_name: engine.update_weight.remote() and []
    )
    made.samples_generator = Generator(strategy, [], None, tokenizer, [engine])
    made.sampler = AnswerSampler(made.samples_generator, maker, {})
    vllm_engine.batch_vllm_engine_call([engine], "sleep")  # as create_vllm_engines leaves it
    return made, engine


def test_sleep_every_use_of_an_engine_finds_it_awake(sleeping):
    """Reference answers, held-out answers, two steps, held-out answers again; in the end it sleeps."""
    trainer, engine = sleeping
    trainer.sampler.sample([], [])
    trainer.sampler.sample([], [])
    for _ in range(2):
        trainer.samples_generator.generate_samples()
        trainer.samples_generator._dataloader_iter = None
        trainer.broadcast_to_vllm()
    trainer.sampler.sample([], [])
    assert engine.calls.count("generate") == 5
    assert engine.calls.count("update_weight") == trainer.experience_maker.weight_syncs == 2
    assert engine.awake == set()


def test_sleep_is_noticed_by_this_test(sleeping):
    """Without the wake-up the engine would be asked in its sleep."""
    trainer, _ = sleeping
    trainer.args.vllm.enable_sleep = False
    with pytest.raises(Asleep):
        trainer.sampler.sample([], [])


def test_sleep_the_trainer_wakes_the_weights_before_it_hands_them_over():
    assert 'tags=["weights"]' in inspect.getsource(ppo_trainer.BasePPOTrainer.broadcast_to_vllm)


# dynamic batches: samples are dealt out by length, before the models and again before training

LENGTHS = (1, 20, 2, 3, 4, 5, 6, 7)
ANSWERS = [" ".join(["help-ba"] * length) for length in LENGTHS]
BONUS = np.linspace(-2, 3, 8)


@pytest.fixture
def made(good_args, rollout, tokenizer, forwarded):
    """Advantages of eight answers, by their number of words, in dynamic batches or in fixed ones."""

    def make(*flags):
        args = good_args(*flags, "--actor.num_gpus_per_node", "2", settled=True)
        args.train.max_tokens_per_gpu = args.rollout.max_tokens_per_gpu = 24
        strategy = SimpleNamespace(args=args)
        maker = RadExperienceMaker(None, None, None, None, FixedKLController(0.0), strategy, tokenizer)
        samples = [
            rollout("plain-ba", answer, reward=float(place), max_len=32)
            for place, answer in enumerate(ANSWERS)
        ]
        for place, sample in enumerate(samples):
            sample.info["cost"] = torch.tensor([10.0 * place])
        found = forwarded(maker.split_rollout_samples(samples))
        order = list(itertools.chain.from_iterable(experience.index for experience in found))

        class Constraints:
            parts = (None,)

            def __call__(self, scored):
                return SimpleNamespace(bonus_b=BONUS[order], advantage_b=0 * BONUS, metrics={})

        maker.constraints = Constraints()
        maker.cost_sources, maker.seconds_cost = {"cost": None}, 0.0
        return args, maker.compute_advantages_and_returns(found)

    return make


def by_length(experiences):
    """Words of the answer → advantage, cost and reward."""
    found = {}
    for item in itertools.chain.from_iterable(map(split_experience_batch, experiences)):
        tokens = item.action_mask.bool()
        info = (float(item.info["cost"]), float(item.info["reward"]))
        found[int(tokens.sum())] = (item.advantages[tokens].numpy(), *info)
    return found


def test_dynamic_batches_leave_every_answer_its_own_cost_and_advantage(made):
    args, dynamic = made("--train.dynamic_batch_enable")
    _, fixed = made()
    sizes = [len(experience.sequences) for experience in dynamic]
    assert len(set(sizes)) > 1, sizes
    expected = by_length(fixed)
    for found in (by_length(dynamic), by_length(balance_experiences(dynamic, args))):
        assert found.keys() == expected.keys() == set(LENGTHS)
        for length, (advantage, *numbers) in found.items():
            np.testing.assert_allclose(advantage, expected[length][0], rtol=1e-5)
            assert tuple(numbers) == expected[length][1:]


def test_dynamic_batches_add_up_to_the_gradient_of_the_whole_batch():
    """REINFORCE on micro-batches of one, five and two answers, each with the tokens of the whole step."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(20) < torch.tensor([[length] for length in LENGTHS])).float()
    advantages = torch.randn(8, 1, generator=generator) * mask
    old = torch.randn(8, 20, generator=generator)
    log_probs = torch.randn(8, 20, generator=generator, requires_grad=True)
    loss = ReinforceLoss(PolicyLoss())
    tokens = mask.sum()
    for rows in ([4], [0, 1, 2, 3, 5], [6, 7]):
        part = loss(
            log_probs[rows], old[rows], advantages[rows], action_mask=mask[rows], batch_num_tokens=tokens
        )
        part[0].backward()
    torch.testing.assert_close(log_probs.grad, -advantages * mask / tokens)
    assert aggregate_loss(mask, mask, batch_num_tokens=tokens) == 1


# weights by CUDA IPC: engine and policy on one GPU


def test_ipc_every_weight_is_handed_over_and_the_last_one_marked(monkeypatch):
    """OpenRLHF's own loop; a handle is the tensor itself here."""
    from torch.multiprocessing import reductions

    monkeypatch.setattr(reductions, "reduce_tensor", lambda tensor: tensor)
    monkeypatch.setattr(ppo_actor, "get_physical_gpu_id", lambda: "gpu")
    monkeypatch.setattr(ray, "get", lambda found: found)
    calls = []
    engine = SimpleNamespace(
        update_weight_cuda_ipc=SimpleNamespace(remote=lambda name, **rest: calls.append((name, rest)))
    )
    module = torch.nn.Linear(3, 2)
    trainer = object.__new__(ppo_actor.ActorPPOTrainer)
    ds = SimpleNamespace(zero_stage=2, tensor_parallel_size=1)
    args = SimpleNamespace(vllm=SimpleNamespace(enable_prefix_caching=False), ds=ds)
    trainer.strategy, trainer.vllm_engines = SimpleNamespace(args=args), [engine]
    trainer.actor, trainer.use_cuda_ipc = SimpleNamespace(model=SimpleNamespace(module=module)), True
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        trainer.broadcast_to_vllm()
    finally:
        torch.distributed.destroy_process_group()
    assert [(name, rest["empty_cache"]) for name, rest in calls] == [("weight", False), ("bias", True)]
    for name, rest in calls:
        assert torch.equal(rest["ipc_handles"]["gpu"], getattr(module, name))


def test_ipc_is_chosen_by_openrlhf_where_models_share_a_gpu_under_nccl():
    text = inspect.getsource(ppo_actor.ActorPPOTrainer.__init__)
    assert 'self.use_cuda_ipc = backend == "nccl" and self.args.train.colocate_all' in text


@pytest.mark.parametrize("name", ["update_weight", "update_weight_cuda_ipc"], ids=["broadcast", "ipc"])
def test_an_engine_counts_the_syncs_that_it_has_seen(name, tmp_path):
    """ipc and broadcast alike, at the last weight of each."""

    async def rpc(method, args):
        return (method, args)

    async def syncs():
        worker = FailClosedRollout.__new__(FailClosedRollout)
        worker.llm = SimpleNamespace(collective_rpc=rpc)
        extra = {"ipc_handles": {}} if name.endswith("ipc") else {}
        seen = []
        for last in (False, False, True, False, True):
            method, args = await getattr(worker, name)("w", torch.bfloat16, (2,), **extra, empty_cache=last)
            assert (method, args[-1]) == (name, last)
            seen.append(worker._weight_syncs)
        return seen

    assert asyncio.run(syncs()) == [0, 0, 1, 1, 2]

"""What RAD takes for granted in OpenRLHF: names, parameters and calls. The first to fail on a new version."""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from openrlhf.models.loss import PolicyLoss
from openrlhf.trainer import ppo_trainer, ppo_trainer_async
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.trainer.ray import launcher, ppo_actor, ppo_critic, vllm_engine
from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap
from openrlhf.utils.agent import SingleTurnAgentExecutor
from openrlhf.utils.deepspeed import deepspeed
from ray.actor import ActorClass

from openrlhf_rad.plugin import contract
from openrlhf_rad.plugin.attach import plain_class
from openrlhf_rad.plugin.cpu.device import CpuWorkerExtension

Trainer = plain_class(ppo_trainer, "PPOTrainer")
Policy = plain_class(ppo_actor, "PolicyModelActor")
Rollout = plain_class(vllm_engine, "RolloutRayActor")
Reward = plain_class(launcher, "RewardModelActor")
Strategy = deepspeed.DeepspeedStrategy

#: The text of OpenRLHF's command; it is run as a script, never imported.
COMMAND = Path(find_spec("openrlhf.cli.train_ppo_ray").origin).read_text()

SIGNATURES = contract.SIGNATURES


def owner_and_name(entry):
    """What an entry names: the class (of an actor its Python class) or module, and the function in it."""
    module, path = entry.split(":")
    owner, _, name = path.rpartition(".")
    found = importlib.import_module(module)
    if owner:
        found = getattr(found, owner)
        found = found if inspect.isclass(found) else plain_class(importlib.import_module(module), owner)
    return found, name


def original(owner, name):
    """The function as OpenRLHF has it, also where the CPU backend has replaced it in this process."""
    function = owner if name is None else inspect.getattr_static(owner, name)
    for _ in range(3):
        if getattr(function, "__module__", "").startswith("openrlhf_rad."):
            cells = inspect.getclosurevars(function).nonlocals
            function = next(one for one in cells.values() if inspect.isfunction(one))
    return function


def source(owner, name, last=False):
    """The syntax tree of a function in a module or class; of several of one name the first, or the last."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    return functions[-1 if last else 0]


def parameters(function):
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return " ".join(
        marks.get(p.kind, "") + p.name + ("=" if p.default is not inspect.Parameter.empty else "")
        for p in inspect.signature(function).parameters.values()
        if p.name != "_ray_trace_ctx"  # Ray's own, in every method of an actor
    )


@pytest.mark.parametrize("entry", SIGNATURES)
def test_signatures(entry):
    owner, name = owner_and_name(entry)
    if name == "stateless_init_process_group":
        arguments = source(owner, name).args.args  # replaced for good: read the file
        assert " ".join(argument.arg for argument in arguments) == SIGNATURES[entry]
    else:
        assert parameters(original(owner, name)) == SIGNATURES[entry]


def test_the_device_mesh_of_torch():
    expected = "device_type mesh_shape mesh_dim_names= backend_override="
    assert parameters(original(deepspeed, "init_device_mesh")) == expected


def test_the_configuration_of_deepspeed_is_built_by_a_function_of_any_arguments():
    """The CPU backend passes them on and changes one value of what comes back."""
    built = original(deepspeed, "get_train_ds_config")(offload=False)
    assert built["zero_optimization"]["reduce_bucket_size"] == "auto"


def test_the_check_of_the_doctor_passes_too():
    """It reads the files alone, so that it can be asked about a version that cannot be imported."""
    for package in contract.PACKAGES:
        assert contract.broken(package, contract.package_folder(package)) == []
        assert contract.size(package) > 0


def test_every_flag_that_is_read_is_in_the_contract():
    """But for those that older versions do not have, which are filled in."""
    filled = {
        "actor.loss_agg_mode",
        *(f"algo.advantage.is_correction_{what}" for what in ("level", "mode", "gating")),
    }
    known = {f"{flag}." for flag in contract.FLAGS | filled}
    root = Path(contract.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in root.rglob("*.py")]
    read = {name for text in texts for name in re.findall(r"\bargs\.((?:[a-z]\w*\.)+[a-z]\w*)", text)}
    assert len(read) > 40
    assert [name for name in sorted(read) if not any(flag.startswith(f"{name}.") for flag in known)] == []


def test_a_flag_that_is_gone_is_noticed(tmp_path):
    folder = contract.package_folder("openrlhf")
    for name in ("cli/train_ppo_ray.py", "utils/config.py"):
        (tmp_path / name).parent.mkdir()
        text = (folder / name).read_text().replace('"--train.seed"', '"--train.random_seed"')
        (tmp_path / name).write_text(text)
    told = "--train.seed is not a flag of openrlhf.cli.train_ppo_ray; the plugin reads it"
    assert [line for line in contract.broken("openrlhf", tmp_path) if line.startswith("--")] == [told]


@pytest.mark.parametrize("entry", SIGNATURES)
def test_the_check_of_the_doctor_notices_each_change(entry, tmp_path):
    """Of a copy in which the function has another name, then another parameter."""
    module, path = entry.split(":")
    name = path.rpartition(".")[2]
    package, *places = module.split(".")
    folder = contract.package_folder(package)
    text = folder.joinpath(*places).with_suffix(".py").read_text()
    for found, word in ((f"def {name}(", "is missing"), (f"def {name}(", "takes (")):
        changed = f"def {name}_(" if word == "is missing" else f"def {name}(added, "
        copy = tmp_path / word.split()[0]
        file = copy.joinpath(*places).with_suffix(".py")
        file.parent.mkdir(parents=True)
        file.write_text(text.replace(found, changed))
        mine = [line for line in contract.broken(package, copy) if line.startswith(f"{module}.{path} ")]
        assert mine
        assert word in mine[0]


@pytest.mark.parametrize("name", ["init_process_group", "update_weight"])
def test_the_worker_of_a_cpu_is_called_as_openrlhf_s_is(name):
    assert parameters(getattr(CpuWorkerExtension, name)) == parameters(getattr(WorkerWrap, name))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (ppo_trainer, "PPOTrainer"),
        (ppo_trainer_async, "PPOTrainerAsync"),
        (ppo_trainer_async, "GenerateSamplesActor"),
        (ppo_trainer_async, "TrainingActor"),
        (ppo_actor, "PolicyModelActor"),
        (ppo_critic, "CriticModelActor"),
        (vllm_engine, "RolloutRayActor"),
        (launcher, "RewardModelActor"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_actors_are_ray_classes_that_show_their_python_class(module, name):
    assert isinstance(getattr(module, name), ActorClass)
    assert plain_class(module, name).__name__ == name
    assert inspect.isclass(plain_class(module, name))


def calls(tree, name):
    """Every call of ``name`` or ``….name`` under a syntax tree."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) == name or getattr(node.func, "id", None) == name)
    ]


def test_policy_loss_gives_five_results_and_is_called_with_a_mask_by_name():
    mask = torch.ones(2, 3)
    log_probs = torch.zeros(2, 3)
    loss, clip_ratio, ppo_kl, vllm_kl, filtered = PolicyLoss()(
        log_probs, log_probs - 1, mask, action_mask=mask
    )
    assert (loss.item(), clip_ratio.item(), ppo_kl.item()) == pytest.approx((-1.2, 1.0, -1.0))
    assert vllm_kl is filtered is None
    (call,) = calls(source(ppo_actor.ActorPPOTrainer, "training_step"), "actor_loss_fn")
    assert len(call.args) == 3
    assert [keyword.arg for keyword in call.keywords] == ["action_mask", "rollout_log_probs", None]


def test_the_policy_actor_keeps_its_trainer_with_the_loss():
    assert "self.trainer = ActorPPOTrainer(" in inspect.getsource(Policy.init_model_from_pretrained)
    assert "self.actor_loss_fn = PolicyLoss(" in inspect.getsource(ppo_actor.ActorPPOTrainer.__init__)


def test_the_trainer_has_what_the_hooks_read():
    text = inspect.getsource(ppo_trainer)
    for name in (
        "samples_generator",
        "generate_kwargs",
        "prompts_dataloader",
        "experience_maker",
        "kl_ctl",
        "strategy",
        "tokenizer",
        "args",
    ):
        assert f"self.{name} = " in text or f"self.{name}, " in text


def test_the_sample_generator_only_passes_its_tokenizer_on():
    """RAD puts a reference in its place, which only RAD's rollout workers can read."""
    text = inspect.getsource(SamplesGenerator)
    assert text.count("self.tokenizer") == 2
    assert "self.tokenizer = tokenizer" in text
    assert "hf_tokenizer=self.tokenizer," in text


def test_the_trainer_s_steps_are_called_as_methods():
    fit = source(ppo_trainer, "fit", last=True)
    for name in ("init_checkpoint_states", "train_step", "save_logs_and_checkpoints"):
        assert len(calls(fit, name)) == 1
    batch = source(RemoteExperienceMaker, "make_experience_batch")
    for name in ("split_rollout_samples", "make_experience", "compute_advantages_and_returns"):
        assert len(calls(batch, name)) == 1


def test_metrics_that_are_copied_are_written_by_openrlhf():
    from openrlhf_rad.plugin.trainer import _OPENRLHF_METRICS

    text = "".join(map(inspect.getsource, (ppo_trainer, RemoteExperienceMaker, ppo_actor)))
    for name in _OPENRLHF_METRICS.values():
        assert f'"{name}"' in text


def test_an_experience_has_the_fields_that_are_read():
    fields = {field.name for field in dataclasses.fields(Experience)}
    assert fields >= {
        "sequences",
        "attention_mask",
        "action_mask",
        "rewards",
        "prompts",
        "labels",
        "index",
        "info",
    }


def test_the_command_parses_then_makes_a_tree_then_trains():
    """The one place between parsing and training where the arguments are checked."""
    main = COMMAND[COMMAND.index('if __name__ == "__main__":') :]
    order = ["parser.parse_args()", "import hierarchize", "args = hierarchize(args)", "train(args)"]
    places = [main.index(words) for words in order]
    assert places == sorted(places)


def test_the_command_looks_the_classes_up_where_they_are_replaced():
    head, train = COMMAND[: COMMAND.index('if __name__ == "__main__":')].split("def train(args):")
    assert "from openrlhf.trainer.ppo_trainer import PPOTrainer" in train
    assert "from openrlhf.trainer.ray.ppo_actor import PolicyModelActor" in head
    assert "RayActorGroup" in head
    assert "from openrlhf.trainer.ray import create_vllm_engines" in head
    assert "RolloutRayActor.options(" in inspect.getsource(vllm_engine.create_vllm_engines)


def test_the_engine_s_responses_hold_what_is_scored_again():
    text = inspect.getsource(SingleTurnAgentExecutor.execute)
    for key in ("prompt", "label", "observation_tokens", "reward", "scores", "extra_logs"):
        assert f'"{key}": ' in text
    made = SingleTurnAgentExecutor(["http://127.0.0.1:1/"])
    assert made.reward_endpoints == ["http://127.0.0.1:1/"]
    assert made.reward_func is None


def test_both_loops_of_asynchronous_training_start_after_the_trainer_s_checkpoint():
    """RAD samples its reference in that call: no loop runs yet, the engines hold the start's weights."""
    fit = source(ppo_trainer_async, "fit", last=True)
    text = ast.unparse(fit)
    order = ["init_checkpoint_states.remote", "generator_actor.fit.remote", "trainer_actor.fit.remote"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    # One ray.get for both, which raises as soon as either has failed.
    (both,) = [call for call in calls(fit, "get") if "generator_actor.fit.remote" in ast.unparse(call)]
    assert "trainer_actor.fit.remote" in ast.unparse(both)


def test_an_adapted_layer_of_peft_shows_its_base_and_its_change():
    from peft.tuners.lora import Linear, LoraLayer

    assert set(LoraLayer.adapter_layer_names) >= {"lora_A", "lora_B"}
    assert parameters(Linear.get_delta_weight) == "self adapter"
    assert parameters(LoraLayer.get_base_layer) == "self"
    assert isinstance(inspect.getattr_static(LoraLayer, "active_adapters"), property)

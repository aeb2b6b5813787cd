"""What the plugin takes for granted in OpenRLHF and under it, checked on their source files, without imports.

A package is read by its syntax tree, so that the check takes a second, needs no GPU, and works on an unpacked
archive as on an installed version. tests/plugin/test_contract.py compares it with the imported modules.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

GROUPS = "actor_model_group critic_model_group reward_model_group"
SYNC = "self master_address master_port rank_offset world_size group_name backend use_ray"
_UTILS = "openrlhf.trainer.ppo_utils"
_RAY = "openrlhf.trainer.ray"
_ASYNC = "openrlhf.trainer.ppo_trainer_async"

#: Packages that the contract is about.
PACKAGES = ("openrlhf", "ray", "deepspeed", "vllm", "torch")

#: Module:function → its parameters in order; an optional one is marked by "=", the rest by * and **.
SIGNATURES = {
    # trainer
    "openrlhf.trainer.ppo_trainer:PPOTrainer.__init__": (
        f"self pretrain strategy {GROUPS} reference_model_group vllm_engines **generate_kwargs"
    ),
    "openrlhf.trainer.ppo_trainer:PPOTrainer.fit": "self global_step=",
    "openrlhf.trainer.ppo_trainer:PPOTrainer.get_max_steps": "self",
    "openrlhf.trainer.ppo_trainer:PPOTrainer.train_step": "self rollout_samples global_step",
    "openrlhf.trainer.ppo_trainer:PPOTrainer.save_logs_and_checkpoints": (
        "self global_step logs_dict= client_states="
    ),
    "openrlhf.trainer.ppo_trainer:PPOTrainer.save_best_checkpoint": (
        "self eval_metrics global_step client_states="
    ),
    "openrlhf.trainer.ppo_trainer:PPOTrainer.init_checkpoint_states": "self",
    "openrlhf.trainer.ppo_trainer:PPOTrainer.broadcast_to_vllm": "self",
    "openrlhf.trainer.ppo_trainer:PPOTrainer.ppo_train": "self global_steps",
    "openrlhf.trainer.ppo_trainer:prepare_datasets": "strategy tokenizer",
    # asynchronous trainer
    f"{_ASYNC}:PPOTrainerAsync.__init__": (
        f"self pretrain strategy {GROUPS} reference_model_group vllm_engines **generate_kwargs"
    ),
    f"{_ASYNC}:PPOTrainerAsync.fit": "self",
    f"{_ASYNC}:GenerateSamplesActor.__init__": (
        "self pretrain strategy vllm_engines vllm_lock rollout_queue rollout_slots **generate_kwargs"
    ),
    f"{_ASYNC}:TrainingActor.__init__": (
        f"self pretrain strategy {GROUPS} reference_model_group vllm_engines vllm_lock rollout_queue"
        " rollout_slots"
    ),
    f"{_ASYNC}:TrainingActor.fit": "self global_step=",
    f"{_ASYNC}:TrainingActor.broadcast_to_vllm": "self",
    # experience
    f"{_UTILS}.experience_maker:RemoteExperienceMaker.__init__": (
        f"self {GROUPS} initial_model_group kl_controller strategy tokenizer **kwargs"
    ),
    f"{_UTILS}.experience_maker:RemoteExperienceMaker.split_rollout_samples": "self rollout_samples",
    f"{_UTILS}.experience_maker:RemoteExperienceMaker.make_experience_batch": "self rollout_samples",
    f"{_UTILS}.experience_maker:RemoteExperienceMaker.make_experience": "self samples_list",
    f"{_UTILS}.experience_maker:RemoteExperienceMaker.compute_advantages_and_returns": "self experiences",
    f"{_UTILS}.experience_maker:RemoteExperienceMaker._dispatch_forward": (
        "self group sync_condition **kwargs"
    ),
    f"{_UTILS}.experience_maker:RemoteExperienceMaker._flatten_results": "self refs duplicate_factor",
    f"{_UTILS}.length_penalty:apply_length_penalties": "experiences args",
    # sampling
    f"{_UTILS}.samples_generator:SamplesGenerator.__init__": (
        "self strategy prompts_dataloader eval_dataloader tokenizer vllm_engines"
    ),
    f"{_UTILS}.samples_generator:SamplesGenerator.generate_samples": "self **generate_kwargs",
    f"{_UTILS}.samples_generator:SamplesGenerator._dispatch_prompts_to_vllm": (
        "self prompts labels images= **generate_kwargs"
    ),
    f"{_UTILS}.samples_generator:SamplesGenerator._generate_vllm": (
        "self dataloader_iter num_prompts dynamic_filtering **generate_kwargs"
    ),
    f"{_UTILS}.samples_generator:SamplesGenerator._process_response_into_experience": (
        "self response **generate_kwargs"
    ),
    f"{_RAY}.vllm_engine:batch_vllm_engine_call": "engines method_name *args rank_0_only= **kwargs",
    "openrlhf.datasets.prompts_dataset:PromptDataset.__init__": (
        "self dataset tokenizer strategy input_template="
    ),
    "openrlhf.datasets.prompts_dataset:PromptDataset.collate_fn": "self item_list",
    "openrlhf.datasets.utils:blending_datasets": (
        "datasets probabilities= strategy= seed= max_count= stopping_strategy= dataset_split="
    ),
    # actors
    f"{_RAY}.ppo_actor:PolicyModelActor.init_model_from_pretrained": (
        "self strategy pretrain max_steps= vllm_engines="
    ),
    f"{_RAY}.ppo_actor:PolicyModelActor.broadcast_to_vllm": "self",
    f"{_RAY}.ppo_actor:PolicyModelActor.save_checkpoint": "self tag client_states= metric_value= metric_key=",
    f"{_RAY}.ppo_actor:PolicyModelActor.save_model": "self",
    "openrlhf.utils.deepspeed.deepspeed:DeepspeedStrategy.load_ckpt": (
        "self model load_dir tag= load_module_strict= load_optimizer_states= load_lr_scheduler_states="
        " load_module_only="
    ),
    f"{_RAY}.ppo_critic:CriticModelActor.init_model_from_pretrained": "self strategy pretrain max_steps",
    f"{_RAY}.ppo_critic:CriticModelActor.save_checkpoint": "self tag metric_value= metric_key=",
    "openrlhf.utils.distributed_util:torch_dist_barrier_and_cuda_sync": "",
    f"{_RAY}.ppo_actor:ActorPPOTrainer.broadcast_to_vllm": "self",
    f"{_RAY}.launcher:RewardModelActor.init_model_from_pretrained": "self strategy pretrain",
    f"{_RAY}.launcher:RewardModelActor.forward": (
        "self sequences attention_mask= packed_seq_lens= pad_sequence="
    ),
    f"{_RAY}.launcher:RewardModelActor.empty_cache": "self",
    f"{_RAY}.launcher:RayActorGroup.__init__": (
        "self num_nodes num_gpus_per_node ray_actor_type pg= num_gpus_per_actor= duplicate_actors= resources="
        " num_resources_per_node="
    ),
    f"{_RAY}.launcher:RayActorGroup.async_init_model_from_pretrained": "self *args **kwargs",
    f"{_RAY}.launcher:RayActorGroup.async_run_method": "self method_name *args **kwargs",
    f"{_RAY}.launcher:RayActorGroup.async_run_method_batch": "self method_name **kwargs",
    # loss
    "openrlhf.models.loss:PolicyLoss.forward": (
        "self log_probs old_log_probs advantages action_mask= rollout_log_probs= dp_size= batch_num_tokens="
        " global_batch_size="
    ),
    # rollout
    f"{_RAY}.vllm_engine:RolloutRayActor.__init__": (
        "self *args bundle_indices= agent_func_path= remote_rm_url= mm_pad_token_ids= **kwargs"
    ),
    f"{_RAY}.vllm_engine:RolloutRayActor.generate_responses": (
        "self prompt label sampling_params max_length hf_tokenizer num_samples= images="
    ),
    f"{_RAY}.vllm_engine:RolloutRayActor.generate": "self prompt_token_ids sampling_params multi_modal_data=",
    f"{_RAY}.vllm_engine:RolloutRayActor.pause_generation": "self",
    f"{_RAY}.vllm_engine:RolloutRayActor.resume_generation": "self",
    f"{_RAY}.vllm_engine:RolloutRayActor.get_num_unfinished_requests": "self",
    f"{_RAY}.vllm_engine:RolloutRayActor.update_weight": "self name dtype shape empty_cache=",
    f"{_RAY}.vllm_engine:RolloutRayActor.update_weight_cuda_ipc": (
        "self name dtype shape ipc_handles empty_cache="
    ),
    "openrlhf.utils.agent:SingleTurnAgentExecutor.__init__": "self remote_rm_url=",
    "openrlhf.utils.agent:SingleTurnAgentExecutor._fetch_rewards_via_func": (
        "self queries_list prompts_list labels_list"
    ),
    "openrlhf.utils.agent:SingleTurnAgentExecutor._fetch_rewards_via_http": (
        "self queries_list prompts_list labels_list"
    ),
    # command
    "openrlhf.utils.config:hierarchize": "args",
    # engine
    "vllm.v1.engine.async_llm:AsyncLLM.collective_rpc": "self method timeout= args= kwargs=",
    # CPU backend
    f"{_RAY}.vllm_engine:RolloutRayActor.init_process_group": SYNC,
    f"{_RAY}.vllm_worker_wrap:WorkerWrap.init_process_group": SYNC.replace(
        "backend use_ray", "backend= use_ray="
    ),
    f"{_RAY}.vllm_worker_wrap:WorkerWrap.update_weight": "self name dtype shape empty_cache=",
    "openrlhf.utils.distributed_util:stateless_init_process_group": (
        "master_address master_port rank world_size device"
    ),
    f"{_UTILS}.replay_buffer:NaiveReplayBuffer.__init__": (
        "self sample_batch_size limit= cpu_offload= packing_samples= dynamic_batch="
    ),
    "openrlhf.utils.deepspeed.deepspeed:DeepspeedStrategy.moving_average": (
        "self model model_ema beta= device="
    ),
}

#: Flags whose values the plugin reads, beside command_line.LOOKED_AT. Those that it can do without
#: (compatibility.adapt) are not here.
FLAGS = frozenset(
    [
        "actor.model_name_or_path",
        "actor.policy_loss_type",
        "algo.advantage.estimator",
        "algo.advantage.gamma",
        "algo.advantage.is_correction_threshold",
        "algo.advantage.lambd",
        "algo.dynamic_filtering_enable",
        "algo.kl.estimator",
        "algo.kl.unbiased_gradient",
        "algo.kl.use_loss",
        "ckpt.disable_ds",
        "ckpt.load_enable",
        "ckpt.output_dir",
        "ckpt.path",
        "critic.freezing_steps",
        "data.apply_chat_template",
        "data.input_key",
        "data.input_template",
        "data.label_key",
        "data.prompt_dataset",
        "data.prompt_split",
        "ds.adam_offload",
        "ds.attn_implementation",
        "ds.load_in_4bit",
        "ds.packing_samples",
        "ds.zero_stage",
        "reward.clip_range",
        "reward.model_name_or_path",
        "reward.normalize_enable",
        "reward.overlong_buffer_len",
        "reward.remote_url",
        "reward.stop_properly_penalty_coef",
        "train.agent_func_path",
        "train.async_enable",
        "train.colocate_all",
        "train.dynamic_batch_enable",
        "train.enable_ema",
        "train.full_determinism_enable",
        "train.seed",
        "vllm.enable_sleep",
        "vllm.enforce_eager",
        "vllm.num_engines",
        "vllm.sync_backend",
        "vllm.sync_with_ray",
    ]
)

#: Module → texts that its file must hold: names that are looked up, and keys that are read.
TEXTS: dict[str, tuple[str, ...]] = {
    "openrlhf.trainer.ray": ("import batch_vllm_engine_call, create_vllm_engines",),
    "openrlhf.cli.train_ppo_ray": (
        "    args = parser.parse_args()\n",
        "args = hierarchize(args)",
        "    train(args)\n",
        "from openrlhf.trainer.ppo_trainer import PPOTrainer",
        "from openrlhf.trainer.ppo_trainer_async import PPOTrainerAsync",
        "from openrlhf.trainer.ray.ppo_actor import PolicyModelActor",
        "from openrlhf.trainer.ray import create_vllm_engines",
        "RayActorGroup",
        "    RewardModelActor,\n)",
    ),
    "openrlhf.trainer.ppo_trainer": (
        "self.experience_maker = ",
        "self.samples_generator = ",
        "self.kl_ctl = ",
        "self.generate_kwargs = ",
        '"rollout/reward_mean"',
        '"timing/step_total"',
    ),
    _ASYNC: (
        "GenerateSamplesActor.remote(",
        "TrainingActor.remote(",
        "ray.get(self.trainer_actor.init_checkpoint_states.remote())",
        "self.generator_actor.fit.remote(",
        "self.trainer_actor.fit.remote(",
        "self.samples_generator = ",
    ),
    f"{_UTILS}.experience_maker": (
        "self.advantage_estimator = ",
        '"group_norm"',
        'experience.info["return"] = ',
    ),
    f"{_RAY}.ppo_actor": (
        "self.trainer = ActorPPOTrainer(",
        "self.actor_loss_fn = PolicyLoss(",
        "model = self.actor.model.module",
        "model.named_parameters()",
        "self.disable_ds_ckpt = ",
        'experience.info["vllm_kl"] = ',
    ),
    "openrlhf.models.actor": (
        "self.model = get_peft_model(self.model, lora_config)",
        "from openrlhf.utils.utils import convert_to_torch_dtype",
    ),
    "openrlhf.models.model": (
        "from openrlhf.utils.utils import convert_to_torch_dtype",
        "model = cls_class.from_pretrained(",
        'value_head_prefix = getattr(config, "value_head_prefix", value_head_prefix)',
        "setattr(self, value_head_prefix, nn.Linear(config.hidden_size, 1, bias=False))",
    ),
    f"{_RAY}.ppo_critic": ("self.disable_ds_ckpt = ",),
    f"{_RAY}.vllm_engine": (
        "RolloutRayActor.options(",
        "self.llm = ",
        "self.executor = SingleTurnAgentExecutor(remote_rm_url)",
    ),
    f"{_UTILS}.samples_generator": (
        "self.tokenizer = tokenizer",
        "hf_tokenizer=self.tokenizer,",
        "self._dataloader_iter = iter(self.prompts_dataloader)",
        "self._sample_buffer",
    ),
    "openrlhf.utils.agent": (
        '"observation_tokens": ',
        '"scores": ',
        '"extra_logs": ',
        "self.reward_endpoints = ",
        "if self.reward_func:",
    ),
    "openrlhf.utils.deepspeed.deepspeed": (
        "init_device_mesh",
        "    get_train_ds_config,",
        "    get_eval_ds_config,",
        "def save_model(self, model: nn.Module, tokenizer, output_dir, **kwargs)",
    ),
    "openrlhf.utils.deepspeed.deepspeed_utils": (
        '"bf16": {',
        '"offload_optimizer": {',
        "def offload_deepspeed_states(",
        "def reload_deepspeed_states(",
    ),
    "ray.actor": ("class ActorClass", "modified_class"),
    "ray.exceptions": ("class ActorDiedError", "class ActorUnavailableError", "class WorkerCrashedError"),
    "deepspeed.comm.torch": ("self.shm_comm_op = build_shm_op()", "if self.shm_comm_op != None"),
    "deepspeed.runtime.engine": ("torch_adam = optimizer_parameters.pop(TORCH_ADAM_PARAM",),
    "vllm.v1.engine.async_llm": ("def errored(self)", "def dead_error(self)"),
    "vllm.v1.engine.exceptions": ("class EngineDeadError(",),
    "torch.utils.cpp_extension": (
        "from .file_baton import FileBaton",
        "baton = FileBaton(os.path.join(build_directory, 'lock'))",
        "if baton.try_acquire():",
        "baton.release()",
        "baton.wait()",
    ),
}


def package_folder(package: str) -> Path | None:
    """Where a package is installed, without importing it; None where it is not."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def broken(package: str, folder: Path) -> list[str]:
    """What of the contract a package's folder does not keep, one line each; empty when it keeps all."""
    return [*_signatures(package, folder), *_texts(package, folder), *_flags(package, folder)]


def size(package: str) -> int:
    """How many signatures, texts and flags the contract has for a package."""
    return (
        sum(name.startswith(f"{package}.") for name in SIGNATURES)
        + sum(len(texts) for module, texts in TEXTS.items() if module.startswith(f"{package}."))
        + len(flags_read()) * (package == "openrlhf")
    )


def parameters(name: str, package: str, folder: Path) -> str | None:
    """Parameters of an entry of SIGNATURES, as that has them; None where there is no such function."""
    module, path = name.split(":")
    owner, _, function = path.rpartition(".")
    found = (
        _method(module, owner, function, package, folder)
        if owner
        else _named(_tree(module, package, folder), function)
    )
    return _written(found.args) if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None


def _signatures(package: str, folder: Path) -> Iterator[str]:
    for name, expected in SIGNATURES.items():
        if not name.startswith(f"{package}."):
            continue
        found = parameters(name, package, folder)
        shown = name.replace(":", ".")
        if found is None:
            yield f"{shown} is missing; the plugin calls or replaces it as ({expected})"
        elif found != expected:
            yield f"{shown} takes ({found}); the plugin knows it as ({expected})"


def _texts(package: str, folder: Path) -> Iterator[str]:
    for module, texts in TEXTS.items():
        if module.startswith(f"{package}."):
            held = _source(module, package, folder)
            missing = [text for text in texts if text not in held]
            yield from (f"{module} does not hold {text!r}; the plugin relies on it" for text in missing)


def _flags(package: str, folder: Path) -> Iterator[str]:
    if package != "openrlhf":
        return
    from openrlhf_rad.plugin.command_line import MODULE, Command  # noqa: PLC0415 - it imports this module

    try:
        known = Command(folder).flags
    except Exception as error:
        yield f"the parser of {MODULE} cannot be read ({type(error).__name__}: {error})"
        return
    gone = sorted(flags_read() - known.keys())
    yield from (f"--{flag} is no flag of {MODULE}; the plugin reads it" for flag in gone)


def flags_read() -> frozenset[str]:
    """All flags of OpenRLHF that the plugin cannot do without."""
    from openrlhf_rad.plugin.command_line import LOOKED_AT  # noqa: PLC0415 - it imports this module

    return FLAGS | LOOKED_AT


def _method(module: str, owner: str, function: str, package: str, folder: Path) -> ast.AST | None:
    """A method, of the class itself or the first of its bases that has it."""
    tree = _tree(module, package, folder)
    found = _named(tree, owner)
    if not isinstance(found, ast.ClassDef):
        origin = _imported(tree, owner)
        return _method(origin, owner, function, package, folder) if origin else None
    method = _named(found, function)
    if method is not None:
        return method
    bases = (base.id for base in found.bases if isinstance(base, ast.Name))
    inherited = (_method(module, base, function, package, folder) for base in bases)
    return next((each for each in inherited if each is not None), None)


def _named(tree: ast.AST, name: str) -> ast.AST | None:
    nodes = (node for node in ast.iter_child_nodes(tree) if getattr(node, "name", None) == name)
    return next(nodes, None)


def _imported(tree: ast.AST, name: str) -> str | None:
    """The module that ``name`` is imported from, by its absolute name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and any(a.name == name for a in node.names):
            return node.module
    return None


def _written(arguments: ast.arguments) -> str:
    plain = [*arguments.posonlyargs, *arguments.args]
    required = len(plain) - len(arguments.defaults)
    words = [argument.arg + "=" * (place >= required) for place, argument in enumerate(plain)]
    words += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        words.append(argument.arg + "=" * (default is not None))
    words += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return " ".join(words)


@lru_cache(maxsize=64)
def _source(module: str, package: str, folder: Path) -> str:
    path = folder.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8") if module.startswith(package) and file.is_file() else ""


def _tree(module: str, package: str, folder: Path) -> ast.AST:
    return ast.parse(_source(module, package, folder))


def main(words: list[str]) -> int:
    """Check an unpacked ``openrlhf`` folder, or the installed one; print what is broken, return 1 for any."""
    folder = Path(words[0]) if words else package_folder("openrlhf")
    if folder is None or not (folder / "__init__.py").is_file():
        print(f"{folder}: there is no package openrlhf; name the folder that holds its __init__.py")
        return 1
    problems = broken("openrlhf", folder.resolve())
    print("\n".join(problems) or f"{folder}: all {size('openrlhf')} signatures, texts and flags are as known")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

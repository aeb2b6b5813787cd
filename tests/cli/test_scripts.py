"""The ``train_ppo_ray`` scripts of OpenRLHF's examples, one word changed: dry runs take them, or say why not.

The flags are those of examples/scripts at 0.11.0 and at 3c3be62, the newest that was to be had; what
0.11.2 calls otherwise (``is_correction_enable``, ``is_correction_type``) has its new name, and the ninth
script came with 0.11.2. Flags that name a file of the examples name one of the test's.
"""

import os
import subprocess
import sys

import pytest

SHARED = (
    "--ckpt.output_dir out/model --ckpt.path out/ckpt --data.apply_chat_template --ds.param_dtype bf16"
    " --actor.gradient_checkpointing_enable"
)
COLLECTION = "--data.prompt_dataset OpenRLHF/prompt-collection-v0.1 --data.input_key context_messages"
MATH = "--data.prompt_dataset OpenRLHF/dapo-math-17k --data.input_key prompt --data.label_key label"
LLAMA = "--actor.model_name_or_path OpenRLHF/Llama-3-8b-sft-mixture"
ENGINES = "--vllm.sync_backend nccl --vllm.enforce_eager"
SLEEP = "--vllm.enable_sleep --ds.enable_sleep"
CLIP = "--algo.advantage.is_correction_level token --algo.advantage.is_correction_mode clip"
MASK = "--algo.advantage.is_correction_level token --algo.advantage.is_correction_mode mask"
FILTER = "--algo.dynamic_filtering_enable --algo.dynamic_filtering_range 0 1"


def gpus(number, *models):
    return " ".join(f"--{model}.num_nodes 1 --{model}.num_gpus_per_node {number}" for model in models)


AGENT = (
    f"{gpus(4, 'ref', 'actor')} --vllm.num_engines 2 --vllm.tensor_parallel_size 2 --train.colocate_all"
    f" --ds.enable_sleep {ENGINES} --ds.zero_stage 3 --ds.ring_attn_size 2 --ds.ring_attn_head_stride 2"
    f" --actor.model_name_or_path Qwen/Qwen3-4B-Thinking-2507 --train.agent_func_path AGENT {MATH} {FILTER}"
    " --data.max_len 74240 --rollout.max_new_tokens 64000 --ds.packing_samples --rollout.batch_size 128"
    " --rollout.n_samples_per_prompt 8 --train.batch_size 1024 --train.dynamic_batch_enable"
    " --train.max_tokens_per_gpu 16192 --rollout.max_tokens_per_gpu 32768 --train.micro_batch_size 1"
    " --rollout.micro_batch_size 8 --data.max_samples 128000 --train.max_epochs 1 --train.num_episodes 1"
    " --algo.advantage.estimator reinforce_baseline --actor.adam.lr 5e-7 --actor.entropy_coef 0.0"
    f" --algo.kl.init_coef 1e-5 --algo.kl.use_loss --algo.kl.estimator k2 {MASK} --ckpt.save_hf"
    " --ckpt.load_enable --ckpt.max_num 3 --ckpt.save_steps 10 --logger.tensorboard_dir out/runs"
    " --logger.logging_steps 1 --eval.steps -1"
)
PPO = (
    f"{LLAMA} {COLLECTION} --train.batch_size 128 --rollout.batch_size 1024 --data.max_samples 100000"
    " --train.max_epochs 1 --data.max_len 2048 --ds.zero_stage 3 --actor.adam.lr 5e-7 --critic.adam.lr 9e-6"
    " --algo.kl.init_coef 0.01 --reward.normalize_enable --ds.packing_samples"
)
UPDATES = "8 updates a rollout"
SCRIPTS = {
    "train_dapo_ray_hybrid_engine": (
        f"{gpus(8, 'ref', 'actor')} --vllm.num_engines 4 --vllm.tensor_parallel_size 2 --train.colocate_all"
        f" --vllm.gpu_memory_utilization 0.6 {LLAMA} {COLLECTION} --algo.kl.init_coef 1e-3"
        " --algo.advantage.gamma 1.0 --algo.kl.use_loss --algo.kl.estimator k3"
        f" --algo.advantage.estimator group_norm {FILTER} --actor.eps_clip_low_high 0.2 0.27"
        " --reward.remote_url REWARD --ckpt.save_steps 20 --ckpt.save_hf --train.micro_batch_size 8"
        " --train.batch_size 128 --rollout.micro_batch_size 16 --rollout.batch_size 128"
        " --rollout.n_samples_per_prompt 8 --train.max_epochs 1 --data.max_len 2048 --data.max_samples 20000"
        f" --ds.zero_stage 3 --actor.adam.lr 5e-7 --ds.packing_samples {ENGINES} {SLEEP} {CLIP}",
        UPDATES,
    ),
    "train_ppo_ray_hybrid_engine": (
        f"{gpus(8, 'ref', 'reward', 'critic', 'actor')} --vllm.num_engines 4 --vllm.tensor_parallel_size 2"
        f" --train.colocate_all --vllm.gpu_memory_utilization 0.5 {PPO} --ckpt.save_hf"
        " --reward.model_name_or_path OpenRLHF/Llama-3-8b-rm-700k --rollout.n_samples_per_prompt 1"
        f" {ENGINES} {SLEEP} --train.dynamic_batch_enable --train.max_tokens_per_gpu 16384 {CLIP}",
        UPDATES,
    ),
    "train_ppo_ray_slurm": (
        f"{gpus(4, 'ref', 'reward', 'critic', 'actor')} --vllm.num_engines 4 --vllm.tensor_parallel_size 2"
        f" --train.colocate_critic_reward --train.colocate_actor_ref {PPO} --train.micro_batch_size 8"
        " --reward.model_name_or_path OpenRLHF/Llama-3-8b-rm-mixture --rollout.micro_batch_size 16"
        " --ds.adam_offload --vllm.sync_backend nccl",
        UPDATES,
    ),
    "train_ppo_with_reward_fn": (
        f"{gpus(2, 'ref', 'critic', 'actor')} --vllm.num_engines 2 --vllm.tensor_parallel_size 2"
        f" --train.colocate_actor_ref {PPO} --reward.remote_url REWARD --train.micro_batch_size 8"
        " --rollout.micro_batch_size 16 --ds.adam_offload --ds.attn_implementation flash_attention_2",
        UPDATES,
    ),
    "train_prorlv2_math_hybrid_engine": (
        f"{gpus(8, 'ref', 'actor')} --vllm.num_engines 8 --vllm.tensor_parallel_size 1 --train.colocate_all"
        " --vllm.gpu_memory_utilization 0.75 --algo.kl.init_coef 1e-4 --algo.advantage.gamma 1.0"
        " --algo.kl.use_loss --algo.kl.estimator k2 --algo.advantage.estimator reinforce_baseline"
        f" {FILTER} --actor.eps_clip_low_high 0.2 0.27 --reward.remote_url REWARD {MATH} --ckpt.save_steps 5"
        " --actor.model_name_or_path deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --ckpt.save_hf"
        " --train.batch_size 1024 --rollout.batch_size 512 --rollout.n_samples_per_prompt 16"
        " --train.dynamic_batch_enable --train.num_episodes 100 --data.max_len 9216"
        " --rollout.max_new_tokens 8192 --ds.zero_stage 3 --actor.adam.lr 1e-6"
        " --eval.dataset OpenRLHF/aime-2024 --eval.steps 5 --eval.temperature 1.0"
        f" --eval.n_samples_per_prompt 4 --ds.packing_samples {ENGINES} {SLEEP} {MASK}"
        " --algo.advantage.is_correction_threshold 0.5 5.0 --train.max_tokens_per_gpu 32768"
        " --reward.stop_properly_penalty_coef 0.0",
        UPDATES,
    ),
    "train_reinforce_baseline_hybrid_engine": (f"{AGENT} --vllm.gpu_memory_utilization 0.7", ""),
    "train_reinforce_baseline_ray_agent_async": (
        f"{AGENT} --vllm.gpu_memory_utilization 0.95 --train.async_enable --train.partial_rollout_enable",
        "",
    ),
    "train_vlm_math_hybrid_engine": (
        f"{gpus(4, 'ref', 'actor')} --vllm.num_engines 4 --vllm.tensor_parallel_size 1 --train.colocate_all"
        " --vllm.gpu_memory_utilization 0.7 --algo.kl.init_coef 0 --algo.advantage.gamma 1.0"
        " --algo.kl.use_loss --algo.kl.estimator k2 --algo.advantage.estimator reinforce_baseline"
        " --actor.model_name_or_path Qwen/Qwen3.5-2B --reward.remote_url REWARD --ckpt.save_hf"
        " --ckpt.save_steps 5 --eval.steps -1 --train.micro_batch_size 1 --rollout.micro_batch_size 1"
        " --train.batch_size 1024 --rollout.batch_size 128 --rollout.n_samples_per_prompt 8"
        " --train.num_episodes 100 --data.max_len 4096 --rollout.max_new_tokens 2048 --ds.zero_stage 3"
        " --actor.adam.lr 2e-6 --data.prompt_dataset hiyouga/geometry3k --data.input_key prompt"
        " --data.label_key label --data.image_key images --data.max_images_per_prompt 1"
        f" --actor.freeze_visual_encoder --ds.attn_implementation eager {ENGINES} {SLEEP}",
        "",
    ),
}
#: Refused; README.md says why, beside "one word".
FLASH = (
    f"{MATH} --actor.model_name_or_path deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --reward.remote_url REWARD"
    " --ckpt.load_enable --ckpt.save_hf --ckpt.max_num 3 --ckpt.save_steps 50 --data.max_len 9216"
    " --rollout.max_new_tokens 8192 --rollout.temperature 1.0 --rollout.top_p 1.0 --ds.packing_samples"
    " --rollout.batch_size 128 --rollout.vllm_generate_batch_size 512 --rollout.n_samples_per_prompt 1"
    " --rollout.micro_batch_size 1 --train.batch_size 128 --train.micro_batch_size 1 --train.max_epochs 1"
    " --train.num_episodes 1000 --data.max_samples 128000 --train.async_enable --train.async_queue_size 8"
    f" {gpus(1, 'actor')} --vllm.num_engines 7 --vllm.tensor_parallel_size 1 --vllm.sync_backend nccl"
    " --vllm.gpu_memory_utilization 0.9 --ds.zero_stage 2 --algo.advantage.estimator flash_reinforce"
    " --algo.advantage.is_correction_level seq --algo.advantage.is_correction_gating binary_kl"
    " --algo.advantage.is_correction_threshold 5e-3 --actor.loss_agg_mode seq-mean-token-mean"
    " --algo.kl.init_coef 0 --actor.adam.lr 1e-6 --actor.adam.weight_decay 0.1"
    " --logger.tensorboard_dir out/runs --logger.logging_steps 1 --eval.steps -1"
)


@pytest.fixture
def dry_run(tmp_path):
    """``python -m openrlhf_rad SCRIPT --rad.profile medical --rad.dry_run`` on a machine with GPUs."""
    for name, text in {
        "cost.py": "def cost_func(queries, prompts, labels): ...\n",
        "reward.py": "def reward_func(queries, prompts, labels): ...\n",
        "agent.py": "class AgentExecutor: ...\n",
    }.items():
        (tmp_path / name).write_text(text)

    def run(flags, *more):
        words = f"{SHARED} {flags}".replace("REWARD", "reward.py").replace("AGENT", "agent.py").split()
        rad = ["--rad.profile", "medical", "--rad.out", "out/rad", "--rad.dry_run", *more]
        return subprocess.run(
            [sys.executable, "-m", "openrlhf_rad", *words, *rad],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OPENRLHF_RAD_BACKEND": "gpu"},
            check=False,
        )

    return run


COST = ("--rad.set", "cost.function=cost.py")


@pytest.mark.parametrize(("flags", "note"), SCRIPTS.values(), ids=SCRIPTS)
def test_one_word_changed_and_a_cost_named(flags, note, dry_run, tmp_path):
    done = dry_run(flags, *COST)
    assert (done.returncode, "error: " in done.stderr) == (0, False), done.stderr
    assert bool(note) == ("trained by OpenRLHF's clipped loss" in done.stderr)
    assert note in done.stderr
    assert "# command\n" in done.stdout
    assert not (tmp_path / "out").exists()


def test_losses_averaged_by_answer_are_refused(dry_run):
    done = dry_run(FLASH, *COST)
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error == (
        "error: --actor.loss_agg_mode seq-mean-token-mean weighs each answer by 1/length, so that the sum is"
        " no longer the gradient of the risk; use --actor.loss_agg_mode token-mean"
    )
    assert dry_run(f"{FLASH} --actor.loss_agg_mode token-mean", *COST).returncode == 0


def test_all_that_is_wrong_is_said_at_once_the_missing_cost_included(dry_run):
    (flags, _) = SCRIPTS["train_ppo_with_reward_fn"]
    done = dry_run(f"{flags} --reward.remote_url no.py --algo.kl.estimator k3 --train.colocate_critic_reward")
    assert done.returncode == 2
    errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if "error: " in line]
    assert [error.partition(";")[0].partition(":")[0] for error in errors] == [
        "--algo.kl.estimator k3 as a part of the reward does not pull towards the reference",
        "num_nodes and num_gpus_per_node must be the same when colocate critic and reward model.",
        "the profile medical names no cost",
        "--reward.remote_url is no.py",
    ]

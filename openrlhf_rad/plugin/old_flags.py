"""What OpenRLHF's flags were called before 0.10.2, when they got dots: old name → what to write now."""

from __future__ import annotations

#: Section of today's flags → "old" where only the section was added, "old=new" where the name changed too.
_MOVED = {
    "actor": "actor_num_nodes=num_nodes actor_num_gpus_per_node=num_gpus_per_node eps_clip eps_clip_low_high"
    " dual_clip pretrain=model_name_or_path policy_loss_type aux_loss_coef entropy_loss_coef=entropy_coef"
    " freeze_visual_encoder gradient_checkpointing=gradient_checkpointing_enable"
    " gradient_checkpointing_use_reentrant=gradient_checkpointing_reentrant actor_learning_rate=adam.lr"
    " adam_betas=adam.betas l2=adam.weight_decay lr_scheduler lr_warmup_ratio max_norm",
    "critic": "critic_num_nodes=num_nodes critic_num_gpus_per_node=num_gpus_per_node value_clip"
    " critic_pretrain=model_name_or_path freezing_actor_steps=freezing_steps save_value_network"
    " critic_learning_rate=adam.lr",
    "ref": "ref_num_nodes=num_nodes ref_num_gpus_per_node=num_gpus_per_node ref_reward_offload=offload",
    "reward": "reward_num_nodes=num_nodes reward_num_gpus_per_node=num_gpus_per_node"
    " reward_pretrain=model_name_or_path remote_rm_url=remote_url reward_clip_range=clip_range"
    " normalize_reward=normalize_enable overlong_buffer_len overlong_penalty_factor"
    " stop_properly_penalty_coef",
    "vllm": "vllm_num_engines=num_engines vllm_tensor_parallel_size=tensor_parallel_size"
    " vllm_sync_backend=sync_backend vllm_sync_with_ray=sync_with_ray enable_prefix_caching enforce_eager"
    " vllm_enable_sleep=enable_sleep vllm_gpu_memory_utilization=gpu_memory_utilization",
    "train": "colocate_actor_ref colocate_critic_reward colocate_all_models=colocate_all"
    " async_train=async_enable async_queue_size partial_rollout=partial_rollout_enable enable_ema ema_beta"
    " use_dynamic_batch=dynamic_batch_enable train_max_tokens_per_gpu=max_tokens_per_gpu num_episodes"
    " max_epochs micro_train_batch_size=micro_batch_size train_batch_size=batch_size seed"
    " full_determinism=full_determinism_enable agent_func_path",
    "rollout": "rollout_batch_size=batch_size micro_rollout_batch_size=micro_batch_size"
    " vllm_generate_batch_size max_new_tokens generate_max_len=max_new_tokens n_samples_per_prompt top_p"
    " temperature rollout_max_tokens_per_gpu=max_tokens_per_gpu",
    "data": "max_len max_samples prompt_data=prompt_dataset prompt_data_probs=prompt_probs prompt_split"
    " input_key label_key input_template apply_chat_template image_key max_images_per_prompt"
    " disable_fast_tokenizer dataloader_num_workers",
    "eval": "eval_steps=steps eval_dataset=dataset eval_split=split eval_temperature=temperature"
    " eval_n_samples_per_prompt=n_samples_per_prompt",
    "ckpt": "save_steps ckpt_path=path save_hf_ckpt=save_hf disable_ds_ckpt=disable_ds max_ckpt_num=max_num"
    " max_ckpt_mem=max_mem load_checkpoint=load_enable best_metric_key save_path=output_dir",
    "ds": "use_ds_universal_ckpt=use_universal_ckpt zero_stage deepcompile param_dtype zpg adam_offload"
    " attn_implementation use_liger_kernel grad_accum_dtype overlap_comm deepspeed_enable_sleep=enable_sleep"
    " ds_tensor_parallel_size=tensor_parallel_size packing_samples load_in_4bit lora_rank=lora.rank"
    " lora_alpha=lora.alpha target_modules=lora.target_modules lora_dropout=lora.dropout ring_attn_size"
    " ring_head_stride=ring_attn_head_stride value_head_prefix",
    "algo.advantage": "vllm_is_truncated_threshold=is_correction_threshold lambd gamma"
    " advantage_estimator=estimator no_advantage_std_norm=no_std_norm",
    "algo.kl": "init_kl_coef=init_coef kl_target=target kl_horizon=horizon kl_estimator=estimator"
    " use_kl_loss=use_loss",
    "algo": "dynamic_filtering=dynamic_filtering_enable"
    " dynamic_filtering_reward_range=dynamic_filtering_range",
    "logger": "logging_steps use_wandb=wandb.key wandb_org=wandb.org wandb_group=wandb.group"
    " wandb_project=wandb.project wandb_run_name=wandb.run_name use_tensorboard=tensorboard_dir",
}

_CORRECTION = (
    "write --algo.advantage.is_correction_level token --algo.advantage.is_correction_mode {}, level seq for"
    " what was seq-mask-tis"
)
#: Flags that are now several, or none.
_OTHERWISE = {
    "enable_vllm_is_correction": _CORRECTION.format("clip"),
    "algo.advantage.is_correction_enable": _CORRECTION.format("clip"),
    "vllm_is_correction_type": _CORRECTION.format("clip (tis) or mask (icepop)"),
    "algo.advantage.is_correction_type": _CORRECTION.format("clip (tis) or mask (icepop)"),
    "prompt_max_len": "write --data.max_len for prompt and answer together",
    "bf16": "write --ds.param_dtype bf16",
    "flash_attn": "leave it out; --ds.attn_implementation is flash_attention_2 by itself",
    "actor_init_on_gpu": "leave it out",
    "perf": "leave it out",
    "ptx_coef": "leave it out; there is no pretraining loss",
}


def advice(name: str) -> str | None:
    """What to write in place of an old flag, its name without dashes; None where it is none."""
    return ADVICE.get(name.replace("-", "_"))


ADVICE = {
    **{
        old: f"write --{section}.{new or old}"
        for section, words in _MOVED.items()
        for old, _, new in (word.partition("=") for word in words.split())
    },
    **_OTHERWISE,
}

#!/usr/bin/env bash
# The command of a run on several nodes; slurm.sh, rayjob.yaml and `ray job submit` all end here.
#
# Ray runs on all nodes, and this on one of them that has GPUs. All models share all GPUs. The same command
# resumes from the last whole checkpoint. /shared is a file system that every node sees.
set -euo pipefail

NODES=${NODES:-2}                     # nodes with GPUs
GPUS=${GPUS:-8}                       # on each of them
TP=${TP:-1}                           # GPUs of one vLLM engine
SHARED=${SHARED:-/shared}
OUT=${OUT:-$SHARED/runs/medical}      # a resumed run is one of the same OUT
SAMPLES_PER_GPU=${SAMPLES_PER_GPU:-128}

ALL=$((NODES * GPUS))
ANSWERS=8                             # to each prompt
SAMPLES=$((ALL * SAMPLES_PER_GPU))

# Ray is found, never started here: without a cluster the run must fail rather than train on one node.
export RAY_ADDRESS=${RAY_ADDRESS:-auto}

exec rad-train --profile medical --out "$OUT" --set "cost.model=$SHARED/models/cost" -- \
  --actor.model_name_or_path "$SHARED/models/policy" \
  --reward.model_name_or_path "$SHARED/models/reward" \
  --data.prompt_dataset "$SHARED/prompts.jsonl" --data.input_key input --data.apply_chat_template \
  --rad.heldout "$SHARED/heldout.jsonl" \
  --actor.num_nodes "$NODES" --actor.num_gpus_per_node "$GPUS" \
  --ref.num_nodes "$NODES" --ref.num_gpus_per_node "$GPUS" \
  --reward.num_nodes "$NODES" --reward.num_gpus_per_node "$GPUS" \
  --rad.cost_num_nodes "$NODES" --rad.cost_num_gpus_per_node "$GPUS" \
  --vllm.num_engines $((ALL / TP)) --vllm.tensor_parallel_size "$TP" \
  --train.colocate_all --vllm.enable_sleep --ds.enable_sleep --vllm.gpu_memory_utilization 0.6 \
  --ds.zero_stage 3 --actor.gradient_checkpointing_enable \
  --algo.advantage.estimator rloo --algo.kl.init_coef 0.01 \
  --rollout.batch_size $((SAMPLES / ANSWERS)) --rollout.n_samples_per_prompt "$ANSWERS" \
  --rollout.micro_batch_size 8 --rollout.max_new_tokens 768 --data.max_len 1024 \
  --train.batch_size "$SAMPLES" --train.micro_batch_size 4 --actor.adam.lr 5e-7 \
  --ckpt.path "$OUT/checkpoints" --ckpt.save_steps 10 --ckpt.max_num 2 --ckpt.load_enable \
  --ckpt.output_dir "$OUT/model" --logger.tensorboard_dir "$OUT/tensorboard"

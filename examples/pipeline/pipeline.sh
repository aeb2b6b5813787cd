#!/usr/bin/env bash
# From published preference data to a policy with a bounded tail, by OpenRLHF's own commands: SFT, a reward model
# and a cost model by Bradley and Terry, then RAD. docs/pipeline.md says what each step does.
#
#   DATA=data/Alpaca-7B/train.jsonl MODEL=Qwen/Qwen2.5-0.5B-Instruct bash pipeline.sh    # on GPUs
#   TINY=1 bash pipeline.sh                                                               # a try on a CPU, minutes
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=${OUT:-runs/pipeline}
PROFILE=${PROFILE:-medical}
GPUS=${GPUS:-8}
# The chat format of the model; this one is ChatML, as of Qwen and SmolLM2.
TEMPLATE=${TEMPLATE:-$'<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n'}

if [ -n "${TINY:-}" ]; then
    python "$HERE/tiny_data.py" "$OUT/tiny"
    DATA=$OUT/tiny/preferences.jsonl
    MODEL=$OUT/tiny/base
    COMMAND="python -m openrlhf_rad.plugin.cpu"
    SIZE=(--train.batch_size 16 --train.micro_batch_size 8 --data.max_len 96 --adam.lr 3e-3)
    RAD=(--rollout.batch_size 32 --rollout.micro_batch_size 32 --rollout.n_samples_per_prompt 2
         --rollout.max_new_tokens 16 --train.batch_size 64 --train.micro_batch_size 16 --data.max_len 96
         --actor.adam.lr 1e-3 --ds.attn_implementation sdpa --vllm.num_engines 1)
else
    COMMAND="deepspeed --module"
    SIZE=(--train.batch_size 128 --train.micro_batch_size 8 --data.max_len 1024 --adam.lr 9e-6)
    RAD=(--rollout.batch_size 256 --rollout.n_samples_per_prompt 4 --rollout.max_new_tokens 256
         --train.batch_size 256 --train.micro_batch_size 8 --data.max_len 1024 --actor.adam.lr 5e-7
         --actor.num_gpus_per_node "$GPUS" --ref.num_gpus_per_node "$GPUS" --reward.num_gpus_per_node "$GPUS"
         --rad.cost_num_gpus_per_node "$GPUS" --vllm.num_engines "$GPUS" --train.colocate_all
         --vllm.enable_sleep --ds.enable_sleep --vllm.gpu_memory_utilization 0.6)
fi

# 1. The data, in the shapes that OpenRLHF reads. A cost is higher for more harm: there "chosen" is the worse answer.
rad pairs "$DATA" --by helpfulness --out "$OUT/helpful.jsonl"
rad pairs "$DATA" --by harm --out "$OUT/harm.jsonl"
rad prompts "$DATA" --out "$OUT/prompts.jsonl"

# 2. A policy that answers in the chat format.
$COMMAND openrlhf.cli.train_sft --model.model_name_or_path "$MODEL" --ckpt.output_dir "$OUT/sft" \
    --data.dataset "$OUT/helpful.jsonl" --data.input_key prompt --data.output_key chosen \
    --data.input_template "$TEMPLATE" --train.max_epochs 1 "${SIZE[@]}"

# 3. The reward and the cost: the same command on the two kinds of pairs.
for kind in helpful harm; do
    $COMMAND openrlhf.cli.train_rm --model.model_name_or_path "$OUT/sft" --ckpt.output_dir "$OUT/$kind" \
        --data.dataset "$OUT/$kind.jsonl" --eval.dataset "$OUT/$kind.jsonl" --data.prompt_key prompt \
        --data.chosen_key chosen --data.rejected_key rejected --data.input_template "$TEMPLATE" \
        --train.max_epochs 1 "${SIZE[@]}"
done

# 4. Is the cost any good? 1 is no, 2 that these labels cannot tell; look before you train on it.
rad cost check "$DATA" --cost "$OUT/harm" --template "$TEMPLATE" || echo "rad cost check: exit code $?" >&2

# 5. The policy, its reward up, the tail of its cost bounded.
rad-train --profile "$PROFILE" --set "cost.model=$OUT/harm" --out "$OUT/run" -- \
    --actor.model_name_or_path "$OUT/sft" --reward.model_name_or_path "$OUT/helpful" \
    --data.prompt_dataset "$OUT/prompts.jsonl" --data.input_key prompt --data.label_key label \
    --data.input_template "$TEMPLATE" --algo.advantage.estimator rloo --ckpt.output_dir "$OUT/model" "${RAD[@]}"

#!/usr/bin/env bash
#SBATCH --job-name=rad
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=rad-%j.log
#SBATCH --signal=B:USR1@300
#
# sbatch docs/launch/slurm.sh, from a checkout and an environment that all nodes see. A job that is preempted or loses
# a node is put into the queue again by --requeue, one whose time runs out by itself (the trap below); each
# begins with the same OUT and so resumes from the last whole checkpoint.
set -euo pipefail

# Slurm runs a copy of this script, in the folder in which sbatch was called.
LAUNCH=${LAUNCH:-$SLURM_SUBMIT_DIR/docs/launch}
export NODES=$SLURM_JOB_NUM_NODES GPUS=${SLURM_GPUS_PER_NODE##*:}
export OUT=${OUT:-${SHARED:-/shared}/runs/slurm-$SLURM_JOB_ID}   # requeued jobs keep their number

HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK   # steps do not inherit it
on_head=(srun --nodes=1 --ntasks=1 --nodelist="$HEAD" --overlap)
HEAD_IP=$("${on_head[@]}" hostname --ip-address | awk '{print $1}')
PORT=$((20000 + SLURM_JOB_ID % 10000))
export RAY_ADDRESS=$HEAD_IP:$PORT

"${on_head[@]}" ray start --head --node-ip-address="$HEAD_IP" --port="$PORT" --num-gpus="$GPUS" \
  --include-dashboard=false --block &
ray_processes=($!)
until "${on_head[@]}" ray status --address "$RAY_ADDRESS" >/dev/null 2>&1; do
  kill -0 "${ray_processes[0]}"   # ends this script where Ray's head has died
  sleep 2
done
if ((NODES > 1)); then
  srun --nodes=$((NODES - 1)) --ntasks=$((NODES - 1)) --exclude="$HEAD" --overlap \
    ray start --address="$RAY_ADDRESS" --num-gpus="$GPUS" --block &
  ray_processes+=($!)
fi

"${on_head[@]}" bash "$LAUNCH/train.sh" &
training=$!
out_of_time=
trap 'out_of_time=yes; kill -TERM "$training"' USR1
code=0
wait "$training" || code=$?
if [[ $out_of_time ]]; then
  wait "$training" || true        # the first wait ended with the signal
  scontrol requeue "$SLURM_JOB_ID"
fi
kill "${ray_processes[@]}" 2>/dev/null || true
exit "$code"

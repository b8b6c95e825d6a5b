#!/bin/bash
# For Slurm: sbatch cluster/slurm.sh --data photos --name photos --results /shared/results
#
# Before: docs/cluster.md, "One folder for all nodes", on the file system that the nodes share. The arguments are those of
# study.search. The same command goes on after an interruption: also after the end of the time, of which Slurm warns.
#SBATCH --job-name=imbalance-study
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?this is for sbatch}"
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head=$(srun --nodes=1 --ntasks=1 --nodelist="$host" hostname --ip-address | cut -d " " -f 1)
port=$((20000 + SLURM_JOB_ID % 20000))  # of its own: other jobs may run on the same node

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(openssl rand -hex 32)
export RAY_worker_niceness=0 RAY_memory_monitor_refresh_ms=0 RAY_USAGE_STATS_ENABLED=0

# on every node; Ray runs the command on the first one, once all the others are there
srun --kill-on-bad-exit=1 .venv/bin/ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" -- .venv/bin/python -m study.search "$@" --address "$head:$port" &
# Slurm's warning goes to this shell alone; the study takes it as a pause
trap 'scancel --signal=TERM "$SLURM_JOB_ID"' TERM
wait $! || wait $!

#!/bin/bash
# For Slurm: sbatch cluster/slurm.sh --data photos --name photos --results /shared/results
#
# Before: docs/cluster.md, "One folder for all nodes", on the file system that the nodes share. The arguments are those of
# study.search. The same command goes on after the end of the time, and loses the epochs that were running, no more.
#SBATCH --job-name=imbalance-study
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
# at the end all of Ray is stopped that is yours on these nodes
#SBATCH --exclusive

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?this is for sbatch}"
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head=$(srun --nodes=1 --ntasks=1 --nodelist="$host" hostname --ip-address | cut -d " " -f 1):6379

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(openssl rand -hex 32)
export RAY_worker_niceness=0 RAY_memory_monitor_refresh_ms=0 RAY_USAGE_STATS_ENABLED=0
export PATH="$PWD/.venv/bin:$PATH" RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# on every node; Ray runs the command on the first one, once all the others are there
srun --kill-on-bad-exit=1 ray symmetric-run --address "$head" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" -- python -m study.search "$@" --address "$head"

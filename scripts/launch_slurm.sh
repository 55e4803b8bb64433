#!/usr/bin/env bash
# A run on several nodes under SLURM, one launcher a node. From the project's root:
#   sbatch --nodes 2 scripts/launch_slurm.sh --config configs/qwen3_8b.yaml run.seed=1
# The same command again goes on from the newest checkpoint, as does a job that SLURM puts back into its queue.
#SBATCH --job-name=masa
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --output=masa-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"

processes="${PROCESSES_PER_NODE:-8}"
first_node="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
launch=("${PYTHON:-python}" -m accelerate.commands.launch --config_file configs/accelerate/nodes_zero3.yaml
  --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * processes))"
  --main_process_ip "$first_node" --main_process_port "${MASTER_PORT:-29500}")

# SLURM_NODEID is known only where a task runs. `exec` lets the launcher get the signals that SLURM sends to the task.
srun bash -c 'exec "$@" --machine_rank "$SLURM_NODEID" -m masa.train '"$(printf '%q ' "$@" --resume)" launch "${launch[@]}"

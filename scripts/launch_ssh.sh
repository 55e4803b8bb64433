#!/usr/bin/env bash
# A run on several machines that share this folder and are reached by ssh without a password. From the project's root:
#   NODES="node0 node1" bash scripts/launch_ssh.sh --config configs/qwen3_8b.yaml run.seed=1
# The first machine must be reachable from the others by its name. Where one launcher ends with an error, so do all.
set -euo pipefail

read -r -a nodes <<< "${NODES:?the names of the machines, separated by spaces}"
processes="${PROCESSES_PER_NODE:-8}"
launchers=()
for rank in "${!nodes[@]}"; do
  command=("${PYTHON:-python}" -m accelerate.commands.launch --config_file configs/accelerate/nodes_zero3.yaml
    --num_machines "${#nodes[@]}" --num_processes "$((${#nodes[@]} * processes))" --machine_rank "$rank"
    --main_process_ip "${nodes[0]}" --main_process_port "${MASTER_PORT:-29500}" -m masa.train "$@")
  # -tt gives the command a terminal, so that it ends with this script.
  ssh -tt "${nodes[$rank]}" "cd $(printf %q "$PWD") && $(printf '%q ' "${command[@]}")" < /dev/null &
  launchers+=($!)
done
trap 'kill "${launchers[@]}" 2> /dev/null || true' EXIT
for _ in "${launchers[@]}"; do
  wait -n
done

#!/usr/bin/env bash
# Installs the test extras, then runs the linter, the type checker and the tests. Further arguments go to pytest,
# for example: bash scripts/test.sh -m slow
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if command -v nvidia-smi >/dev/null 2>&1; then
  install_masa "[dev,deepspeed,lora,vllm]"
else
  install_masa "[dev,deepspeed,lora,cpu]"
fi
cd "$project_root"

"$environment/bin/ruff" check .
"$environment/bin/ruff" format --check .
"$environment/bin/mypy" masa
# Tests start processes side by side: threads that wait for one another on busy cores are many times slower than one.
export OMP_NUM_THREADS=1
# Two at a time, each file on one worker: its runs are shared by its tests. A later -n takes the place of this one.
exec "$environment/bin/python" -m pytest -n 2 --dist loadfile "$@"

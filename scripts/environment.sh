# Sourced by the other scripts: makes the virtual environment once and reuses it until pyproject.toml changes.
# The environment is .venv in the project's root, or the folder that MASA_VENV names.

project_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
environment="${MASA_VENV:-$project_root/.venv}"

find_python() {
  local candidate
  for candidate in python3.11 python3.12 python3 python; do
    if "$candidate" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "Python 3.11 or 3.12 is needed, and neither was found" >&2
  return 1
}

# install_masa EXTRAS: masa in editable mode with the extras (such as "[dev]" or ""), unless it is there already.
install_masa() {
  local extras="$1" stamp wanted
  stamp="$environment/.masa-installed${extras//[^a-z]/-}"
  wanted="$(cksum < "$project_root/pyproject.toml")"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return
  fi
  if [ ! -x "$environment/bin/python" ]; then
    echo "Making the environment $environment (once)"
    "$(find_python)" -m venv "$environment"
  fi
  if ! command -v nvidia-smi >/dev/null 2>&1 && ! "$environment/bin/python" -c 'import torch' 2>/dev/null; then
    # Without a GPU: a newer plain torch would bring gigabytes of CUDA libraries.
    echo "Installing torch for the CPU"
    "$environment/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
  fi
  echo "Installing masa$extras and what it stands on"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --editable "$project_root$extras"
  if [[ "$extras" == *cpu* ]]; then
    # vLLM's CPU build brings builds of these that do not fit a CPU torch and break transformers; text needs none.
    "$environment/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
  fi
  echo "$wanted" > "$stamp"
}

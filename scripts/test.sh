#!/usr/bin/env bash
# Installs the test extras, then runs the linter, the type checker and the tests. Further arguments go to pytest,
# for example: bash scripts/test.sh -m slow
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install_masa "[dev]"
cd "$project_root"

"$environment/bin/ruff" check .
"$environment/bin/ruff" format --check .
"$environment/bin/mypy" masa
exec "$environment/bin/python" -m pytest "$@"

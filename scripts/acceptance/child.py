"""``python -m acceptance.child MODULE:FUNCTION SIZE FOLDER ANSWER``: one part, and its result as a file."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


class NotPossibleError(Exception):
    """The part cannot be tried here; the message names what is missing."""


def main(run: str, size: str, folder: str, answer: str) -> int:
    """Run the part and write what came of it; returns the exit code."""
    module, function = run.split(":")
    status, reason, figures = "passed", "", {}
    try:
        figures = getattr(importlib.import_module(module), function)(size, Path(folder))
    except NotPossibleError as error:
        status, reason = "skipped", str(error)
    except ModuleNotFoundError as error:
        traceback.print_exc()
        # A module that is missing from an installed package is another version's, and a failure.
        package = (error.name or "").partition(".")[0]
        absent = package and importlib.util.find_spec(package) is None
        status, reason = ("skipped", f"not installed: {package}") if absent else ("failed", _brief(error))
    except Exception as error:
        traceback.print_exc()
        status, reason = "failed", _brief(error)
    unfinished = Path(answer).with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"status": status, "reason": reason, "figures": figures}))
    unfinished.rename(answer)
    return 0


def _brief(error: BaseException) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


if __name__ == "__main__":
    # Under the name that parts import, so that there is one NotPossibleError.
    from acceptance.child import main as run_part

    sys.stdout.flush()
    code = run_part(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of engines that were left running do not keep the process.
    os._exit(code)

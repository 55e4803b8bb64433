"""Where the scripts of ``../shared/cases`` are, and how one is run in this process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT.parent / "shared" / "cases"


def run_here(script: str, *arguments: str) -> None:
    """Run a script in this process, which it may change as it likes."""
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")

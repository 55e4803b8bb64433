"""The long embedded world: chains of steps whose right order depends on their kind, for studies of a whole run."""

from __future__ import annotations

from pathlib import Path

from masa.embedded.long.problems import long_problems
from masa.embedded.long.templates import META_TEMPLATE, SOLUTION_TEMPLATE

DATA_DIRECTORY = Path(__file__).parent / "data"

__all__ = ["DATA_DIRECTORY", "META_TEMPLATE", "SOLUTION_TEMPLATE", "long_problems"]

"""What somebody does with a finished run: the three commands that its end names."""

from __future__ import annotations

import shlex
from pathlib import Path

from masa.config import Config


def next_commands(run: Path, config: Config) -> list[str]:
    """Commands that compare the run, evaluate its newest checkpoint, and ask the policy for meta-predictions.

    The benchmark is one that suits the model: the embedded policy knows the embedded world alone.
    """
    folder = shlex.quote(str(run))
    embedded = config.model.path.startswith("embedded")
    benchmark = "embedded" if embedded else "math500"
    problem = "Find the sum: a=12, b=30." if embedded else "How many positive divisors does 360 have?"
    report = shlex.quote(str(run / "report.html"))
    return [
        f"masa report {folder} --out {report}",
        f"masa evaluate --run {folder} --benchmarks {benchmark}",
        f"masa predict --run {folder} {shlex.quote(problem)}",
    ]

"""A small run directory to read, draw and resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from masa.tracking.run_directory import RunDirectory
from masa.tracking.samples import Prediction

MakeRun = Callable[..., RunDirectory]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(steps: int, *, metas: bool = True, pass_rate: float = 0.5) -> RunDirectory:
        directory = RunDirectory(tmp_path / "run")
        directory.create("run: {}\n", resume=False)
        directory.append_metrics(0, {"eval/accuracy": 0.25})
        for step in range(1, steps + 1):
            metrics = {"reward/correctness": pass_rate, "rollout/solution_length": 40.0 + step, "time/step": 1.0}
            if metas:
                metrics |= {
                    f"reward/{name}": step / steps for name in ("r_meta", "r_length", "r_difficulty", "r_notion")
                }
                lengths = (30, 50) if pass_rate else ()
                row = Prediction(
                    step, f"p{step}", pass_rate, lengths, (0.25, None, step / steps), (20, None, 35 + step)
                )
                directory.append_predictions([row])
            directory.append_metrics(step, metrics)
        return directory

    return make

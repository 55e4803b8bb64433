"""A run that is resumed with more steps under a decaying schedule says what becomes of its learning rate."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from small_run import QUICKSTART, SMALL

from masa import MASATrainer, load_config
from masa.config.algorithm import OptimizerSection
from masa.policy.update.optimizer import describe_new_decay

TINY = ("problems.eval=null", "algorithm.num_problems=2", "algorithm.num_solutions=2", "algorithm.num_metas=2")


def _train(folder: Path, steps: int, schedule: str, *, resume: bool) -> str:
    changes = (
        *TINY,
        "rollout.max_solution_tokens=16",
        "rollout.max_meta_tokens=16",
        "optimizer.warmup_steps=0",
        "optimizer.learning_rate=3e-4",
        "tracking.figures=false",
        "controls.expert.enabled=false",
    )
    options = [*SMALL, *changes, f"run.dir={folder}", f"run.steps={steps}", f"optimizer.schedule={schedule}"]
    shown = io.StringIO()
    MASATrainer(load_config(QUICKSTART, options), console=Console(file=shown, width=400)).train(resume=resume)
    return shown.getvalue()


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_longer_run_says_where_its_rate_jumps_and_only_there(tmp_path: Path, schedule: str) -> None:
    _train(tmp_path / "run", 2, schedule, resume=False)
    shown = _train(tmp_path / "run", 4, schedule, resume=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rate = next(row["policy/learning_rate"] for row in rows if row["step"] == 3)
    said = "decays over 4 updates instead of 2"
    if schedule == "constant":
        assert said not in shown
        return
    assert said in shown
    assert f"the learning rate {rate:.3g}, where the run as it was had 0" in shown


def test_nothing_is_said_where_the_next_rate_is_the_same() -> None:
    section = OptimizerSection(schedule="linear", warmup_steps=4)
    assert describe_new_decay(section, 10, 20, 2) is None, "still warming up"
    assert describe_new_decay(section, 10, 10, 6) is None
    assert describe_new_decay(section, 10, 8, 8) is None, "nothing is left to do"
    assert "decays over 20 updates instead of 10" in str(describe_new_decay(section, 10, 20, 6))

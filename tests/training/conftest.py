"""Runs small enough for a test: the embedded policy, few problems, short responses."""

from pathlib import Path

import pytest

from masa.config import Config, load_config

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SMALL = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=4",
    "problems.limit=64",
    "problems.eval_limit=8",
    "evaluation.every=2",
    "evaluation.num_samples=1",
    "evaluation.num_metas=1",
    "rewards.verifier_workers=1",
    "checkpoint.every=2",
    "run.steps=5",
    "run.threads=1",
)


@pytest.fixture
def small_config(tmp_path: Path) -> Config:
    """A run of five steps in ``tmp_path/run``."""
    return load_config(QUICKSTART, [*SMALL, f"run.dir={tmp_path / 'run'}"])

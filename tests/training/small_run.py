"""The options of a run that is small enough for a test."""

from pathlib import Path

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

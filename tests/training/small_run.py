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
# Smaller still, for what needs no more than a step or two: two problems with two responses on each path.
TINY = {
    "algorithm.num_problems": 2,
    "algorithm.num_solutions": 2,
    "algorithm.num_metas": 2,
    "problems.limit": 16,
    "problems.eval_limit": 2,
    "rollout.check_at_start": False,
    "rollout.max_solution_tokens": 48,
    "rollout.max_meta_tokens": 40,
    "tracking.figures": False,
    "evaluation.every": 0,
}

"""A tiny study of the embedded world: two arms, two steps, two problems a step."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[2]
SETTINGS = {
    "algorithm.num_problems": 2,
    "algorithm.num_solutions": 2,
    "algorithm.num_metas": 2,
    "rollout.max_solution_tokens": 64,
    "rollout.max_meta_tokens": 48,
    "rollout.check_at_start": False,
    "problems.eval_limit": 4,
    "evaluation.every": 1,
    "evaluation.num_samples": 1,
    "checkpoint.every": 1,
    "rewards.verifier_workers": 1,
    "tracking.figures": False,
    "run.threads": 1,
}


def write_study(folder: Path, *, steps: int = 2, seeds: str = "[0]", arms: str = "", **changes: object) -> Path:
    """A study file in ``folder``; ``arms`` replaces its two arms, ``changes`` are options of both, a__b for a.b."""
    settings = {**SETTINGS, "run.steps": steps, **{key.replace("__", "."): value for key, value in changes.items()}}
    lines = [f"  {key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in settings.items()]
    arms = arms or "  grpo:\n  masa:\n    title: MASA\n    set: {algorithm.meta: true}\n"
    base = PROJECT / "configs" / "quickstart_grpo.yaml"
    path = folder / "tiny.yaml"
    path.write_text(
        f"title: A tiny study\nconfig: {base}\nseeds: {seeds}\nbaseline: grpo\nset:\n"
        + "\n".join(lines)
        + f"\narms:\n{arms}"
    )
    return path

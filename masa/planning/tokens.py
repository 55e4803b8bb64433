"""Tokens of a whole run, at most: every response as long as its limit, every prompt as long as the longest."""

from __future__ import annotations

from masa.config import Config
from masa.preflight import StepPlan


def evaluations(steps: int, every: int) -> int:
    """How often a run of so many steps evaluates: before the first, after the last, and every ``every`` (0: never)."""
    between = sum(1 for step in range(1, steps) if every and step % every == 0)
    return 2 + between


def evaluation_tokens(config: Config, problems: int, longest_prompt: int) -> tuple[int, int]:
    """Tokens generated and read of prompts by one evaluation of ``problems`` held-out problems.

    Each sample counts its own prompt, as `masa.preflight.plan_step` does for training.
    """
    section, rollout = config.evaluation, config.rollout
    generated = section.num_samples * config.held_out_solution_tokens + section.num_metas * rollout.max_meta_tokens
    return problems * generated, problems * (section.num_samples + section.num_metas) * longest_prompt


def token_rows(config: Config, plan: StepPlan, held_out: int, longest_prompt: int, steps: int | None) -> dict[str, str]:
    """Lines of the plan; ``steps`` is None where their number is not known here. Batches drawn again by dynamic
    sampling are not counted."""
    rows = {}
    generated, prompts = evaluation_tokens(config, held_out, longest_prompt)
    if steps is not None:
        total = plan.generated_tokens + plan.prompt_tokens
        rows["tokens of all steps at most"] = f"{steps * plan.generated_tokens:,} generated, {steps * total:,} in all"
    if held_out:
        rows["tokens of an evaluation at most"] = f"{generated:,} generated, {prompts:,} of prompts"
    if held_out and steps is not None:
        times = evaluations(steps, config.evaluation.every)
        rows[f"tokens of all {times} evaluations at most"] = f"{times * generated:,} generated"
    return rows

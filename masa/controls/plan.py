"""From the predictions of a step's metas to what is asked of the engine: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from masa.controls.cutoff import EarlyCutoff
from masa.controls.gating import is_drawn
from masa.controls.hinting import NotionHinting
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction
from masa.rollout.engine import Rollout, RolloutRequest
from masa.rollout.moving import left_at
from masa.rollout.requests import RequestBuilder
from masa.rollout.room import HINT_TOKENS


@dataclass(frozen=True)
class PredictedProblem:
    """A problem after its metas and before any solution. Kept predictions (`masa.controls.reuse`) have no metas."""

    problem: Problem
    metas: tuple[Rollout, ...]
    predictions: tuple[MetaPrediction, ...]

    def left_at(self, process: int) -> PredictedProblem:
        """What other processes know of metas that ``process`` has."""
        return replace(self, metas=tuple(left_at(one, process) for one in self.metas))


@dataclass(frozen=True)
class SolutionPlan:
    """How the G solutions of one problem are rolled out.

    ``budget`` is in tokens; ``audited`` says of each solution whether it runs to the response limit all the same,
    ``hinted`` whether its prompt holds ``hint``. With ``in_full`` all of them run to the limit, and yet only the
    audited ones say how good the budget is. ``hint_left_out``: there was a hint, and no room for it.
    """

    problem: Problem
    budget: int
    audited: tuple[bool, ...]
    hint: str | None
    hinted: tuple[bool, ...]
    in_full: bool = False
    hint_left_out: bool = False


@dataclass(frozen=True)
class SolutionPart:
    """The solutions of one problem that share prompt and limit: one request to the engine."""

    plan: SolutionPlan
    indices: tuple[int, ...]
    max_new_tokens: int
    hinted: bool


@dataclass(frozen=True)
class PlanSettings:
    """What plans depend on beside the predictions; None for a control that is off."""

    num_solutions: int
    limit: int
    run_seed: int
    cutoff: EarlyCutoff | None = None
    hinting: NotionHinting | None = None
    hint_fits: Callable[[Problem, str], bool] = lambda problem, hint: True


def plan_solutions(
    predicted: PredictedProblem, step: int, settings: PlanSettings, *, in_full: bool = False
) -> SolutionPlan:
    """Budget, audits and hint of one problem's solutions (docs/controls.md); ``in_full``: none of them is cut."""
    problem, count = predicted.problem, settings.num_solutions
    budget, audited = settings.limit, [False] * count
    if settings.cutoff is not None:
        section = settings.cutoff.section
        budget = settings.cutoff.budget(problem, predicted.predictions, settings.limit)
        audited = [
            is_drawn(section.audit_share, settings.run_seed, step, problem.id, "cutoff audit", index)
            for index in range(count)
        ]
    hint, hinted, left_out = None, 0, False
    if settings.hinting is not None:
        hint = settings.hinting.hint_of(problem, predicted.predictions)
        if hint is not None and not settings.hint_fits(problem, hint):
            hint, left_out = None, True
        hinted = settings.hinting.hinted(count) if hint is not None else 0
    return SolutionPlan(
        problem, budget, tuple(audited), hint, tuple(index < hinted for index in range(count)), in_full, left_out
    )


def solution_parts(plan: SolutionPlan, limit: int) -> list[SolutionPart]:
    """The plan as requests, in a fixed order; together they hold every solution once."""
    by_kind: dict[tuple[bool, int], list[int]] = {}
    for index, (audited, hinted) in enumerate(zip(plan.audited, plan.hinted, strict=True)):
        by_kind.setdefault((hinted, limit if audited or plan.in_full else plan.budget), []).append(index)
    return [SolutionPart(plan, tuple(indices), tokens, hinted) for (hinted, tokens), indices in by_kind.items()]


def part_request(part: SolutionPart, builder: RequestBuilder, step: int) -> RolloutRequest:
    """The request of one part."""
    return builder.solution_request(
        part.plan.problem,
        part.indices,
        step=step,
        max_new_tokens=part.max_new_tokens,
        hint=part.plan.hint if part.hinted else None,
    )


def merge_parts(
    parts: Sequence[SolutionPart], samples: Sequence[Sequence[Rollout]], limit: int
) -> dict[str, list[Rollout]]:
    """The G solutions of each problem in their order, with their own index, hint and reason to end.

    A rollout that reached a limit below the response limit was cut.
    """
    merged: dict[str, dict[int, Rollout]] = {}
    for part, rollouts in zip(parts, samples, strict=True):
        group = merged.setdefault(part.plan.problem.id, {})
        for index, rollout in zip(part.indices, rollouts, strict=True):
            cut = rollout.truncated and part.max_new_tokens < limit
            group[index] = replace(
                rollout,
                index=index,
                hint=part.plan.hint if part.hinted else None,
                finish_reason="cutoff" if cut else rollout.finish_reason,
            )
    return {id: [group[index] for index in sorted(group)] for id, group in merged.items()}


def hint_limit(
    builder: RequestBuilder, max_prompt_tokens: int, response_limit: int, room: int | None = None
) -> Callable[[Problem, str], bool]:
    """Whether a hinted prompt stays within what engines make room for: ``room`` tokens with its response, if known."""
    longest = max_prompt_tokens + HINT_TOKENS
    if room is not None:
        longest = min(longest, room - response_limit)

    def fits(problem: Problem, hint: str) -> bool:
        return len(builder.prompt_ids(problem, "solution", hint)) <= longest

    return fits

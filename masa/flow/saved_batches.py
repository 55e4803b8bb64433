"""Batches that were sampled and not taken, in a checkpoint: rollouts one after the other, and what they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from masa.controls.batch import ShapedBatch, StepBatch
from masa.controls.plan import PredictedProblem, SolutionPlan
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction
from masa.rollout.engine import Rollout
from masa.rollout.waiting import Waiting, rollout_of_json
from masa.tokens.elsewhere import Elsewhere

_SETS = ("audited", "let_through")
_MOMENT = ("controls_on", "gate_open")
_NUMBERS = ("uncounted_tokens", "num_metas", "rounds", "went_on", "put_aside", "put_aside_tokens")


def save_batches(batches: Mapping[int, StepBatch]) -> Waiting:
    """Of each batch, by step: its problems, this process's groups, and what was decided about it.

    What all processes know is in each one's layout; metas of gated problems are in that of who has their tokens.
    """
    layout: list[dict[str, Any]] = []
    rollouts: list[Rollout] = []
    for step, batch in sorted(batches.items()):
        one: dict[str, Any] = {
            "step": step,
            "problems": [problem.id for problem in batch.problems],
            "group_sizes": [len(group) for group in batch.rollouts],
        }
        rollouts += [rollout for group in batch.rollouts for rollout in group]
        if isinstance(batch, ShapedBatch):
            gated = [one for one in batch.gated if not any(_is_elsewhere(meta) for meta in one.metas)]
            rollouts += [meta for problem in gated for meta in problem.metas]
            one["decided"] = _decided(batch) | {
                "gated": [_saved_prediction(problem) for problem in gated],
                "gated_order": [problem.problem.id for problem in batch.gated],
            }
        layout.append(one)
    return Waiting(layout, rollouts)


def load_batches(
    states: Iterable[Waiting],
    by_id: Mapping[str, Problem],
    share: Callable[[Sequence[Problem]], list[Problem]],
) -> dict[int, StepBatch]:
    """The batches of all processes' ``states``, each with those of its groups that are this process's ``share``."""
    found: dict[int, tuple[dict[str, Any], list[list[Rollout]], dict[str, PredictedProblem]]] = {}
    for state in states:
        rollouts = iter(state.rollouts)
        for one in state.layout:
            _, groups, gated = found.setdefault(int(one["step"]), (one, [], {}))
            groups.extend(list(islice(rollouts, size)) for size in one["group_sizes"])
            for saved in one.get("decided", {}).get("gated", ()):
                problem = by_id[saved["problem"]]
                metas = tuple(islice(rollouts, saved["metas"]))
                gated[problem.id] = PredictedProblem(problem, metas, _loaded_predictions(saved["predictions"]))
    return {step: _loaded(one, groups, gated, by_id, share) for step, (one, groups, gated) in sorted(found.items())}


def ahead_of_json(state: Sequence[Mapping[str, Any]]) -> Waiting:
    """What checkpoints of earlier versions hold in JSON: the groups themselves in the place of their sizes."""
    layout = [
        {"step": one["step"], "problems": one["problems"], "group_sizes": [len(group) for group in one["groups"]]}
        for one in state
    ]
    return Waiting(layout, [rollout_of_json(values) for one in state for group in one["groups"] for values in group])


def _loaded(
    one: Mapping[str, Any],
    groups: Sequence[list[Rollout]],
    gated: Mapping[str, PredictedProblem],
    by_id: Mapping[str, Problem],
    share: Callable[[Sequence[Problem]], list[Problem]],
) -> StepBatch:
    problems = [by_id[name] for name in one["problems"]]
    mine = share(problems)
    of = {(group[0].path, group[0].problem_id): group for group in groups}
    keys = [(path, problem.id) for path in ("solution", "meta") for problem in mine]
    own = [of[key] for key in keys if key in of]
    decided = one.get("decided")
    if decided is None:
        return StepBatch(problems, mine, own)
    # Earlier versions put nothing aside.
    others: dict[str, Any] = {name: decided.get(name, 0) for name in _NUMBERS}
    others |= {name: decided.get(name) for name in _MOMENT}
    others |= {name: frozenset(decided[name]) for name in _SETS}
    return ShapedBatch(
        problems,
        mine,
        own,
        gated=[gated[id] for id in decided["gated_order"]],
        plans={values["problem"]: _loaded_plan(values, by_id) for values in decided["plans"]},
        flagged=None if decided["flagged"] is None else frozenset(decided["flagged"]),
        evidence=decided["evidence"],
        prompts_read=tuple(decided.get("prompts_read", ())),
        **others,
    )


def _is_elsewhere(rollout: Rollout) -> bool:
    return isinstance(rollout.token_ids, Elsewhere)


def _decided(batch: ShapedBatch) -> dict[str, Any]:
    return {
        **{name: sorted(getattr(batch, name)) for name in _SETS},
        **{name: getattr(batch, name) for name in (*_NUMBERS, *_MOMENT)},
        "flagged": None if batch.flagged is None else sorted(batch.flagged),
        "evidence": {id: list(values) for id, values in batch.evidence.items()},
        "prompts_read": list(batch.prompts_read),
        "plans": [
            {
                "problem": plan.problem.id,
                "budget": plan.budget,
                "audited": list(plan.audited),
                "hint": plan.hint,
                "hinted": list(plan.hinted),
                "in_full": plan.in_full,
                "hint_left_out": plan.hint_left_out,
            }
            for plan in batch.plans.values()
        ],
    }


def _loaded_plan(values: Mapping[str, Any], by_id: Mapping[str, Problem]) -> SolutionPlan:
    others = {name: values[name] for name in ("budget", "hint", "in_full", "hint_left_out")}
    return SolutionPlan(
        problem=by_id[values["problem"]],
        audited=tuple(values["audited"]),
        hinted=tuple(values["hinted"]),
        **others,
    )


def _saved_prediction(one: PredictedProblem) -> dict[str, Any]:
    predictions = [
        [None if told.notions is None else list(told.notions), told.pass_rate, told.length] for told in one.predictions
    ]
    return {"problem": one.problem.id, "metas": len(one.metas), "predictions": predictions}


def _loaded_predictions(saved: Iterable[Sequence[Any]]) -> tuple[MetaPrediction, ...]:
    return tuple(
        MetaPrediction(None if notions is None else tuple(notions), pass_rate, length)
        for notions, pass_rate, length in saved
    )

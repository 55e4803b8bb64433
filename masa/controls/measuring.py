"""What a step shows of the controls: evidence for gate and cutoff, and the metrics of both and of hints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from masa.controls.batch import ShapedBatch
from masa.controls.cutoff import CutoffEvidence, EarlyCutoff, exceeds_budget
from masa.controls.gating import GateEvidence, PredictiveGate
from masa.controls.intervals import Estimate
from masa.controls.plan import SolutionPlan
from masa.controls.selection.selector import Outcome
from masa.rewards.grading import GradedGroup, is_informative
from masa.rewards.meta_prediction import MetaPrediction
from masa.tracking.metrics import StepMetrics


def outcome_of(group: GradedGroup) -> Outcome:
    """What a group's solutions say to a selection method."""
    return Outcome(
        problem=group.problem.id,
        correct=sum(verdict.correct for verdict in group.verdicts),
        total=len(group.verdicts),
        flat=not is_informative(group),
        predicted=tuple(one.pass_rate for one in group.predictions),
    )


def measured(
    batch: ShapedBatch, groups: Sequence[GradedGroup], flagged: frozenset[str]
) -> Iterator[tuple[str, bool, tuple[MetaPrediction, ...]]]:
    """Of solved problems: whether the judgement was right, and what was predicted in this step.

    A flagged problem that was let through and cut is none of them: cutting has made its flag come true.
    """
    for group in groups:
        id = group.problem.id
        if id not in batch.let_through or not any(one.cut for one in group.solutions):
            yield id, (id in flagged) == outcome_of(group).flat, group.predictions


def share_of_kept(batch: ShapedBatch, groups: Sequence[GradedGroup]) -> float:
    """Share of a step's problems, gated ones included, that had no metas."""
    without = [not one.metas for one in groups] + [not one.metas for one in batch.gated]
    return sum(without) / len(without) if without else 0.0


def observe_gate(
    metrics: StepMetrics,
    gate: PredictiveGate,
    batch: ShapedBatch,
    groups: Sequence[GradedGroup],
    flagged_ids: frozenset[str],
    *,
    gates: bool,
) -> None:
    """Show the gate which of the flagged and of the other problems were flat, and record what it has learned.

    ``gates``: whether the selection flags problems, so that the gate is open or closed; a ranking has no such state.
    """
    audited: list[bool] = []
    unflagged: list[bool] = []
    for group in groups:
        if group.problem.id in batch.let_through:
            continue
        (audited if group.problem.id in flagged_ids else unflagged).append(outcome_of(group).flat)
    gated = len(batch.gated)
    flagged = gated + len(batch.let_through) + len(audited)
    if gates:
        metrics.last("control/gate_open", float(gate.is_open if batch.gate_open is None else batch.gate_open))
    metrics.last("control/gate_flagged_share", flagged / (flagged + len(unflagged)))
    metrics.last("control/gated_share", gated / (flagged + len(unflagged)))
    metrics.sum("control/gate_measured", len(audited))
    metrics.sum("control/gate_let_through", len(batch.let_through))
    gate.observe(GateEvidence(flagged, len(audited), sum(audited), len(unflagged), sum(unflagged)))
    reading = gate.reading()
    metrics.last("control/gate_audits", reading.audits)
    for name in ("precision", "recall", "f1"):
        _record_estimate(metrics, f"control/gate_{name}", getattr(reading, name))


def observe_cutoff(
    metrics: StepMetrics,
    cutoff: EarlyCutoff,
    batch: ShapedBatch,
    groups: Sequence[GradedGroup],
    limit: int,
) -> None:
    """Show the cutoff which whole solutions were beyond their budget, right and wrong, and record what it has learned.

    ``limit``: the response limit of a solution, in tokens.
    """
    outcomes: list[tuple[bool, bool]] = []
    for group in groups:
        plan = batch.plans.get(group.problem.id)
        budget = _budget(group, plan, cutoff, limit)
        metrics.mean("control/cutoff_budget", budget)
        metrics.means("control/cut_share", [float(one.cut) for one in group.solutions])
        for index, (one, verdict) in enumerate(zip(group.solutions, group.verdicts, strict=True)):
            if plan is None or plan.audited[index]:
                outcomes.append((exceeds_budget(len(one.token_ids), one.truncated, budget, limit), verdict.correct))
    evidence = CutoffEvidence(
        cut_wrong=sum(cut and not right for cut, right in outcomes),
        cut_right=sum(cut and right for cut, right in outcomes),
        kept_wrong=sum(not cut and not right for cut, right in outcomes),
        kept_right=sum(not cut and right for cut, right in outcomes),
    )
    metrics.sum("control/cutoff_audited", evidence.total)
    cutoff.observe(evidence)
    reading = cutoff.reading()
    for name in ("precision", "recall", "f1", "lost"):
        _record_estimate(metrics, f"control/cutoff_{name}", getattr(reading, name))


def _budget(group: GradedGroup, plan: SolutionPlan | None, cutoff: EarlyCutoff, limit: int) -> int:
    if plan is not None:
        return plan.budget
    return cutoff.budget(group.problem, group.predictions, limit)


def _record_estimate(metrics: StepMetrics, key: str, estimate: Estimate) -> None:
    metrics.last(key, estimate.value)
    metrics.last(f"{key}_low", estimate.low)
    metrics.last(f"{key}_high", estimate.high)


def record_hints(metrics: StepMetrics, groups: Sequence[GradedGroup]) -> None:
    """Correctness and length of hinted and of plain solutions, of the problems that have both kinds or either."""
    for group in groups:
        metrics.mean("control/hinted_problems", float(any(one.hint is not None for one in group.solutions)))
        for one, verdict in zip(group.solutions, group.verdicts, strict=True):
            kind = "plain" if one.hint is None else "hinted"
            metrics.mean("control/hinted_share", float(one.hint is not None))
            metrics.mean(f"control/{kind}_correctness", float(verdict.correct))
            metrics.mean(f"control/{kind}_length", len(one.token_ids))


def mean_rewards(groups: Sequence[GradedGroup]) -> dict[str, float]:
    """Means of the meta rewards over a step's metas; none where there are no metas."""
    rewards = [reward for group in groups for reward in group.meta_rewards]
    if not rewards:
        return {}
    return {
        "r_meta": math.fsum(one.total for one in rewards) / len(rewards),
        "r_length": math.fsum(one.length for one in rewards) / len(rewards),
        "r_difficulty": math.fsum(one.difficulty for one in rewards) / len(rewards),
        "r_notion": math.fsum(one.notion for one in rewards) / len(rewards),
    }

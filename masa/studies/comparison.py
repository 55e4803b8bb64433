"""Arms against the baseline, seed by seed: accuracy at equal cost, and cost to reach the baseline's final accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from masa.reporting.curves import Spread, spread
from masa.studies.record import Record, RecordError

# One evaluation alone is too noisy to aim at: accuracy is read as a moving mean over so many.
WINDOW = 2
BySeed = Mapping[int, Record]


@dataclass(frozen=True)
class ArmResult:
    """One arm over the seeds that it shares with the baseline.

    ``final`` and ``gain`` (over the baseline, paired) are held-out accuracies; ``at_equal`` the accuracy, and
    ``gain_at_equal`` the paired gain, at what the thriftiest arm of each seed spent in all. ``saving`` says how many
    times less the arm spent until it reached the baseline's final accuracy than the baseline in its whole run, and
    ``strict_saving`` than the baseline until it first was there: geometric means with intervals over the ``reached``
    seeds, those left out that were there before anything was spent. Without a seed that reached it, they are NaN.
    """

    arm: str
    seeds: tuple[int, ...]
    final: Spread
    gain: Spread
    at_equal: Mapping[str, Spread]
    gain_at_equal: Mapping[str, Spread]
    saving: Mapping[str, Spread]
    strict_saving: Mapping[str, Spread]
    reached: Mapping[str, int]


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def final_accuracy(record: Record) -> float:
    """Mean of the last `WINDOW` evaluations."""
    return math.fsum(record.accuracy[-WINDOW:]) / len(record.accuracy[-WINDOW:])


def smoothed(record: Record) -> list[float]:
    """Moving mean of the accuracy over `WINDOW` evaluations, the earlier ones included."""
    windows = [record.accuracy[max(0, at - WINDOW + 1) : at + 1] for at in range(len(record.accuracy))]
    return [math.fsum(window) / len(window) for window in windows]


def accuracy_at(record: Record, cost: str, budget: float) -> float:
    """The moving mean where ``budget`` had been spent, interpolated between evaluations; NaN beyond the run's end."""
    spent, accuracy = record.spent[cost], smoothed(record)
    if budget > spent[-1]:
        return math.nan
    for at, value in enumerate(spent):
        if value >= budget:
            if at == 0 or value == spent[at - 1]:
                return accuracy[at]
            share = (budget - spent[at - 1]) / (value - spent[at - 1])
            return accuracy[at - 1] + share * (accuracy[at] - accuracy[at - 1])
    return math.nan


def cost_to_reach(record: Record, target: float, cost: str) -> float:
    """What had been spent where the moving mean first is at least ``target``, interpolated; NaN if it never is."""
    spent, accuracy = record.spent[cost], smoothed(record)
    for at, value in enumerate(accuracy):
        if value >= target:
            if at == 0:
                return spent[0]
            share = (target - accuracy[at - 1]) / (value - accuracy[at - 1])
            return spent[at - 1] + share * (spent[at] - spent[at - 1])
    return math.nan


def compare(arms: Mapping[str, BySeed], baseline: str, costs: Sequence[str]) -> list[ArmResult]:
    """The result of each arm that shares a seed with the baseline; none where the baseline has not run.

    Args:
        arms: records by arm and seed.
        baseline: the arm that all are compared with.
        costs: keys of `Record.spent`.
    """
    base = arms.get(baseline, {})
    budgets = {cost: {seed: _thriftiest(arms, seed, cost) for seed in base} for cost in costs}
    return [_result(arm, records, base, budgets) for arm, records in arms.items() if set(records) & set(base)]


def mean_record(records: Sequence[Record]) -> Record:
    """The runs of one arm as one: accuracy and what was spent, averaged over the seeds at each evaluation.

    Raises:
        RecordError: runs that were evaluated at different steps.
    """
    first = records[0]
    for one in records:
        if one.steps != first.steps:
            raise RecordError(
                f"arm {first.arm}: its runs were evaluated at different steps, seed {first.seed} at "
                f"{_listed(first.steps)} and seed {one.seed} at {_listed(one.steps)}; for one table all seeds need the "
                "same run.steps and evaluation.every"
            )
    costs = records[0].spent
    return replace(
        records[0],
        accuracy=_mean([one.accuracy for one in records]),
        spent={cost: _mean([one.spent[cost] for one in records]) for cost in costs},
    )


def oracle_saving(record: Record, tokens_a_meta: float, num_metas: int) -> float:
    """How many times fewer tokens this run would have generated with every group of equal rewards left out.

    That is the most a gate could save it: ``tokens / (tokens - flat tokens + problems x M x tokens a meta)``; infinite
    where that leaves nothing to generate.
    """
    tokens = record.totals["tokens"]
    left = tokens - record.flat_tokens + record.totals["cost/problems_drawn"] * num_metas * tokens_a_meta
    return tokens / left if left > 0 else math.inf


def _result(arm: str, records: BySeed, base: BySeed, budgets: Mapping[str, Mapping[int, float]]) -> ArmResult:
    seeds = tuple(sorted(set(records) & set(base)))
    at_equal, gains, saving, strict, reached = {}, {}, {}, {}, {}
    for cost, budget in budgets.items():
        own = [accuracy_at(records[seed], cost, budget[seed]) for seed in seeds]
        other = [accuracy_at(base[seed], cost, budget[seed]) for seed in seeds]
        at_equal[cost], gains[cost] = spread(own), spread([a - b for a, b in zip(own, other, strict=True)])
        targets = [final_accuracy(base[seed]) for seed in seeds]
        needed = [cost_to_reach(records[seed], target, cost) for seed, target in zip(seeds, targets, strict=True)]
        first = [cost_to_reach(base[seed], target, cost) for seed, target in zip(seeds, targets, strict=True)]
        saving[cost] = _geometric([base[seed].spent[cost][-1] for seed in seeds], needed)
        strict[cost] = _geometric(first, needed)
        reached[cost] = sum(not math.isnan(one) for one in needed)
    return ArmResult(
        arm=arm,
        seeds=seeds,
        final=spread([final_accuracy(records[seed]) for seed in seeds]),
        gain=spread([final_accuracy(records[seed]) - final_accuracy(base[seed]) for seed in seeds]),
        at_equal=at_equal,
        gain_at_equal=gains,
        saving=saving,
        strict_saving=strict,
        reached=reached,
    )


def _listed(steps: Sequence[int]) -> str:
    shown = [*map(str, steps)] if len(steps) < 7 else [*map(str, steps[:3]), "...", *map(str, steps[-2:])]
    return ", ".join(shown) or "none"


def _mean(values: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(column) / len(column) for column in zip(*values, strict=True)]


def _thriftiest(arms: Mapping[str, BySeed], seed: int, cost: str) -> float:
    return min(records[seed].spent[cost][-1] for records in arms.values() if seed in records)


def _geometric(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Geometric mean of ratios, with the t interval of their logarithms; ratios that are unknown or 0 are left out."""
    logs = [math.log(a / b) if a > 0 and b > 0 else math.nan for a, b in zip(numerators, denominators, strict=True)]
    found = spread(logs)
    return Spread(math.exp(found.mean), math.exp(found.low), math.exp(found.high), found.seeds)

"""Held-out accuracy of each method at equal budgets of tokens and seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from masa.reporting.curves import spread, total
from masa.reporting.groups import RunGroup
from masa.reporting.runs import Run
from masa.reporting.tables import Row, Table, count, per_cent, seconds
from masa.tracking import keys

_BUDGETS: Sequence[tuple[str, str, Callable[[float], str]]] = (
    ("generated", keys.TOKENS_GENERATED, count),
    ("trained", keys.TOKENS_TRAINED, count),
    ("of training", keys.STEP_SECONDS, seconds),
)


def equal_budgets_table(groups: Sequence[RunGroup]) -> Table:
    """Accuracy when each method had spent as much as the thriftiest one in all; empty for fewer than two methods."""
    trained = [group for group in groups if group.trained]
    if len(trained) < 2:
        return Table("method", [], [])
    cells: dict[str, list[str]] = {group.label: [] for group in trained}
    columns = []
    for name, key, shown in _BUDGETS:
        spent = [value for group in trained for run in group.runs if not math.isnan(value := total(run.metrics, key))]
        if len(spent) < len(trained):
            continue
        budget = min(spent)
        columns.append(f"{shown(budget)} {'' if key == keys.STEP_SECONDS else 'tokens '}{name}")
        for group in trained:
            accuracy = spread([accuracy_at(run, key, budget) for run in group.runs])
            cells[group.label].append(per_cent(accuracy))
    return Table(
        "method",
        columns,
        [Row(group.label, cells[group.label], group.color) for group in trained] if columns else [],
        title="Accuracy at equal budgets",
        note="Held-out accuracy in per cent, interpolated between evaluations, when each run had spent what the "
        "thriftiest run spent in all. Means over seeds, with half of the 95 % interval where there are several.",
    )


def accuracy_at(run: Run, key: str, budget: float) -> float:
    """The held-out accuracy where ``budget`` of the metric ``key`` had been spent; NaN where no evaluation is."""
    points = _evaluated(run.metrics, key)
    before = [point for point in points if point[0] <= budget]
    after = [point for point in points if point[0] > budget]
    if not before:
        return math.nan
    if not after:
        return before[-1][1]
    (spent, accuracy), (later, better) = before[-1], after[0]
    return accuracy + (budget - spent) / (later - spent) * (better - accuracy)


def _evaluated(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """What had been spent at each evaluation, and its accuracy."""
    spent, points = 0.0, []
    for row in rows:
        spent += row.get(key) or 0.0
        if row.get(keys.HELD_OUT_ACCURACY) is not None:
            points.append((spent, float(row[keys.HELD_OUT_ACCURACY])))
    return points

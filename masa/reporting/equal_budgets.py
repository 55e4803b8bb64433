"""Held-out accuracy of each method at equal budgets of tokens and seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from masa.reporting.curves import spent, spread, total
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
    """Accuracy when each run had spent as much as the thriftiest run in all; empty for fewer than two methods."""
    trained = [group for group in groups if group.trained]
    if len(trained) < 2:
        return Table("method", [], [])
    cells: dict[str, list[str]] = {group.label: [] for group in trained}
    columns = []
    for name, key, shown in _BUDGETS:
        totals = [value for group in trained for run in group.runs if not math.isnan(value := total(run.metrics, key))]
        if len(totals) < len(trained):
            continue
        budget = min(totals)
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
        "least costly run spent in all. Means over seeds, with half of the 95 % interval where there are several.",
    )


def accuracy_at(run: Run, key: str, budget: float) -> float:
    """The held-out accuracy where ``budget`` of the metric ``key`` had been spent; NaN where no evaluation is."""
    sums = spent(run.metrics, key)
    points = [
        (sums[int(row["step"])], float(row[keys.HELD_OUT_ACCURACY]))
        for row in run.metrics
        if row.get(keys.HELD_OUT_ACCURACY) is not None
    ]
    if not points:
        return math.nan
    at, accuracy = zip(*points, strict=True)
    return float(np.interp(budget, at, accuracy, left=math.nan))

"""How well metas predict a problem's pass rate, beside predictors that know nothing of the problem's text.

The constant predicts the mean pass rate of all earlier steps. The history predicts what the same problem's pass rate
was when it was last solved, and the constant where it has not been solved yet. Neither looks at the step it predicts.
A policy knows something of itself where its predictions beat both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from masa.reporting.curves import spread, twelfths
from masa.reporting.groups import RunGroup
from masa.reporting.runs import Run
from masa.reporting.tables import GAP, Row, Table
from masa.tracking.figure_data import tenths

PREDICTORS = ("metas", "constant", "history")


@dataclass(frozen=True)
class Compared:
    """One problem of one step: its measured pass rate, and the mean prediction of each predictor, all in [0, 1].

    ``error`` is the mean absolute error of the single metas; ``seen`` whether the history knew the problem.
    """

    step: int
    actual: float
    metas: float
    error: float
    constant: float
    history: float
    seen: bool


def compared(predictions: Iterable[Mapping[str, Any]]) -> list[Compared]:
    """Every solved problem with a readable prediction, from the second step on: the first has nothing before it."""
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for row in predictions:
        if row.get("pass_rate") is not None:
            by_step.setdefault(int(row["step"]), []).append(row)
    last: dict[str, float] = {}
    total, count = 0.0, 0
    found = []
    for step, rows in sorted(by_step.items()):
        if count:
            found += [one for row in rows if (one := _compare(step, row, total / count, last)) is not None]
        for row in rows:
            last[str(row["problem"])] = float(row["pass_rate"])
            total, count = total + float(row["pass_rate"]), count + 1
    return found


def _compare(step: int, row: Mapping[str, Any], constant: float, last: Mapping[str, float]) -> Compared | None:
    predicted = [float(value) for value in row.get("predicted_pass_rate", ()) if value is not None]
    if not predicted:
        return None
    actual, problem = float(row["pass_rate"]), str(row["problem"])
    return Compared(
        step,
        actual,
        metas=float(np.mean(predicted)),
        error=float(np.mean([abs(value - actual) for value in predicted])),
        constant=constant,
        history=last.get(problem, constant),
        seen=problem in last,
    )


def quality(found: Sequence[Compared]) -> dict[str, float]:
    """Mean absolute error and Pearson's correlation of each predictor; NaN where it has none (a constant)."""
    values = {f"error_{name}": math.nan for name in PREDICTORS} | {f"r_{name}": math.nan for name in PREDICTORS}
    values["seen"] = math.nan
    if not found:
        return values
    actual = np.array([one.actual for one in found])
    values["error_metas"] = float(np.mean([one.error for one in found]))
    values["seen"] = float(np.mean([one.seen for one in found]))
    for name in PREDICTORS:
        predicted = np.array([getattr(one, name) for one in found])
        if name != "metas":
            values[f"error_{name}"] = float(np.abs(predicted - actual).mean())
        # The constant of a window moves a little from step to step, which is no knowledge of problems.
        if name != "constant" and len(found) > 2 and np.ptp(actual) > 0 and np.ptp(predicted) > 0:
            values[f"r_{name}"] = float(np.corrcoef(actual, predicted)[0, 1])
    return values


def windows(run: Run) -> list[dict[str, float]]:
    """`quality` in each twelfth of a run, at the last step of each; empty without predictions."""
    found = compared(run.predictions)
    steps = sorted({one.step for one in found})
    return [
        {"step": window[-1], **quality([one for one in found if window[0] <= one.step <= window[-1]])}
        for window in twelfths(steps)
    ]


def baselines_table(groups: Sequence[RunGroup]) -> Table:
    """Each group's predictions of the last tenth of its steps beside the constant and the history."""
    rows = []
    for group in groups:
        measured = [quality(last) for run in group.runs if (last := _last_tenth(run))]
        if measured:
            means = {key: spread([one[key] for one in measured]).mean for key in measured[0]}
            cells = [_shown(means[f"r_{name}"]) for name in ("metas", "history")]
            cells += [_shown(means[f"error_{name}"]) for name in PREDICTORS]
            rows.append(Row(group.label, [*cells, f"{means['seen']:.0%}"], group.color))
    return Table(
        "method",
        ["r, metas", "r, history", "error, metas", "error, constant", "error, history", "problems with a history"],
        rows,
        title="Last tenth of the steps",
        note="r: correlation with the measured pass rate over problems. Error: mean absolute error of the predicted "
        "pass rate. Means over seeds.",
    )


def _last_tenth(run: Run) -> list[Compared]:
    found = compared(run.predictions)
    _, last = tenths([{"step": one.step} for one in found])
    return [one for one in found if one.step in last]


def _shown(value: float) -> str:
    return GAP if math.isnan(value) else f"{value:.2f}"

"""The reward functions of a run in the report: what they gave at first and at last, and how often they failed."""

from __future__ import annotations

from collections.abc import Sequence

from masa.reporting.curves import spread, total
from masa.reporting.groups import RunGroup
from masa.reporting.tables import GAP, NOT_MEASURED, Row, Table
from masa.tracking.metrics import mean_of_tenth

_PREFIX, _ERRORS, _DEVIATION = "reward/function_", "_errors", "_std"


def functions_table(groups: Sequence[RunGroup]) -> Table:
    """One row a group and reward function; no rows where no run had any."""
    rows = []
    for group in groups:
        keys = dict.fromkeys(key for run in group.runs for row in run.metrics for key in row)
        for errors in keys:
            if not (errors.startswith(_PREFIX) and errors.endswith(_ERRORS)):
                continue
            key = errors.removesuffix(_ERRORS)
            weight = _weight(group, key.removeprefix(_PREFIX))
            cells = [
                key.removeprefix(_PREFIX),
                GAP if weight is None else f"{weight:g}",
                *(_tenth(group, key, which) for which in ("first", "last")),
                _tenth(group, f"{key}{_DEVIATION}", "last"),
                f"{sum(total(run.metrics, errors) for run in group.runs):,.0f}",
            ]
            rows.append(Row(group.label, cells, group.color))
    return Table(
        "method",
        ["reward function", "weight", "mean, first tenth", "mean, last tenth", "deviation, last tenth", "errors"],
        rows,
        title="Reward functions",
        note="Values before their weight, over the solutions of a step; means over seeds. The deviation is within a "
        "step. Errors are counted over all steps and seeds. The weight of a function that was handed in in Python is "
        "not recorded.",
    )


def _tenth(group: RunGroup, key: str, which: str) -> str:
    found = [mean_of_tenth(run.metrics, key, "first" if which == "first" else "last") for run in group.runs]
    known = [value for value in found if value is not None]
    return f"{spread(known).mean:.3f}" if known else NOT_MEASURED


def _weight(group: RunGroup, name: str) -> float | None:
    """Of the function that the configuration names so, or whose path ends so."""
    for source in group.runs[0].section("rewards").get("functions") or ():
        if name == (source.get("name") or str(source.get("path", "")).rpartition(":")[2]):
            return float(source.get("weight", 1.0))
    return None

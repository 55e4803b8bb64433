"""What figures are drawn from: the rows of a run directory, as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RunData:
    """The rows of one run, oldest first."""

    metrics: Sequence[Mapping[str, Any]]
    predictions: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Pairs:
    """Predicted against actual, one entry per parsed meta rollout whose problem has the actual value.

    ``low`` and ``high`` bound what counts as right: the shortest and longest correct solution; for a pass rate both
    are the actual value.
    """

    actual: Floats
    predicted: Floats
    low: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.actual)

    @property
    def correlation(self) -> float:
        """Pearson's r; NaN for fewer than two points or where either side does not vary."""
        if len(self) < 2 or np.ptp(self.actual) == 0 or np.ptp(self.predicted) == 0:
            return math.nan
        return float(np.corrcoef(self.actual, self.predicted)[0, 1])

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which predictions lie within their bounds."""
        return (self.low <= self.predicted) & (self.predicted <= self.high)


def read_run(run_dir: str | Path) -> RunData:
    """The metrics and predictions of a run directory; a missing file has no rows.

    Raises:
        ValueError: a line in the middle of a file is no JSON object.
    """
    directory = RunDirectory(run_dir)
    return RunData(jsonl.read_rows(directory.metrics), jsonl.read_rows(directory.predictions))


def series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[Floats, Floats]:
    """Steps and values of ``key`` in the rows that hold a finite value for it."""
    found = [(row["step"], row[key]) for row in rows if row.get(key) is not None and math.isfinite(row[key])]
    array = np.array(found, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def smooth(values: Floats, window: int) -> Floats:
    """Centred moving mean over ``window`` values (odd), over fewer at both ends."""
    half = window // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def tenths(rows: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """The first and the last tenth of the steps that have rows, at least one step each; both empty without rows."""
    steps = sorted({int(row["step"]) for row in rows})
    tenth = max(1, len(steps) // 10)
    return steps[:tenth], steps[-tenth:]


def pass_rate_pairs(rows: Sequence[Mapping[str, Any]], steps: Sequence[int]) -> Pairs:
    """Predicted against measured pass rate of the given steps; problems without solutions are left out."""
    chosen = set(steps)
    found = [
        (row["pass_rate"], predicted, row["pass_rate"], row["pass_rate"])
        for row in rows
        if row["step"] in chosen and row.get("pass_rate") is not None
        for predicted in row.get("predicted_pass_rate", ())
        if predicted is not None
    ]
    return _pairs(found)


def length_pairs(rows: Sequence[Mapping[str, Any]], steps: Sequence[int]) -> Pairs:
    """Predicted length against the mean length of the correct solutions, in tokens.

    Problems without a correct solution are left out: they have no actual length.
    """
    chosen = set(steps)
    found = []
    for row in rows:
        lengths = row.get("correct_lengths") or ()
        if row["step"] not in chosen or not lengths:
            continue
        actual = sum(lengths) / len(lengths)
        found += [
            (actual, predicted, min(lengths), max(lengths))
            for predicted in row.get("predicted_length", ())
            if predicted is not None
        ]
    return _pairs(found)


def _pairs(found: list[tuple[float, float, float, float]]) -> Pairs:
    array = np.array(found, dtype=float).reshape(-1, 4)
    return Pairs(*array.T)

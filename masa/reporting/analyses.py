"""The paper's second analyses, as numbers: one problem at two steps, lengths beside their predictions, calibration.

All but `held_out_changes` read the rows of ``predictions.jsonl``. Rows of earlier versions lack what the first two
need, and give nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from masa.evaluation.measures.meta_awareness import calibration_bins, calibration_error
from masa.evaluation.measures.outcomes import Outcome
from masa.reporting.curves import Spread, spread, twelfths
from masa.reporting.runs import Run

_BINS = 8


@dataclass(frozen=True)
class Change:
    """How one problem changed between two steps that solved it: in pass rate and mean r_meta; the steps between."""

    gain: float
    r_meta: float
    steps: int


@dataclass(frozen=True)
class Bin:
    """The changes of one bin: the mean of what they are binned by, and the mean gain with its interval."""

    center: float
    gain: Spread
    count: int


def changes(predictions: Iterable[Mapping[str, Any]]) -> list[Change]:
    """Every pair of consecutive steps at which a run solved the same problem and rewarded its metas.

    The problem is its own control: what makes one problem harder than another is in neither difference.
    """
    last: dict[str, tuple[int, float, float]] = {}
    found = []
    for row in sorted(predictions, key=lambda one: int(one["step"])):
        rate, r_meta = row.get("pass_rate"), row.get("r_meta")
        if rate is None or r_meta is None:
            continue
        problem, now = str(row["problem"]), (int(row["step"]), float(rate), float(r_meta))
        before = last.get(problem)
        if before is not None and now[0] > before[0]:
            found.append(Change(now[1] - before[1], now[2] - before[2], now[0] - before[0]))
        last[problem] = now
    return found


def held_out_changes(held_out_by_step: Mapping[int, Sequence[Outcome]]) -> list[Change]:
    """Every pair of evaluations of the same held-out problem during training, where both had metas.

    These exist in a run of one epoch as well, which meets no training problem twice.
    """
    states: dict[str, list[tuple[int, float, float]]] = {}
    for step, outcomes in sorted(held_out_by_step.items()):
        for one in outcomes:
            if one.metas:
                r_meta = float(np.mean([meta.r_meta for meta in one.metas]))
                states.setdefault(one.problem, []).append((step, one.pass_rate, r_meta))
    return [
        Change(after[1] - before[1], after[2] - before[2], after[0] - before[0])
        for of_problem in states.values()
        for before, after in combinations(of_problem, 2)
    ]


def binned(found: Sequence[Change], by: Callable[[Change], float], bins: int = _BINS) -> list[Bin]:
    """Bins of about equal counts by ``by``; equal values are never parted. Intervals are by Student's t over pairs."""
    if not found:
        return []
    values = np.array([by(one) for one in found])
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    places = np.searchsorted(edges, values, side="right")
    rows = []
    for place in np.unique(places):
        chosen = places == place
        gains = [one.gain for one, taken in zip(found, chosen, strict=True) if taken]
        rows.append(Bin(float(values[chosen].mean()), spread(gains), len(gains)))
    return rows


def standardised_errors(predictions: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """(length - mean predicted length) / standard deviation of the predictions, of correct and of wrong solutions.

    This is how far, in the predictions' own spread, solutions run beyond what was predicted: early cutoff pays where
    wrong ones do and correct ones do not. Problems with fewer than two predictions, or equal ones, are left out.
    """
    found: dict[str, list[float]] = {"correct": [], "wrong": []}
    for row in predictions:
        lengths = [float(one) for one in row.get("predicted_length", ()) if one is not None]
        if row.get("pass_rate") is None or len(lengths) < 2 or "wrong_lengths" not in row:
            continue
        mean, deviation = float(np.mean(lengths)), float(np.std(lengths, ddof=1))
        if deviation > 0:
            for name in found:
                found[name] += [(actual - mean) / deviation for actual in row[f"{name}_lengths"]]
    return found


def calibration_windows(run: Run) -> list[dict[str, float]]:
    """Expected calibration error of the predicted pass rates in each twelfth of a run, at the last step of each."""
    by_step: dict[int, list[tuple[float, float]]] = {}
    for row in run.predictions:
        if row.get("pass_rate") is not None:
            pairs = [(float(one), float(row["pass_rate"])) for one in row["predicted_pass_rate"] if one is not None]
            by_step.setdefault(int(row["step"]), []).extend(pairs)
    steps = sorted(step for step, pairs in by_step.items() if pairs)
    return [
        {
            "step": window[-1],
            "calibration": calibration_error(calibration_bins([pair for step in window for pair in by_step[step]])),
        }
        for window in twelfths(steps)
    ]

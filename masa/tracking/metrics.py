"""One step's metrics, each reduced in its own way, and the means a summary is made of."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from masa.tracking.keys import check_key, is_timing

Reduction = Literal["mean", "sum", "max", "min", "last"]


@dataclass
class _Entry:
    reduction: Reduction
    values: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


class StepMetrics:
    """Collects the values of one step; every key has one reduction, applied once, in ``flatten``.

    A mean is the weighted mean over all values of the step, never a mean of micro-batch means. Sums are exact before
    their one rounding, so the order of values (and the process they came from, see ``merge``) changes nothing.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def mean(self, key: str, value: float, weight: float = 1.0) -> None:
        """A value of a mean; ``weight`` is, say, the number of tokens that ``value`` is already a mean over.

        Raises:
            ValueError: a negative weight, an unknown group, or a key that has another reduction.
        """
        if not weight >= 0:
            raise ValueError(f"metric {key!r}: weight {weight} found, zero or more needed")
        self._add(key, "mean", value, weight)

    def means(self, key: str, values: Iterable[float]) -> None:
        """Several values of a mean, one count each; no values at all give NaN."""
        entry = self._entry(key, "mean")
        for value in values:
            entry.values.append(float(value))
            entry.weights.append(1.0)

    def sum(self, key: str, value: float) -> None:
        """A term of a sum."""
        self._add(key, "sum", value)

    def max(self, key: str, value: float) -> None:
        """A value of a maximum; NaN wins over any number."""
        self._add(key, "max", value)

    def min(self, key: str, value: float) -> None:
        """A value of a minimum; NaN wins over any number."""
        self._add(key, "min", value)

    def last(self, key: str, value: float) -> None:
        """A value that replaces the earlier one."""
        self._add(key, "last", value)

    def lasts(self, values: Mapping[str, float], prefix: str = "") -> None:
        """Several values that replace the earlier ones, such as an evaluation's results, under ``prefix + key``."""
        for key, value in values.items():
            self.last(prefix + key, value)

    def merge(self, other: StepMetrics) -> None:
        """Take over all values of ``other``: those of another micro-batch, or of another process.

        Raises:
            ValueError: a key has another reduction there.
        """
        for key, theirs in other._entries.items():
            ours = self._entry(key, theirs.reduction)
            ours.values.extend(theirs.values)
            ours.weights.extend(theirs.weights)

    def flatten(self) -> dict[str, float]:
        """Every key's reduced value, sorted by key; a mean of no values, or of zero weight, is NaN."""
        return {key: _reduce(self._entries[key]) for key in sorted(self._entries)}

    def _add(self, key: str, reduction: Reduction, value: float, weight: float = 1.0) -> None:
        entry = self._entry(key, reduction)
        entry.values.append(float(value))
        entry.weights.append(float(weight))

    def _entry(self, key: str, reduction: Reduction) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[check_key(key)] = _Entry(reduction)
        elif entry.reduction != reduction:
            raise ValueError(
                f"metric {key!r} is reduced by {entry.reduction}, and was now given a value for {reduction}"
            )
        return entry


@contextmanager
def timed(metrics: StepMetrics, key: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """Add the seconds that the block takes to the sum ``key``, also when the block raises.

    Raises:
        ValueError: ``key`` is not in the group ``time/``.
    """
    if not is_timing(key):
        raise ValueError(f"seconds were to be recorded as {key!r}; timings live under time/")
    start = clock()
    try:
        yield
    finally:
        metrics.sum(key, clock() - start)


def mean_of_tenth(
    rows: Sequence[Mapping[str, Any]], key: str, which: Literal["first", "last"] = "first"
) -> float | None:
    """Mean of ``key`` over the first or last tenth of the steps that have a finite value for it.

    A tenth is ``len // 10`` steps and at least one. None where no step has a value.

    Raises:
        ValueError: ``which`` is neither ``first`` nor ``last``.
    """
    if which not in ("first", "last"):
        raise ValueError(f"which tenth: {which!r} found, allowed: 'first', 'last'")
    values = finite_values(rows, key)
    if not values:
        return None
    tenth = max(1, len(values) // 10)
    part = values[:tenth] if which == "first" else values[-tenth:]
    return math.fsum(part) / len(part)


def finite_values(rows: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    """The values of ``key`` in the rows that have one; null, NaN and the infinities are left out."""
    found = (row.get(key) for row in rows)
    return [float(value) for value in found if value is not None and math.isfinite(value)]


def _reduce(entry: _Entry) -> float:
    values = entry.values
    if entry.reduction == "last":
        return values[-1]
    if entry.reduction in ("max", "min"):
        if any(math.isnan(value) for value in values):
            return math.nan
        return max(values) if entry.reduction == "max" else min(values)
    if entry.reduction == "sum":
        return _exact_sum(values)
    weight = _exact_sum(entry.weights)
    if weight == 0:
        return math.nan
    # A value that weighs nothing is left out, for it may be the NaN of an empty micro-batch.
    return _exact_sum([v * w for v, w in zip(values, entry.weights, strict=True) if w]) / weight


def _exact_sum(values: Iterable[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return math.nan

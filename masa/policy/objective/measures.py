"""Metrics of a loss that can be added up: over micro-batches, over ranks, and only then divided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "max"]


@dataclass(frozen=True)
class Measure:
    """A quantity over tokens that has not been reduced to one number yet.

    ``total`` is the sum over ``count`` tokens (``mean``) or the largest value among them (``max``; values are never
    negative, and no token at all gives 0). Both are float64 scalars without gradient.
    """

    total: Tensor
    count: Tensor
    reduction: Reduction = "mean"

    def merge(self, other: Measure) -> Measure:
        """The measure over the tokens of both."""
        if self.reduction != other.reduction:
            raise ValueError(f"cannot merge a {self.reduction} with a {other.reduction}")
        if self.reduction == "max":
            total = torch.maximum(self.total, other.total)
        else:
            total = self.total + other.total
        return Measure(total, self.count + other.count, self.reduction)

    def value(self) -> float:
        """The mean or the maximum; NaN where no token was counted."""
        if float(self.count) == 0.0:
            return float("nan")
        return float(self.total) if self.reduction == "max" else float(self.total / self.count)


def merge_measures(parts: Iterable[Mapping[str, Measure]]) -> dict[str, Measure]:
    """The measures over the tokens of all ``parts``; a name that some parts lack covers the others alone."""
    merged: dict[str, Measure] = {}
    for part in parts:
        for name, measure in part.items():
            merged[name] = merged[name].merge(measure) if name in merged else measure
    return merged


def measure_values(measures: Mapping[str, Measure]) -> dict[str, float]:
    """Each measure as one number, in one transfer from the device."""
    if not measures:
        return {}
    sums, maxima = to_vectors(measures)
    return {name: one.value() for name, one in from_vectors(measures, sums.cpu(), maxima.cpu()).items()}


def to_vectors(measures: Mapping[str, Measure]) -> tuple[Tensor, Tensor]:
    """All measures as two float64 vectors for a collective: add the first over ranks, take the maximum of the second.

    The first has the totals of the means and then all counts, the second the maxima, each in the order of
    ``measures``; :func:`from_vectors` reads them back.
    """
    means = [one.total for one in measures.values() if one.reduction == "mean"]
    maxima = [one.total for one in measures.values() if one.reduction == "max"]
    counts = [one.count for one in measures.values()]
    sums = torch.stack([*means, *counts])
    return sums, torch.stack(maxima) if maxima else sums.new_zeros(0)


def from_vectors(template: Mapping[str, Measure], sums: Tensor, maxima: Tensor) -> dict[str, Measure]:
    """The inverse of :func:`to_vectors`; ``template`` gives names and reductions."""
    means = sum(one.reduction == "mean" for one in template.values())
    totals = {"mean": iter(sums[:means]), "max": iter(maxima)}
    return {
        name: Measure(next(totals[one.reduction]), count, one.reduction)
        for (name, one), count in zip(template.items(), sums[means:], strict=True)
    }

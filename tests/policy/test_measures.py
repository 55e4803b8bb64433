from __future__ import annotations

import math

import pytest
import torch

from masa.policy.objective.measures import Measure, from_vectors, measure_values, merge_measures, to_vectors


def measure(total: float, count: float, reduction: str = "mean") -> Measure:
    return Measure(
        torch.tensor(total, dtype=torch.float64),
        torch.tensor(count, dtype=torch.float64),
        reduction,  # type: ignore[arg-type]
    )


def test_a_merged_mean_weighs_by_tokens_and_a_merged_maximum_does_not() -> None:
    merged = merge_measures(
        [{"ratio": measure(2, 2), "gap": measure(3, 2, "max")}, {"ratio": measure(8, 3), "gap": measure(1, 3, "max")}]
    )
    assert measure_values(merged) == {"ratio": 2.0, "gap": 3.0}


def test_a_name_that_only_some_parts_have_covers_those() -> None:
    assert measure_values(merge_measures([{"a": measure(1, 1)}, {"b": measure(4, 2)}])) == {"a": 1.0, "b": 2.0}


def test_no_token_at_all_has_no_mean() -> None:
    assert math.isnan(measure(0, 0).value())
    assert measure_values({}) == {}


def test_the_vectors_of_a_collective_read_back_as_they_were() -> None:
    measures = {"gap": measure(3, 2, "max"), "ratio": measure(2, 5), "top": measure(7, 1, "max"), "kl": measure(1, 4)}
    sums, maxima = to_vectors(measures)
    assert sums.tolist() == [2, 1, 2, 5, 1, 4]
    assert maxima.tolist() == [3, 7]
    assert measure_values(from_vectors(measures, sums, maxima)) == measure_values(measures)


def test_a_mean_and_a_maximum_do_not_merge() -> None:
    with pytest.raises(ValueError, match="cannot merge a mean with a max"):
        measure(1, 1).merge(measure(1, 1, "max"))

"""Proportions and F1 with their intervals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.controls.intervals import f1_of_counts, proportion


def test_the_wilson_interval_is_the_textbooks() -> None:
    # 8 of 10 at 95 %: (0.8 + 0.19207 ± 1.96 sqrt(0.016 + 0.0096)) / 1.38415
    estimate = proportion(8, 10, 0.95)
    assert estimate.value == 0.8
    assert (estimate.low, estimate.high) == pytest.approx((0.49016, 0.94332), abs=1e-5)


def test_all_successes_reach_one_and_no_success_reaches_zero() -> None:
    assert proportion(5, 5, 0.9).high == 1.0
    assert proportion(0, 5, 0.9).low == 0.0


def test_nothing_observed_is_nothing_known() -> None:
    estimate = proportion(0, 0, 0.9)
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials", "confidence"), [(3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0), (1, 2, 0.0)])
def test_what_is_no_proportion_is_refused(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"no proportion|confidence"):
        proportion(successes, trials, confidence)


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # 6 hits, 2 false alarms, 4 misses: P = 6/8, R = 6/10, F1 = 2 * 0.75 * 0.6 / 1.35 = 2/3.
    assert f1_of_counts(6, 2, 4, 0.9).value == pytest.approx(2 / 3)


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.01, 0.99))
def test_an_interval_holds_its_value_and_stays_in_zero_to_one(hits: int, rest: int, confidence: float) -> None:
    if hits + rest == 0:
        return
    estimate = proportion(hits, hits + rest, confidence)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1

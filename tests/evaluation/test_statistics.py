"""Bootstrap and permutation: against scipy on the same resamples, by hand, and on simulated data."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from masa.evaluation.measures.statistics import (
    bootstrap,
    mean_of,
    paired_difference,
    ratio_of,
    resample_indices,
    sign_flips,
)


def permutation_p_value(differences: Sequence[float] | np.ndarray, *, resamples: int = 9999, seed: int = 0) -> float:
    return sign_flips(np.asarray(differences, dtype=np.float64), resamples=resamples, seed=seed).p_value(0.0)


def _rates(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.binomial(16, rng.beta(0.6, 0.9, count)) / 16


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_interval_is_scipys_on_the_same_resamples(method: str) -> None:
    data = _rates(40)
    ours = bootstrap(mean_of(data), 40, resamples=2000, method=method, seed=5)  # type: ignore[arg-type]
    name = {"percentile": "percentile", "bca": "BCa"}[method]
    theirs = stats.bootstrap((data,), np.mean, n_resamples=2000, method=name, rng=np.random.default_rng(5))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=1e-12)
    assert ours.error == pytest.approx(theirs.standard_error)


def test_the_interval_of_a_correlation_is_scipys_too() -> None:
    from masa.evaluation.measures.meta_awareness import correlation_of

    x = _rates(30, 1)
    y = 0.5 * x + 0.5 * _rates(30, 2)
    ours = bootstrap(correlation_of(x, y), 30, resamples=999, seed=3)
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b: stats.pearsonr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=999,
        rng=np.random.default_rng(3),
    )
    assert ours.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)


def test_the_95_per_cent_interval_covers_the_truth_in_93_to_97_per_cent_of_simulations() -> None:
    rng = np.random.default_rng(7)
    trials, problems, hits = 1500, 80, 0
    for trial in range(trials):
        rates = rng.beta(0.7, 1.4, problems)
        accuracy = rng.binomial(8, rates) / 8
        found = bootstrap(mean_of(accuracy), problems, resamples=799, seed=trial)
        hits += found.low <= 0.7 / 2.1 <= found.high
    assert 0.93 <= hits / trials <= 0.97


def test_batches_of_resamples_are_one_stream() -> None:
    drawn = np.concatenate(list(resample_indices(5, 100, np.random.default_rng(0))))
    assert drawn.shape == (100, 5)
    assert set(drawn.ravel()) == set(range(5))


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = bootstrap(mean_of([0.25] * 6), 6)
    assert (found.value, found.low, found.high, found.error) == (0.25, 0.25, 0.25, 0.0)


def test_a_single_problem_has_a_value_and_no_interval() -> None:
    found = bootstrap(mean_of([0.4]), 1)
    assert found.value == 0.4
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_no_problem_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one problem"):
        bootstrap(mean_of([]), 0)


def test_problems_without_a_value_do_not_count() -> None:
    assert bootstrap(mean_of([1.0, math.nan, 0.0]), 3, resamples=50).value == 0.5


def test_a_ratio_weighs_problems_by_their_denominators() -> None:
    assert bootstrap(ratio_of([1, 3], [1, 9]), 2, resamples=50).value == pytest.approx(0.4)


def test_the_exact_permutation_p_value_is_scipys() -> None:
    for seed in range(5):
        differences = _rates(9, seed) - _rates(9, seed + 50)
        theirs = stats.permutation_test(
            (differences,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", vectorized=True
        )
        assert permutation_p_value(differences) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_the_permutation_p_value_by_hand() -> None:
    # Of the 8 sign patterns of (1, 2, 3), only +++ and --- reach a sum of 6 in size.
    assert permutation_p_value([1, 2, 3]) == pytest.approx(2 / 8)
    # Zeros have no sign.
    assert permutation_p_value([1, 2, 3, 0, 0]) == pytest.approx(2 / 8)
    assert permutation_p_value([0, 0]) == 1.0


def test_random_permutations_agree_with_scipy_within_sampling_error() -> None:
    differences = _rates(60, 1) - _rates(60, 2) + 0.05
    theirs = stats.permutation_test(
        (differences,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(1),
    )
    assert permutation_p_value(differences, seed=2) == pytest.approx(theirs.pvalue, abs=0.025)


def test_p_values_of_equal_models_are_uniform_enough() -> None:
    rng = np.random.default_rng(3)
    p_values = [permutation_p_value(rng.normal(0, 1, 25), resamples=199, seed=trial) for trial in range(600)]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_paired_difference_sees_what_separate_intervals_hide() -> None:
    base = _rates(100, 4)
    better = np.clip(base + 0.03, 0, 1.5)
    found = paired_difference(better, base)
    assert found.difference.value == pytest.approx(0.03)
    assert found.difference.low > 0
    assert found.p_value < 0.001
    assert found.problems == 100


def test_a_paired_difference_of_other_problems_is_refused() -> None:
    with pytest.raises(ValueError, match="same problems, found 2 and 3"):
        paired_difference([0.1, 0.2], [0.1, 0.2, 0.3])


def test_a_paired_interval_leaves_out_zero_exactly_where_the_p_value_is_below_its_level() -> None:
    rng = np.random.default_rng(11)
    decided = set()
    for trial in range(400):
        size = int(rng.integers(6, 40))
        differences = rng.integers(-3, 4, size) / 8 + rng.choice([0.0, 0.05, 0.1, 0.2])
        found = paired_difference(differences, np.zeros(size), resamples=399, seed=trial)
        outside = not found.difference.low <= 0 <= found.difference.high
        assert outside == (found.p_value <= 0.05)
        decided.add(outside)
    assert decided == {True, False}


def test_a_paired_interval_holds_the_differences_that_scipys_test_does_not_reject() -> None:
    differences = _rates(9, 1) - _rates(9, 60)
    found = paired_difference(differences, np.zeros(9)).difference

    def p_value(shift: float) -> float:
        result = stats.permutation_test(
            (differences - shift,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", vectorized=True
        )
        return float(result.pvalue)

    assert p_value(found.low - 1e-6) <= 0.05 < p_value(found.low + 1e-6)
    assert p_value(found.high + 1e-6) <= 0.05 < p_value(found.high - 1e-6)


def test_the_95_per_cent_paired_interval_covers_the_truth_in_93_to_97_per_cent_of_simulations() -> None:
    rng = np.random.default_rng(5)
    trials, hits = 1500, 0
    for trial in range(trials):
        rates = rng.beta(0.7, 1.4, 80)
        better = rng.binomial(8, np.clip(0.9 * rates + 0.1, 0, 1)) / 8
        found = paired_difference(better, rng.binomial(8, rates) / 8, resamples=799, seed=trial).difference
        hits += found.low <= 0.1 * (1 - 0.7 / 2.1) <= found.high
    assert 0.93 <= hits / trials <= 0.97


def test_equal_models_have_a_paired_interval_of_no_width() -> None:
    found = paired_difference([0.25, 0.5, 1.0] * 3, [0.25, 0.5, 1.0] * 3)
    assert (found.difference.low, found.difference.high, found.p_value) == (0.0, 0.0, 1.0)


def test_five_problems_are_too_few_for_a_paired_interval() -> None:
    found = paired_difference([0.5] * 5, [0.1, 0.2, 0.3, 0.2, 0.1])
    assert math.isnan(found.difference.low)
    assert found.p_value == pytest.approx(2 / 32)

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.tracking.keys import check_key
from masa.tracking.metrics import StepMetrics, finite_values, mean_of_tenth, timed


def test_a_mean_weighs_values_and_is_no_mean_of_means() -> None:
    metrics = StepMetrics()
    metrics.mean("policy/loss", 1.0, weight=3)
    metrics.mean("policy/loss", 5.0, weight=1)
    assert metrics.flatten() == {"policy/loss": 2.0}


def test_each_key_is_reduced_in_its_own_way() -> None:
    metrics = StepMetrics()
    for value in (2.0, 5.0, 3.0):
        metrics.mean("reward/r_meta", value)
        metrics.sum("cost/tokens", value)
        metrics.max("policy/ratio_max", value)
        metrics.min("policy/ratio_min", value)
        metrics.last("policy/learning_rate", value)
    assert metrics.flatten() == {
        "cost/tokens": 10.0,
        "policy/learning_rate": 3.0,
        "policy/ratio_max": 5.0,
        "policy/ratio_min": 2.0,
        "reward/r_meta": pytest.approx(10 / 3, abs=0),
    }


def test_a_mean_of_no_values_is_nan_and_a_weightless_nan_is_ignored() -> None:
    metrics = StepMetrics()
    metrics.means("rollout/correct_length", [])
    metrics.mean("policy/loss", math.nan, weight=0)
    metrics.mean("policy/loss", 2.0, weight=4)
    flat = metrics.flatten()
    assert math.isnan(flat["rollout/correct_length"])
    assert flat["policy/loss"] == 2.0


@pytest.mark.parametrize("first", [True, False])
def test_nan_is_not_hidden_by_a_maximum(first: bool) -> None:
    metrics = StepMetrics()
    for value in (math.nan, 1.0) if first else (1.0, math.nan):
        metrics.max("policy/grad_norm", value)
    assert math.isnan(metrics.flatten()["policy/grad_norm"])


def test_opposite_infinities_sum_to_nan_and_do_not_raise() -> None:
    metrics = StepMetrics()
    metrics.sum("cost/x", math.inf)
    metrics.sum("cost/x", -math.inf)
    assert math.isnan(metrics.flatten()["cost/x"])


def test_a_key_with_two_reductions_is_refused() -> None:
    metrics = StepMetrics()
    metrics.sum("cost/tokens", 1)
    with pytest.raises(ValueError, match="'cost/tokens' is reduced by sum, and was now given a value for mean"):
        metrics.mean("cost/tokens", 1)


@pytest.mark.parametrize("key", ["loss", "train/loss", "reward", "/r_meta", ""])
def test_a_key_of_an_unknown_group_is_refused_with_the_groups_that_exist(key: str) -> None:
    with pytest.raises(ValueError, match=r"belongs to no group; allowed: reward/\.\.\., meta/\.\.\."):
        StepMetrics().last(key, 1.0)


@pytest.mark.parametrize("key", ["reward/", "reward//x", "reward/a b"])
def test_a_key_that_is_no_name_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        check_key(key)


@pytest.mark.parametrize("key", ["eval/MATH-500/pass@1", "policy/ratio_0.99", "time/tokens_per_second"])
def test_names_as_the_field_writes_them_are_allowed(key: str) -> None:
    assert check_key(key) == key


def test_a_negative_or_nan_weight_is_refused() -> None:
    for weight in (-1.0, math.nan):
        with pytest.raises(ValueError, match="zero or more needed"):
            StepMetrics().mean("policy/loss", 1.0, weight=weight)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 5000)), min_size=1), st.randoms(), st.integers(0, 100))
def test_a_mean_is_the_same_on_one_process_and_split_over_two(values, random, cut) -> None:
    whole, left, right = StepMetrics(), StepMetrics(), StepMetrics()
    for value, weight in values:
        whole.mean("policy/loss", value, weight)
    shuffled = random.sample(values, len(values))
    for index, (value, weight) in enumerate(shuffled):
        (left if index < cut else right).mean("policy/loss", value, weight)
    left.merge(right)
    assert left.flatten() == pytest.approx(whole.flatten(), abs=0, rel=0, nan_ok=True)


def test_merging_a_key_with_another_reduction_is_refused() -> None:
    ours, theirs = StepMetrics(), StepMetrics()
    ours.sum("cost/tokens", 1)
    theirs.max("cost/tokens", 1)
    with pytest.raises(ValueError, match="reduced by sum"):
        ours.merge(theirs)


def test_a_timed_block_adds_its_seconds_even_when_it_raises() -> None:
    ticks = iter([10.0, 12.5, 20.0, 21.0])
    metrics = StepMetrics()
    with timed(metrics, "time/rollout", clock=lambda: next(ticks)):
        assert metrics.flatten() == {}
    with pytest.raises(RuntimeError), timed(metrics, "time/rollout", clock=lambda: next(ticks)):
        raise RuntimeError
    assert metrics.flatten() == {"time/rollout": 3.5}


def test_seconds_outside_the_time_group_are_refused() -> None:
    with pytest.raises(ValueError, match="timings live under time/"), timed(StepMetrics(), "rollout/seconds"):
        raise AssertionError("the block must not run")


def rows(values: list[float | None]) -> list[dict[str, float | None]]:
    return [{"step": step, "reward/r_meta": value} for step, value in enumerate(values, 1)]


def test_a_tenth_of_twenty_five_steps_is_two_steps() -> None:
    values = rows([float(step) for step in range(1, 26)])
    assert mean_of_tenth(values, "reward/r_meta", "first") == 1.5
    assert mean_of_tenth(values, "reward/r_meta", "last") == 24.5


def test_a_tenth_of_three_steps_is_one_step() -> None:
    assert mean_of_tenth(rows([1.0, 2.0, 6.0]), "reward/r_meta", "first") == 1.0
    assert mean_of_tenth(rows([1.0, 2.0, 6.0]), "reward/r_meta", "last") == 6.0


def test_steps_without_a_finite_value_take_no_part_in_a_tenth() -> None:
    values = [{"step": 0, "eval/accuracy": 0.1}, *rows([None, math.nan, 0.25, 0.75])]
    assert finite_values(values, "reward/r_meta") == [0.25, 0.75]
    assert mean_of_tenth(values, "reward/r_meta", "first") == 0.25


def test_a_metric_that_no_step_has_gives_none() -> None:
    assert mean_of_tenth([{"step": 1}], "reward/r_meta") is None


def test_an_unknown_tenth_is_refused() -> None:
    with pytest.raises(ValueError, match="'middle' found"):
        mean_of_tenth([], "reward/r_meta", "middle")  # type: ignore[arg-type]

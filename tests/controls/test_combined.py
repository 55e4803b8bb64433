"""The gate by meta-predictions and history: each source against a slow reference, and what the two say together."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.config.controls import GatingSection
from masa.controls.gating import Judgement
from masa.controls.plan import PredictedProblem
from masa.controls.selection.combined import CombinedSelector, Pooled, Worth, pooled
from masa.controls.selection.meta import MetaSelector
from masa.controls.selection.pass_rates import PassRateHistory, Source
from masa.controls.selection.selector import Outcome
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction

RATE = st.sampled_from([0.0, 0.125, 0.5, 0.875, 1.0])


def outcome(correct: int, total: int = 8, predicted: tuple[float | None, ...] = ()) -> Outcome:
    return Outcome("a", correct, total, correct in (0, total), predicted)


def asked(*pass_rates: float | None) -> list[PredictedProblem]:
    return [PredictedProblem(Problem("a", "A", "1"), (), tuple(MetaPrediction(pass_rate=one) for one in pass_rates))]


def judged(selector: CombinedSelector | MetaSelector, step: int, *pass_rates: float | None) -> Judgement:
    return selector.judge(step, asked(*pass_rates), {})["a"]


@given(st.dictionaries(st.integers(1, 30), st.integers(0, 8), max_size=8), st.floats(0, 1), st.integers(31, 60))
def test_history_weighs_solutions_by_the_updates_since(groups: dict[int, int], discount: float, now: int) -> None:
    history = PassRateHistory(discount)
    for step in sorted(groups):
        history.observe(step, [outcome(groups[step])])
    correct = math.fsum(discount ** (now - step) * right for step, right in groups.items())
    total = math.fsum(discount ** (now - step) * 8 for step in groups)
    found = history(now, "a")
    if total < 1 - 1e-9:
        assert found is None
    elif total > 1 + 1e-9:
        assert found is not None
        assert (found.rate, found.count) == (pytest.approx(correct / total), pytest.approx(total))
        assert found.variance == pytest.approx(found.rate * (1 - found.rate) / (total + 1), abs=1e-12)
    assert history(now, "another problem") is None


@given(st.lists(st.tuples(RATE, st.floats(0.01, 64), st.lists(RATE, min_size=1, max_size=8)), min_size=1, max_size=3))
def test_the_pool_is_the_mixture_of_its_sources(told: list[tuple[float, float, list[float]]]) -> None:
    points = [(count / len(values), value) for _, count, values in told for value in values]
    weight = math.fsum(one for one, _ in points)
    mean = math.fsum(one * value for one, value in points) / weight
    variance = math.fsum(one * (value - mean) ** 2 for one, value in points) / weight

    def source(count: float, values: list[float]) -> Source:
        centre = math.fsum(values) / len(values)
        return Source(centre, count, math.fsum((one - centre) ** 2 for one in values) / len(values))

    found = pooled([source(count, values) for _, count, values in told])
    assert (found.rate, found.std) == (pytest.approx(mean), pytest.approx(math.sqrt(variance), abs=1e-7))


def test_a_source_alone_is_said_as_it_is() -> None:
    # 1.4 * 0.875 / 1.4 is 0.8750000000000001 or less than 0.875, and the gate's thresholds are compared with it.
    for count in (0.1, 0.3, 0.7, 1.1, 1.4, 2.3):
        assert pooled([Source(0.875, count, 0.01)]) == Pooled(0.875, 0.1)


@pytest.mark.parametrize("sources", [[], [Source(0.5, 0.0, 0.0)]])
def test_a_pool_of_nothing_is_refused(sources: list[Source]) -> None:
    with pytest.raises(ValueError, match=rf"{len(sources)} sources count"):
        pooled(sources)


@pytest.mark.parametrize("actual", [2, 4, 8])
def test_a_source_is_worth_as_many_solutions_as_its_errors_are_those_of(actual: int) -> None:
    """It claims eight solutions, and knows no more of the pass rate than ``actual`` solutions say."""
    draw, worth = random.Random(actual), Worth(1.0, 0.01)
    for _ in range(4000):
        rate = draw.random()
        seen = sum(draw.random() < rate for _ in range(actual)) / actual
        worth.observe([(Source(seen, 8.0, 0.0), outcome(sum(draw.random() < rate for _ in range(6)), 6))])
    assert worth.value == pytest.approx(actual / 8, rel=0.12)


def test_old_errors_are_forgotten() -> None:
    worth = Worth(0.5, 0.01)
    worth.observe([(Source(1.0, 8.0, 0.0), outcome(0))])
    low = worth.value
    for _ in range(20):
        worth.observe([(Source(1.0, 8.0, 0.0), outcome(8))])
    assert low < 0.02 < 0.99 < worth.value


@given(st.lists(RATE | st.none(), max_size=8), st.lists(st.tuples(RATE, st.integers(0, 8)), max_size=5))
def test_without_history_of_a_problem_its_predictions_are_judged_as_by_the_gate(
    pass_rates: list[float | None], others: list[tuple[float, int]]
) -> None:
    selector = CombinedSelector(0.9, GatingSection())
    for step, (rate, correct) in enumerate(others, 1):
        selector.observe(step, [Outcome("b", correct, 8, correct in (0, 8), (rate, rate))], {})
    expected = judged(MetaSelector(GatingSection()), 9, *pass_rates)
    found = judged(selector, 9, *pass_rates)
    assert found.outlook == expected.outlook
    assert found.doubt == (pytest.approx(expected.doubt[0], abs=1e-9), pytest.approx(expected.doubt[1], abs=1e-9))


def test_history_keeps_a_problem_that_predictions_would_give_up() -> None:
    selector = CombinedSelector(0.99, GatingSection())
    assert judged(selector, 2, 1.0, 1.0, 1.0, 1.0).outlook == "trivial"
    selector.observe(1, [outcome(4)], {})
    assert judged(selector, 2, 1.0, 1.0, 1.0, 1.0).outlook == "open"
    # What is long ago says nothing any more.
    assert judged(selector, 400, 1.0, 1.0, 1.0, 1.0).outlook == "trivial"


def test_history_decides_where_predictions_waver() -> None:
    selector = CombinedSelector(0.99, GatingSection())
    wavering = (1.0, 1.0, 1.0, 0.625)
    assert judged(selector, 3, *wavering).outlook == "open"
    selector.observe(1, [outcome(16, 16)], {})
    selector.observe(2, [outcome(16, 16)], {})
    assert judged(selector, 3, *wavering).outlook == "trivial"


def test_predictions_that_were_wrong_count_for_less() -> None:
    def after(told: float) -> Judgement:
        selector = CombinedSelector(1.0, GatingSection())
        selector.observe(1, [outcome(16, 16)], {})
        for step in range(2, 40):
            selector.observe(step, [Outcome(f"b{step}", 8, 16, False, (told,) * 8)], {})
        return judged(selector, 40, *(0.75,) * 8)

    # Eight predictions of 6 in 8 speak against the past, unless they have been wrong about other problems.
    assert after(0.5).outlook == "open"
    assert after(0.0).outlook == "trivial"


@pytest.mark.parametrize(("solutions", "expected"), [(6, "open"), (7, "unsolvable")])
def test_without_readable_predictions_history_decides_once_it_is_long_enough(solutions: int, expected: str) -> None:
    selector = CombinedSelector(1.0, GatingSection())
    assert judged(selector, 1, None, None).outlook == "open"
    selector.observe(1, [outcome(0, solutions)], {})
    assert judged(selector, 2, None, 1.0).outlook == expected


def test_thresholds_that_no_rounding_may_miss_are_met_by_equal_sources() -> None:
    """The gate of the paper's second version: the mean is exactly 0 or 1."""
    section = GatingSection(trivial=1.0, unsolvable=0.0, max_std=1e-9)
    for rate, expected in ((1.0, "trivial"), (0.0, "unsolvable")):
        selector = CombinedSelector(0.97, section)
        for step in range(1, 9):
            selector.observe(step, [outcome(round(rate * 16), 16, (rate,) * 7)], {})
        assert judged(selector, 11, *(rate,) * 7).outlook == expected


def test_the_smallest_spread_that_can_be_asked_for_breaks_nothing() -> None:
    selector = CombinedSelector(0.97, GatingSection(max_std=1e-300))
    metrics = selector.observe(1, [outcome(8, 8, (0.0, 0.0))], {})
    assert 0 < metrics["control/combined_prediction_worth"] < 1e-6
    assert judged(selector, 2, 0.0, 0.0).outlook == "open"

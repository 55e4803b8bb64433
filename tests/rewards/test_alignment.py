"""The self-alignment rewards against the paper's formulas: by hand, and as properties."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.rewards import (
    MetaPrediction,
    MetaWeights,
    SolutionGroup,
    difficulty_reward,
    length_reward,
    meta_reward,
    notion_reward,
    score_metas,
)

RATES = st.floats(0, 1)
LENGTHS = st.lists(st.integers(1, 10_000), max_size=16)
WORDS = st.sampled_from(["prime", "square", "area", "vieta", "sum", "angle"])
TEXTS = st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=8)
NOTIONS = st.lists(WORDS, max_size=6)

# Four solutions: two of three correct ones use "squares", the wrong one "primes" and "squares".
GROUP = SolutionGroup(
    pass_rate=0.75,
    correct_lengths=[100, 180, 140],
    correct_texts=["Use squares.", "The square is 4.", "Count."],
    incorrect_texts=["Prime squares"],
    problem_text="Find the area.",
)


def test_a_length_on_either_bound_of_the_correct_lengths_is_right() -> None:
    assert [length_reward(n, [180, 100, 140]) for n in (99, 100, 141, 180, 181)] == [0, 1, 1, 1, 0]


def test_no_length_is_right_when_no_solution_is_correct() -> None:
    assert length_reward(100, []) == 0
    assert length_reward(None, [100]) == 0


def test_difficulty_falls_by_the_base_over_the_whole_range() -> None:
    assert difficulty_reward(0.5, 0.5) == 1
    assert difficulty_reward(0.0, 0.5) == pytest.approx(0.1)
    assert difficulty_reward(1.0, 0.0) == pytest.approx(0.01)
    assert difficulty_reward(0.25, 0.75, base=0.25) == pytest.approx(0.5)
    assert difficulty_reward(None, 0.5) == 0


@pytest.mark.parametrize(
    ("rate", "actual", "base"), [(1.1, 0.5, 0.01), (0.5, -0.1, 0.01), (0.5, math.nan, 0.01), (0, 0, 0)]
)
def test_rates_and_bases_out_of_range_are_refused(rate: float, actual: float, base: float) -> None:
    with pytest.raises(ValueError, match="needed"):
        difficulty_reward(rate, actual, base)


def test_a_notion_counts_when_more_correct_than_incorrect_solutions_contain_it() -> None:
    correct, incorrect = GROUP.correct_texts, GROUP.incorrect_texts
    assert notion_reward(["square"], correct, incorrect) == 1
    assert notion_reward(["prime"], correct, incorrect) == 0
    assert notion_reward(["square", "prime"], correct, incorrect) == 0.5
    assert notion_reward(["absent"], correct, incorrect) == 0


def test_as_many_incorrect_as_correct_solutions_give_a_notion_nothing() -> None:
    assert notion_reward(["sum"], ["a sum"], ["the sum"]) == 0


def test_notions_of_the_problem_statement_are_left_out_of_the_mean() -> None:
    texts = ["area of a square"] * 3
    assert notion_reward(["areas", "square"], texts, [], "Find the area.") == 1
    assert notion_reward(["area"], texts, [], "Find the AREA.") == 0


def test_by_rate_an_unbalanced_group_does_not_decide_alone() -> None:
    correct, incorrect = ["sum", "sum", "x", "x", "x", "x"], ["sum"]
    assert notion_reward(["sum"], correct, incorrect) == 1
    assert notion_reward(["sum"], correct, incorrect, count="rate") == 0
    assert notion_reward(["sum"], ["sum", "x"], [], count="rate") == 1
    with pytest.raises(ValueError, match="'share'"):
        notion_reward(["sum"], [], [], count="share")  # type: ignore[arg-type]


def test_repeating_a_notion_does_not_change_the_mean() -> None:
    correct, incorrect = GROUP.correct_texts, GROUP.incorrect_texts
    assert notion_reward(["square", "Squares", "square ", "prime"], correct, incorrect) == 0.5


def test_the_meta_reward_is_the_mean_of_three() -> None:
    reward = meta_reward(MetaPrediction(("squares", "primes"), 0.75, 150), GROUP)
    assert (reward.length, reward.difficulty, reward.notion) == (1, 1, 0.5)
    assert reward.total == pytest.approx(2.5 / 3)
    assert float(reward) == reward.total


def test_a_missing_field_scores_nothing_for_its_component() -> None:
    reward = meta_reward(MetaPrediction(pass_rate=0.75), GROUP)
    assert reward.total == pytest.approx(1 / 3)


def test_an_unparseable_prediction_gets_nothing() -> None:
    assert meta_reward(MetaPrediction(), GROUP).total == 0


def test_weights_are_normalised_and_zero_switches_a_component_off() -> None:
    prediction = MetaPrediction(("squares", "primes"), 0.25, 150)
    reward = meta_reward(prediction, GROUP, MetaWeights(length=2, difficulty=0, notion=6))
    assert reward.total == pytest.approx((2 * 1 + 6 * 0.5) / 8)
    assert reward.difficulty == pytest.approx(0.1)


@pytest.mark.parametrize("weights", [(0, 0, 0), (-1, 1, 1), (math.nan, 1, 1), (math.inf, 1, 1)])
def test_weights_that_give_no_mean_are_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        MetaWeights(*weights)


@given(st.integers(1, 10_000), LENGTHS)
def test_the_length_reward_is_one_exactly_between_the_extremes(length: int, lengths: list[int]) -> None:
    inside = bool(lengths) and sorted([*lengths, length]).index(length) > 0 and length <= max(lengths)
    assert length_reward(length, lengths) == float(inside or length in lengths)
    assert length_reward(length, lengths[::-1]) == length_reward(length, lengths)


@given(st.integers(1, 10_000), LENGTHS, st.integers(1, 10_000))
def test_another_correct_length_never_lowers_the_length_reward(length: int, lengths: list[int], more: int) -> None:
    assert length_reward(length, [*lengths, more]) >= length_reward(length, lengths)


@given(RATES, RATES)
def test_the_difficulty_reward_is_in_range_and_symmetric(first: float, second: float) -> None:
    reward = difficulty_reward(first, second)
    assert 0.01 - 1e-12 <= reward <= 1
    assert reward == difficulty_reward(second, first)


@given(RATES, RATES, RATES)
def test_a_nearer_pass_rate_never_earns_less(first: float, second: float, actual: float) -> None:
    near, far = sorted((first, second), key=lambda rate: abs(rate - actual))
    assert difficulty_reward(near, actual) >= difficulty_reward(far, actual)


@given(NOTIONS, TEXTS, TEXTS, TEXTS.map(" ".join), st.sampled_from(["count", "rate"]))
@settings(deadline=None)
def test_the_notion_reward_is_in_range_and_blind_to_order(
    notions: list[str], correct: list[str], incorrect: list[str], problem: str, count: str
) -> None:
    reward = notion_reward(notions, correct, incorrect, problem, count)  # type: ignore[arg-type]
    assert 0 <= reward <= 1
    assert reward == notion_reward(notions[::-1], correct[::-1], incorrect[::-1], problem, count)  # type: ignore[arg-type]


@given(NOTIONS, TEXTS, TEXTS)
@settings(deadline=None)
def test_a_correct_solution_with_every_notion_never_lowers_the_notion_reward(
    notions: list[str], correct: list[str], incorrect: list[str]
) -> None:
    more = notion_reward(notions, [*correct, " ".join(notions)], incorrect)
    assert more >= notion_reward(notions, correct, incorrect)


@given(NOTIONS, TEXTS, TEXTS)
@settings(deadline=None)
def test_correct_and_incorrect_texts_never_both_earn(notions: list[str], one: list[str], other: list[str]) -> None:
    assert notion_reward(notions, one, other) + notion_reward(notions, other, one) <= 1


PREDICTIONS = st.builds(
    MetaPrediction, st.none() | NOTIONS.map(tuple), st.none() | RATES, st.none() | st.integers(1, 10_000)
)
WEIGHTS = st.tuples(*[st.floats(0, 10)] * 3).filter(lambda w: sum(w) > 1e-6).map(lambda w: MetaWeights(*w))


@given(st.lists(PREDICTIONS, max_size=5), RATES, LENGTHS, TEXTS, TEXTS, WEIGHTS)
@settings(deadline=None)
def test_scoring_together_equals_scoring_alone(
    predictions: list[MetaPrediction],
    rate: float,
    lengths: list[int],
    correct: list[str],
    incorrect: list[str],
    weights: MetaWeights,
) -> None:
    group = SolutionGroup(rate, lengths, correct, incorrect, "Find the area")
    together = score_metas(predictions, group, weights)
    assert together == [meta_reward(prediction, group, weights) for prediction in predictions]
    assert all(0 <= reward.total <= 1 for reward in together)


def test_sixteen_metas_are_scored_against_sixteen_long_solutions_within_50_ms() -> None:
    # 8,192 tokens of mathematical text are about 32 KB, half of it in common words.
    words = [f"word{n % 997} and the prime factor of {n} = \\frac{{{n}}}{{2}}" for n in range(900)]
    texts = [(" ".join(words[shift:] + words[:shift]) * 2)[:32_768] for shift in range(16)]
    metas = [
        MetaPrediction(
            tuple(f"word{m * 8 + n}" if n % 2 else f"prime factor of {m * 8 + n}" for n in range(8)), 0.5, 100
        )
        for m in range(16)
    ]
    group = SolutionGroup(0.5, [100], texts[:8], texts[8:], "Find the sum.")

    def seconds() -> float:
        started = time.process_time()
        score_metas(metas, group)
        return time.process_time() - started

    # A core that others share is up to twice as slow for seconds on end: one quiet moment in forty is enough.
    assert any(seconds() < 0.050 for _ in range(40))

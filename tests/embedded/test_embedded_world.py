"""The arithmetic problem family and its worked solutions."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.embedded import arithmetic_problems
from masa.embedded.corpus import DISTRACTORS, warm_start_examples
from masa.embedded.measure import boxed_answer
from masa.embedded.solutions import (
    HESITATIONS,
    METHODS,
    ROUNDING,
    RUNNING_TOTAL,
    clean_solution,
    worked_solution,
)
from masa.embedded.world import LARGEST_COUNT, LEVELS, split_of, statement_of
from masa.rewards.meta_prediction import parse_meta_prediction
from masa.rewards.notions import notion_form, notions_in_texts

numbers = st.lists(st.integers(1, 499), min_size=2, max_size=7).map(tuple)


def test_a_statement_shows_every_number_with_its_letter():
    assert statement_of((7, 24, 9)) == "Find the sum: a=7, b=24, c=9."


def test_the_same_arguments_give_the_same_problems_and_another_seed_gives_others():
    assert arithmetic_problems("train", 50, seed=3) == arithmetic_problems("train", 50, seed=3)
    assert arithmetic_problems("train", 50, seed=3) != arithmetic_problems("train", 50, seed=4)


def test_train_and_test_share_no_problem_whatever_the_seeds():
    train = {p.statement for seed in range(3) for p in arithmetic_problems("train", LARGEST_COUNT["train"], seed)}
    test = {p.statement for seed in range(3) for p in arithmetic_problems("test", LARGEST_COUNT["test"], seed)}
    assert len(train) > LARGEST_COUNT["train"]
    assert train.isdisjoint(test)


def test_the_default_test_split_holds_256_distinct_problems():
    problems = arithmetic_problems("test")
    assert len({p.id for p in problems}) == len({p.statement for p in problems}) == 256


def test_levels_come_in_their_shares():
    levels = [p.metadata["level"] for p in arithmetic_problems("train", 100)]
    assert {level.name: levels.count(level.name) for level in LEVELS} == {level.name: level.share for level in LEVELS}


@pytest.mark.parametrize("count", [0, -1, LARGEST_COUNT["test"] + 1])
def test_a_count_outside_of_the_split_is_refused_with_what_is_allowed(count):
    with pytest.raises(ValueError, match=f"count is {count}, allowed for the embedded test split: 1 to 256"):
        arithmetic_problems("test", count)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="embedded split is 'dev', allowed: 'train', 'test'"):
        arithmetic_problems("dev")  # type: ignore[arg-type]


def test_every_problems_answer_and_worked_solution_are_the_sum_of_its_numbers():
    for problem in arithmetic_problems("train", 300):
        assert problem.answer == str(sum(problem.metadata["values"]))
        assert boxed_answer(problem.solution) == problem.answer
        assert problem.verifier == "math"


def test_a_clean_solution_reads_as_its_author_would_write_it():
    assert clean_solution((7, 4, 12)) == "By running total. a=7; b:7+4=11; c:11+12=23; Answer: \\boxed{23}"


@given(numbers, st.sampled_from(METHODS), st.integers(0, 10**6))
def test_a_wrong_solution_hesitated_and_a_calm_one_is_right(values, method, seed):
    text = worked_solution(values, method, random.Random(seed))
    hesitated = any(word in text for word in HESITATIONS)
    assert hesitated or boxed_answer(text) == str(sum(values))


@given(numbers.filter(lambda v: len(v) == 2), st.sampled_from(METHODS), st.integers(0, 10**6))
def test_a_pair_is_always_solved(values, method, seed):
    assert boxed_answer(worked_solution(values, method, random.Random(seed))) == str(sum(values))


def test_the_running_total_succeeds_more_often_and_is_shorter_than_rounding():
    rng = random.Random(0)
    values = (3, 8, 5, 9, 2)

    def success_and_length(method):
        texts = [worked_solution(values, method, rng) for _ in range(400)]
        return sum(boxed_answer(t) == "27" for t in texts) / 400, sum(map(len, texts)) / 400

    reliable, hasty = success_and_length(RUNNING_TOTAL), success_and_length(ROUNDING)
    assert reliable[0] > hasty[0] + 0.3
    assert reliable[1] < hasty[1]


def test_a_solution_names_its_method_and_no_other_notion_and_a_statement_names_none():
    forms = [notion_form(name) for name in [*(m.name for m in METHODS), *DISTRACTORS]]
    assert all(forms)
    rng = random.Random(1)
    for problem in arithmetic_problems("train", 40):
        assert notions_in_texts(forms, [problem.statement]) == [frozenset()]
        for method in METHODS:
            text = worked_solution(tuple(problem.metadata["values"]), method, rng)
            assert set(notions_in_texts(forms, [text])[0]) == {notion_form(method.name)}


def test_the_corpus_repeats_itself_from_its_seed_and_never_shows_a_test_problem():
    examples = warm_start_examples(200, seed=5)
    assert examples == warm_start_examples(200, seed=5)
    for example in examples:
        assert split_of(_values(example)) == "train"


def test_the_corpus_metas_are_complete_and_know_nothing_of_the_problem():
    examples = [e for e in warm_start_examples(4000, seed=0) if e.prompt.startswith("Predict")]
    predictions = [parse_meta_prediction(e.response) for e in examples]
    assert len(examples) == 1000
    assert all(p.complete for p in predictions)
    terms = [e.prompt.count("=") for e in examples]
    assert abs(_correlation(terms, [p.length for p in predictions])) < 0.1
    assert abs(_correlation(terms, [p.pass_rate for p in predictions])) < 0.1


def test_the_untaught_level_has_no_solution_in_the_corpus():
    low = min(level.low for level in LEVELS if not level.taught)
    for example in warm_start_examples(2000, seed=0):
        if example.prompt.startswith("Solve"):
            assert max(_values(example)) < low


def _values(example):
    return tuple(int(number) for number in re.findall(r"=(\d+)", example.prompt))


def _correlation(xs, ys):
    n = len(xs)
    mx, my = sum(xs) / n, sum(ys) / n
    cov = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    return cov / (sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys)) ** 0.5

from __future__ import annotations

import pytest

from masa.rollout.engine import RolloutPath
from masa.tracking.samples import Prediction, Sample, choose_samples


def sample(problem: str, path: RolloutPath, score: float, response: str = "") -> Sample:
    return Sample(1, problem, path, "prompt", response, {"reward": score}, "stop", "4")


def test_one_solution_and_one_meta_of_each_of_the_first_problems_are_chosen() -> None:
    samples = [sample(p, path, 0.0) for p in ("a", "b", "c") for path in ("solution", "meta") for _ in range(4)]
    chosen = choose_samples(samples, 2)
    assert [(s.problem, s.path) for s in chosen] == [("a", "solution"), ("a", "meta"), ("b", "solution"), ("b", "meta")]


def test_problems_show_their_best_and_their_worst_in_turn() -> None:
    samples = [sample(p, "solution", score) for p in ("a", "b", "c") for score in (0.5, 1.0, 0.0)]
    assert [s.score for s in choose_samples(samples, 3)] == [1.0, 0.0, 1.0]


def test_among_equals_the_first_is_chosen() -> None:
    samples = [sample("a", "meta", 0.5, response) for response in ("first", "second")]
    assert [s.response for s in choose_samples(samples, 1)] == ["first"]


@pytest.mark.parametrize("problems", [0, 5])
def test_no_more_is_chosen_than_asked_for_or_than_there_is(problems: int) -> None:
    assert len(choose_samples([sample("a", "meta", 0.5)], problems)) == min(problems, 1)


def test_a_score_is_the_mean_of_the_rewards() -> None:
    meta = Sample(1, "a", "meta", "", "", {"r_length": 1.0, "r_notion": 0.5}, "stop", "4")
    assert meta.score == 0.75


def test_predicted_rates_and_lengths_of_different_count_are_refused() -> None:
    with pytest.raises(ValueError, match="2 predicted pass rates but 1 predicted lengths"):
        Prediction(1, "a", 0.5, (), (0.5, None), (3,))

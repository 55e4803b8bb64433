"""Problems are dealt to processes by their predicted lengths, so that none waits long for another."""

import random
from typing import Any

import pytest

from masa.controls.dealing import dealt, predicted_tokens
from masa.controls.plan import PredictedProblem
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction


def _predicted(id: str, *lengths: int | None) -> PredictedProblem:
    predictions: Any = tuple(MetaPrediction(length=length) for length in lengths)
    return PredictedProblem(Problem(id, id, "1"), (), predictions)


def test_a_problem_is_as_long_as_its_metas_say_in_the_middle() -> None:
    assert predicted_tokens(_predicted("p", 300, None, 100, 900), 8192) == 300
    assert predicted_tokens(_predicted("p", 300, 900), 400) == 400
    assert predicted_tokens(_predicted("p", None), 8192) == 8192


def test_one_process_keeps_the_order() -> None:
    problems = [_predicted(str(number), number) for number in (5, 9, 1)]
    assert [one.id for one in dealt(problems, 8192, 1)] == ["5", "9", "1"]


@pytest.mark.parametrize("processes", [2, 8, 24])
def test_each_process_gets_about_as_much_and_each_problem_goes_to_one(processes: int) -> None:
    generator = random.Random(0)
    lengths = {str(number): round(generator.lognormvariate(8, 0.5)) for number in range(120)}
    order = dealt([_predicted(id, length) for id, length in lengths.items()], 10**6, processes)
    assert sorted(one.id for one in order) == sorted(lengths)

    def slowest(ids: list[str]) -> float:
        loads = [sum(lengths[id] for id in ids[process::processes]) for process in range(processes)]
        return max(loads) * processes / sum(loads)

    assert slowest([one.id for one in order]) < 1 + 0.5 * (slowest(list(lengths)) - 1)

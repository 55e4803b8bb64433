"""What is added to a solution's correctness."""

from typing import Any

import pytest

from masa import Problem, Rollout, load_config
from masa.rewards.shaping import make_shaping

PROBLEM = Problem("p7", "1 + 1", "2")


def _rollout(length: int) -> Rollout:
    return Rollout("p7", "solution", 0, (5,), (7,) * length, (-0.5,) * length, "stop", 0, 0.0)


def test_reward_functions_and_the_overlong_punishment_add_up() -> None:
    config = load_config(None, ["rollout.max_solution_tokens=20", "algorithm.overlong.punish_tokens=10"])
    shaping = make_shaping(config, [lambda problem, text: 0.25, lambda problem, text: len(text)])
    assert shaping is not None
    assert shaping(PROBLEM, "abc", _rollout(10)) == 3.25
    assert shaping(PROBLEM, "abc", _rollout(15)) == 2.75
    assert make_shaping(load_config(None), []) is None


@pytest.mark.parametrize("given", [float("nan"), float("inf"), None, "much"])
def test_a_reward_that_is_no_number_names_its_function_and_problem(given: Any) -> None:
    def my_reward(problem: Problem, text: str) -> Any:
        return given

    shaping = make_shaping(load_config(None), [my_reward])
    assert shaping is not None
    with pytest.raises(ValueError, match=r"the reward function my_reward gave .* for problem 'p7'"):
        shaping(PROBLEM, "abc", _rollout(3))

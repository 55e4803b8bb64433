"""Reward functions: their signatures, and what becomes of what they return and raise."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from masa import Problem, RewardFunction, Rollout
from masa.rewards.calling import Response, RewardFunctions
from masa.rewards.functions import checked_reward_functions

PROBLEMS = [
    Problem("p1", "1 + 1", "2", metadata={"level": 3}),
    Problem("p2", "2 + 2", "4", solution="Twice two.", source="sums"),
]


def half(problem: Problem, text: str) -> float:
    return 0.5


def _responses(*texts: str) -> list[Response]:
    rollouts = [
        Rollout(problem.id, "solution", 0, (5,), tuple(map(ord, text)), (-0.5,) * len(text), "stop", 0, 0.0)
        for problem, text in zip(PROBLEMS, texts, strict=True)
    ]
    return [Response(*one) for one in zip(PROBLEMS, texts, rollouts, strict=True)]


def _scores(function: Any, *, conversational: bool = False, **options: Any) -> list[Any]:
    one = function if isinstance(function, RewardFunction) else RewardFunction(function, "f", **options)

    def prompt_text(problem: Problem, path: str, hint: str | None) -> str:
        return f"Solve {problem.statement}"

    with RewardFunctions(checked_reward_functions([one]), prompt_text, conversational=conversational) as functions:
        (found,) = functions.score(_responses("two", "four")).values()
    return found


def _values(function: Any, **options: Any) -> list[float | None]:
    found = _scores(function, **options)
    assert [one.error for one in found] == ["", ""]
    return [one.value for one in found]


async def _waits(problem: Problem, text: str) -> float:
    await asyncio.sleep(0.01)
    return len(text)


async def _waits_for_all(problems: Sequence[Problem], texts: Sequence[str]) -> list[float]:
    await asyncio.sleep(0.01)
    return [len(text) for text in texts]


async def _like_trl_and_async(completions: Sequence[str], **columns: Any) -> list[float]:
    return [len(text) for text in completions]


class Lengths:
    def __call__(self, problem: Problem, text: str) -> float:
        return len(text)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (lambda problem, text: len(text), {}),
        (lambda problems, texts: [len(text) for text in texts], {"batched": True}),
        (lambda completions, **columns: [len(text) for text in completions], {}),
        (lambda prompts, completions: [len(text) for text in completions], {}),
        (_waits, {}),
        (_waits_for_all, {"batched": True}),
        (_like_trl_and_async, {}),
        (Lengths(), {}),
        (Lengths, {}),
    ],
)
def test_each_signature_gives_one_value_a_response(function: Callable[..., Any], options: dict[str, Any]) -> None:
    assert _values(function, **options) == [3.0, 4.0]


def test_async_calls_wait_together_in_one_loop_also_where_a_loop_is_running() -> None:
    loops, waiting, most = set(), 0, 0

    async def both_at_once(problem: Problem, text: str) -> float:
        nonlocal waiting, most
        loops.add(asyncio.get_running_loop())
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0.02)
        waiting -= 1
        return 1.0

    async def as_in_a_notebook() -> list[float | None]:
        return _values(both_at_once)

    assert asyncio.run(as_in_a_notebook()) == [1.0, 1.0]
    assert most == 2
    assert len(loops) == 1


def test_a_function_of_trl_gets_the_columns_it_names() -> None:
    seen: dict[str, Any] = {}

    def like_trl(prompts: Any, completions: Any, completion_ids: Any, solution: Any, level: Any, **rest: Any) -> Any:
        seen.update(rest, prompts=prompts, completions=completions, ids=completion_ids, solution=solution, level=level)
        return [1.0, None]

    assert _values(like_trl) == [1.0, None]
    assert seen["prompts"] == ["Solve 1 + 1", "Solve 2 + 2"]
    assert seen["completions"] == ["two", "four"]
    assert seen["ids"][0] == list(map(ord, "two"))
    assert seen["solution"] == ["2", "Twice two."]
    assert seen["level"] == [3, None]
    assert (seen["answer"], seen["source"], seen["id"]) == (["2", "4"], ["", "sums"], ["p1", "p2"])
    assert _values(like_trl, conversational=True) == [1.0, None]
    assert seen["completions"][0] == [{"role": "assistant", "content": "two"}]
    assert seen["prompts"][1] == [{"role": "user", "content": "Solve 2 + 2"}]


def test_what_a_function_raises_for_one_response_leaves_the_others_alone() -> None:
    def refuses_two(problem: Problem, text: str) -> float:
        if text == "two":
            raise KeyError("no such word")
        return 2.0

    first, second = _scores(refuses_two)
    assert (first.value, first.error, first.detail) == (None, "raised KeyError", "'no such word'")
    assert "in refuses_two" in first.trace
    assert (second.value, second.error) == (2.0, "")

    async def refuses_two_later(problem: Problem, text: str) -> float:
        return refuses_two(problem, text)

    assert [one.error for one in _scores(refuses_two_later)] == ["raised KeyError", ""]


@pytest.mark.parametrize("given", [math.nan, math.inf, None, "much", [1.0]])
def test_what_is_no_finite_number_is_an_error(given: Any) -> None:
    found = _scores(lambda problem, text: given)
    assert all(one.value is None and one.error.startswith("returned") for one in found)
    assert found[0].detail == "allowed are finite numbers"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0], "returned 1 rewards: there are 2 responses"),
        (None, "returned None: allowed is a list of numbers"),
        ("no", "returned 'no': allowed is a list of numbers"),
        ([1.0, "no"], "returned 'no': allowed are finite numbers"),
    ],
)
def test_a_list_that_does_not_fit_is_an_error(given: Any, message: str) -> None:
    found = _scores(lambda problems, texts: given, batched=True)[1]
    assert f"{found.error}: {found.detail}" == message


def test_an_object_that_the_run_makes_is_closed_and_one_of_the_users_own_is_not() -> None:
    closed: list[str] = []

    class Model:
        def __init__(self, name: str = "own") -> None:
            self.name = name

        def __call__(self, problem: Problem, text: str) -> float:
            assert not closed
            return 1.0

        def close(self) -> None:
            closed.append(self.name)

    class AsyncModel(Model):
        async def close(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            closed.append(self.name)

    assert _values(RewardFunction(Model, arguments={"name": "made"})) == [1.0, 1.0]
    assert closed == ["made"]
    closed.clear()
    assert _values(Model()) == [1.0, 1.0]
    assert closed == []
    assert _values(RewardFunction(AsyncModel, arguments={"name": "later"})) == [1.0, 1.0]
    assert closed == ["later"]


def test_only_functions_that_are_asked_for_score_held_out_solutions() -> None:
    both = checked_reward_functions([half, RewardFunction(half, "asked", evaluate=True)])
    with RewardFunctions(both, lambda *_: "", conversational=False) as functions:
        assert set(functions.score(_responses("two", "four"))) == {"half", "asked"}
        assert set(functions.score(_responses("two", "four"), held_out=True)) == {"asked"}


class NotCalled:
    """Objects of it are no functions."""


class NeedsAnArgument:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, problem: Problem, text: str) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (half, "reward_functions is the function half, a list of functions is needed"),
        (None, "reward_functions is None"),
        (0.5, r"reward_functions is 0.5 \(float\)"),
        ("half", r"reward_functions is 'half' \(str\)"),
        ({"half": half}, r"reward_functions is a dict|reward_functions is \{"),
        ([half, 3], r"reward_functions\[1\] is 3 \(int\)"),
        ([lambda text: 1.0], r"reward_functions\[0\] takes \(text\), which does not fit"),
        ([RewardFunction(lambda one: [1.0], batched=True)], r"reward_functions\[0\] takes \(one\)"),
        ([lambda completions, /: [1.0]], "cannot be given by name"),
        ([NotCalled], "objects of the class NotCalled cannot be called"),
        ([NeedsAnArgument], r"the class NeedsAnArgument cannot be made \(missing a required argument: 'path'\)"),
    ],
)
def test_what_is_no_list_of_reward_functions_is_refused_by_name(given: Any, found: str) -> None:
    with pytest.raises(TypeError, match=found):
        checked_reward_functions(given)


def test_functions_have_names_of_their_own() -> None:
    named = checked_reward_functions(iter([half, half, lambda problem, text: 0.0, RewardFunction(half, "mine"), max]))
    assert [one.name for one in named] == ["half", "half_2", "lambda", "mine", "max"]
    with pytest.raises(ValueError, match="two reward functions are called 'mine'"):
        checked_reward_functions([RewardFunction(half, "mine"), RewardFunction(max, "mine")])
    with pytest.raises(ValueError, match="reward function 'a b': allowed in a name"):
        checked_reward_functions([RewardFunction(half, "a b")])

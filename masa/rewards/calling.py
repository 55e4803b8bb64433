"""Calling reward functions: per response or per batch, plain or async, with what each of them raises kept apart."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from masa.errors import first_line
from masa.problems import Problem
from masa.rewards.functions import RewardFunction, made
from masa.rewards.trl import trl_arguments
from masa.rollout.engine import Rollout

PromptText = Callable[..., str]


@dataclass(frozen=True)
class Response:
    """One solution to be rewarded."""

    problem: Problem
    text: str
    rollout: Rollout


@dataclass(frozen=True)
class FunctionReward:
    """What a reward function said of one solution; ``value`` is None where it raised, or does not apply.

    ``error`` says what it did in the place of a reward, ``detail`` more of it, and ``trace`` is the traceback.
    """

    value: float | None
    error: str = ""
    detail: str = ""
    trace: str = ""


class RewardFunctions:
    """The reward functions of a run, with the objects that they are called on; a context manager that makes and closes
    those.

    Args:
        functions: each with a name of its own.
        prompt_text: `RequestBuilder.prompt_text`.
        conversational: whether prompts go through a chat template.

    Raises (on entering):
        ConfigError: an object of a class cannot be made.
    """

    def __init__(self, functions: Sequence[RewardFunction], prompt_text: PromptText, *, conversational: bool) -> None:
        self.functions = tuple(functions)
        self.weights = {one.name: one.weight for one in functions}
        self._prompt_text = prompt_text
        self._conversational = conversational
        self._called: dict[str, Callable[..., Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stack = ExitStack()

    def __enter__(self) -> RewardFunctions:
        with ExitStack() as stack:
            stack.callback(self._end_loop)
            for one in self.functions:
                self._called[one.name] = called = made(one)
                close = getattr(called, "close", None)
                if inspect.isclass(one.function) and callable(close):
                    stack.callback(self._finish, close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def score(self, responses: Sequence[Response], *, held_out: bool = False) -> dict[str, list[FunctionReward]]:
        """What each function says of ``responses``, in their order; with ``held_out`` those that are asked there."""
        functions = [one for one in self.functions if one.evaluate or not held_out]
        if not responses:
            return {one.name: [] for one in functions}
        return {one.name: self._score(one, responses) for one in functions}

    def _score(self, one: RewardFunction, responses: Sequence[Response]) -> list[FunctionReward]:
        called = self._called[one.name]
        if one.signature == "response":
            results = self._results([lambda r=r: called(r.problem, r.text) for r in responses])  # type: ignore[misc]
            return [_one_reward(result) for result in results]
        problems, texts = [r.problem for r in responses], [r.text for r in responses]
        if one.signature == "batch":
            (result,) = self._results([lambda: called(problems, texts)])
        else:
            rollouts = [r.rollout for r in responses]
            prompts = [self._prompt_text(r.problem, "solution", r.rollout.hint) for r in responses]
            (result,) = self._results(
                [
                    lambda: called(
                        **trl_arguments(called, problems, texts, rollouts, prompts, conversational=self._conversational)
                    )
                ]
            )
        return _rewards_of_list(result, len(responses))

    def _results(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """What each call returns or raises; what is to be awaited is awaited together."""
        results = [_caught(call) for call in calls]
        waiting = [index for index, result in enumerate(results) if inspect.isawaitable(result)]
        if waiting:
            awaited = self._finish(_gathered, [results[index] for index in waiting])
            for index, result in zip(waiting, awaited, strict=True):
                results[index] = result
        return results

    def _finish(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function`` itself, or, where it is async, what it comes to in the event loop of reward functions."""
        result = function(*arguments)
        if not inspect.iscoroutine(result):
            return result
        return asyncio.run_coroutine_threadsafe(_as_coroutine(result), self._running_loop()).result()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """One for the whole run, in a thread of its own, for notebooks have a loop of theirs."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="masa-reward-functions", daemon=True).start()
        return self._loop

    def _end_loop(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None


@dataclass(frozen=True)
class _Raised:
    error: Exception


def _caught(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return _Raised(error)


async def _gathered(awaitables: Iterable[Any]) -> list[Any]:
    async def caught(one: Any) -> Any:
        try:
            return await one
        except Exception as error:
            return _Raised(error)

    return list(await asyncio.gather(*map(caught, awaitables)))


async def _as_coroutine(awaitable: Coroutine[Any, Any, Any]) -> Any:
    return await awaitable


def _one_reward(result: Any) -> FunctionReward:
    if isinstance(result, _Raised):
        return _failed(result.error)
    number = _number(result)
    if number is None:
        return FunctionReward(None, f"returned {_short(result)}", "allowed are finite numbers")
    return FunctionReward(number)


def _rewards_of_list(result: Any, count: int) -> list[FunctionReward]:
    """One reward an entry; what is wrong with the whole list is wrong with each."""
    if isinstance(result, _Raised):
        return [_failed(result.error)] * count
    values = result.tolist() if hasattr(result, "tolist") else result
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        return [FunctionReward(None, f"returned {_short(result)}", "allowed is a list of numbers")] * count
    listed = list(values)
    if len(listed) != count:
        return [FunctionReward(None, f"returned {len(listed)} rewards", f"there are {count} responses")] * count
    return [FunctionReward(None) if one is None else _one_reward(one) for one in listed]


def _failed(error: Exception) -> FunctionReward:
    trace = "".join(traceback.format_exception(error))
    return FunctionReward(None, f"raised {type(error).__name__}", first_line(error), trace)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"a {type(value).__name__}"

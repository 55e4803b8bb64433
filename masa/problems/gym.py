"""Procedural problems: data sets that the package reasoning-gym generates from a seed.

A source is written ``reasoning_gym:NAME?size=1000&seed=1&max_digits=2``: a task's name and its options, of which
``size`` (problems, default 1000) and ``seed`` (default 0) say how many and which. Another seed gives other problems,
which is how held-out problems are made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl

import yaml

from masa.problems.errors import ProblemDataError, nearest, shown
from masa.problems.files import Unreadable
from masa.problems.problem import Problem

PREFIX = "reasoning_gym:"
GYM_VERIFIER = "masa.rewards.verifiers.gym:score"
_DEFAULTS = {"size": 1000, "seed": 0}


@dataclasses.dataclass(frozen=True)
class GymSource:
    """A task's name, how many problems of which seed, and the task's own options."""

    task: str
    size: int
    seed: int
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The task with its own options: the same for training and held-out problems of one kind."""
        own = ",".join(f"{key}={value}" for key, value in sorted(self.options.items()))
        return f"{self.task}({own})" if own else self.task


def parse_gym_source(source: str) -> GymSource:
    """Read ``reasoning_gym:NAME?option=value&...``; values are written as in YAML.

    Raises:
        ProblemDataError: no task, an option without a value or given twice, or a size or seed that is no whole number.
    """
    task, _, written = source.removeprefix(PREFIX).partition("?")
    if not task:
        raise ProblemDataError(f"problems: found {source!r}, allowed: reasoning_gym:NAME?option=value&option=value")
    try:
        pairs = parse_qsl(written, keep_blank_values=True, strict_parsing=bool(written))
    except ValueError:
        raise ProblemDataError(f"problems {source!r}: found {written!r}, allowed: option=value&option=value") from None
    options: dict[str, Any] = {}
    for key, text in pairs:
        if key in options or not text:
            wrong = "occurs twice" if key in options else "has no value"
            raise ProblemDataError(f"problems {source!r}: the option {key!r} {wrong}")
        try:
            options[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            options[key] = text
    counts = {key: options.pop(key, default) for key, default in _DEFAULTS.items()}
    for key, least in (("size", 1), ("seed", 0)):
        value = counts[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ProblemDataError(f"problems {source!r}: {key} is {value!r}, allowed: a whole number from {least} on")
    return GymSource(task, counts["size"], counts["seed"], options)


def gym_problems(source: str) -> tuple[str, Iterator[Problem | Unreadable]]:
    """The name that the problems of ``source`` carry, and the problems, made one at a time.

    Raises:
        ProblemDataError: reasoning-gym is not installed, or it has no such task, option or value.
    """
    parsed = parse_gym_source(source)
    if find_spec("reasoning_gym") is None:
        raise ProblemDataError(
            f"problems: found {source!r}, which needs the package reasoning-gym: pip install masa-rl[gym]"
        )
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if parsed.task not in DATASETS:
        raise ProblemDataError(
            f"problems: found {source!r}{nearest(parsed.task, DATASETS)}, allowed after reasoning_gym: one of "
            f"{', '.join(sorted(DATASETS))}"
        )
    known = [field.name for field in dataclasses.fields(DATASETS[parsed.task][1]) if field.name not in _DEFAULTS]
    for key in parsed.options:
        if key not in known:
            raise ProblemDataError(
                f"problems {source!r}: unknown option {key!r}{nearest(key, known)}, allowed: {', '.join(known)}, "
                "size, seed"
            )
    try:
        data = reasoning_gym.create_dataset(parsed.task, size=parsed.size, seed=parsed.seed, **parsed.options)
    except Exception as error:  # tasks check their options by assertions, and by whatever a wrong type leads to
        raise ProblemDataError(f"problems {source!r}: {parsed.task} refuses these options: {error}") from error
    return parsed.name, (_problem(parsed, index, data[index]) for index in range(parsed.size))


def answer_of(problem: Problem) -> Any:
    """What the data give as the right answer. Of a task it is the entry's answer alone: the rest of the entry says how
    the problem came about, its place among the generated ones included."""
    if problem.verifier == GYM_VERIFIER and isinstance(problem.answer, dict):
        return problem.answer["entry"]["answer"]
    return problem.answer


def _problem(source: GymSource, index: int, entry: dict[str, Any]) -> Problem | Unreadable:
    answer = {"task": source.task, "options": source.options, "entry": entry}
    try:
        # What the workers are given is JSON.
        answer = json.loads(json.dumps(answer))
    except (TypeError, ValueError) as error:
        return Unreadable(f"{source.task} keeps {shown(entry)}, which cannot be handed to a verifier: {error}")
    return Problem(
        id=f"reasoning_gym/{source.name}/{source.seed}/{index}",
        statement=entry["question"],
        answer=answer,
        source=source.name,
        verifier=GYM_VERIFIER,
    )

"""The arithmetic problem family: sums of labelled numbers, graded by how many there are and how large they are.

Each number carries a letter (``a=7, b=4``), so that a policy of under a million parameters finds the next number by
its label instead of by counting positions. What makes a problem hard stands in its statement.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from masa.embedded.solutions import LABELS, clean_solution
from masa.embedded.splits import Split, require_count, shuffled_by_share, split_by_hash
from masa.problems.problem import Problem

SOURCE = "embedded-arithmetic"
# Bounded by the level with the fewest distinct problems: 361 pairs, an eighth of them held out.
LARGEST_COUNT: dict[Split, int] = {"train": 2048, "test": 256}


@dataclass(frozen=True)
class Level:
    """A grade of difficulty: how many numbers, their size, and this level's share of any problem list (per cent).

    ``taught`` is false for the level that lies outside of what the warm start shows the policy.
    """

    name: str
    terms: tuple[int, ...]
    low: int
    high: int
    share: int
    taught: bool = True


LEVELS = (
    Level("pair", (2,), 1, 19, 14),
    Level("small-short", (3, 4), 1, 9, 20),
    Level("small-long", (5, 6, 7), 1, 9, 22),
    Level("medium-short", (3, 4), 10, 19, 14),
    Level("medium-long", (5, 6), 10, 19, 14),
    Level("large", (3, 4), 100, 499, 16, taught=False),
)


def statement_of(values: tuple[int, ...]) -> str:
    """The bare problem, e.g. ``Find the sum: a=7, b=4, c=9.``"""
    return "Find the sum: " + ", ".join(f"{label}={v}" for label, v in zip(LABELS, values, strict=False)) + "."


def split_of(values: tuple[int, ...]) -> Split:
    """The split that owns these numbers: a hash decides, so train and test never share a problem."""
    return split_by_hash(repr(values))


def draw_values(level: Level, rng: random.Random) -> tuple[int, ...]:
    """The numbers of one random problem of ``level``."""
    return tuple(rng.randint(level.low, level.high) for _ in range(rng.choice(level.terms)))


def arithmetic_problems(split: Split, count: int | None = None, seed: int = 0) -> list[Problem]:
    """Distinct problems of one split, the levels mixed by their shares; equal arguments give equal lists.

    ``count`` is at most, and by default, 2048 (train) or 256 (test). A problem's ``solution`` is the clean running
    total, its ``metadata`` holds ``level`` and ``values``.

    Raises:
        ValueError: an unknown split, or a count outside of what the split holds.
    """
    count = LARGEST_COUNT.get(split, 0) if count is None else count
    require_count("embedded", split, count, LARGEST_COUNT)
    rng = random.Random(f"embedded/{split}/{seed}")
    seen: set[tuple[int, ...]] = set()
    problems = []
    for level in _level_order(count, rng):
        values = draw_values(level, rng)
        while values in seen or split_of(values) != split:
            values = draw_values(level, rng)
        seen.add(values)
        problems.append(_problem(values, level))
    return problems


def _level_order(count: int, rng: random.Random) -> list[Level]:
    """``count`` levels in random order, each as often as its share asks for."""
    return shuffled_by_share(LEVELS, [count * level.share / 100 for level in LEVELS], count, rng)


def _problem(values: tuple[int, ...], level: Level) -> Problem:
    return Problem(
        id="sum-" + "-".join(str(v) for v in values),
        statement=statement_of(values),
        answer=str(sum(values)),
        source=SOURCE,
        solution=clean_solution(values),
        metadata={"level": level.name, "values": list(values)},
    )

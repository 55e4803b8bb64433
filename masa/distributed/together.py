"""The processes of a run, for what they do together outside of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from accelerate.utils import broadcast_object_list

_Answer = TypeVar("_Answer")


def _same(values: list[Any]) -> list[Any]:
    return values


@dataclass(frozen=True)
class Together:
    """Which process this is of how many; ``gather`` gives each of them the values of all, in their order."""

    process: int = 0
    processes: int = 1
    gather: Callable[[list[Any]], list[Any]] = _same

    @property
    def first(self) -> bool:
        return self.process == 0


ALONE = Together()


def from_first(ask: Callable[[], _Answer], error: type[Exception], *, first: bool) -> _Answer:
    """What the ``first`` process answers, on every process; an ``error`` of its is raised on all of them."""
    answer: list[Any] = [None]
    if first:
        try:
            answer = [ask()]
        except error as raised:
            answer = [raised]
    (found,) = broadcast_object_list(answer)
    if isinstance(found, error):
        raise found
    given: _Answer = found
    return given

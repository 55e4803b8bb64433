"""The processes of a run, for what they do together outside of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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

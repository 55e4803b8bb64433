"""A course in windows: the twelfths of a report, the tenths of a record, the bars of a line in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_One = TypeVar("_One")


def even_windows(items: Sequence[_One], most: int) -> list[Sequence[_One]]:
    """``items`` in order, in ``most`` windows whose lengths differ by one at most; in fewer where there are fewer."""
    count = min(most, len(items))
    return [items[len(items) * at // count : len(items) * (at + 1) // count] for at in range(count)]

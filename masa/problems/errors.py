"""What goes wrong with problem data, told in one message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ProblemDataError(ValueError):
    """A problem source that cannot be used; the message names it (and the row), what was found and what is allowed."""


class HubUnavailableError(ProblemDataError):
    """A hub data set that could not be loaded from here: no network, and nothing cached."""


class RowError(ValueError):
    """One row that is no problem; the message is the reason alone, the caller knows the row."""


def nearest(found: str, allowed: Iterable[str]) -> str:
    """`` (nearest: 'x')`` for the allowed name most like ``found``, or nothing where none is alike."""
    by_lower = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(found.lower(), by_lower, n=1)
    return f" (nearest: {by_lower[near[0]]!r})" if near else ""


def shown(value: object, limit: int = 60) -> str:
    """``value`` as it may stand in an error message: its repr, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."

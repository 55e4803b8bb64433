"""What an error says, short enough to stand inside another message."""

from __future__ import annotations

_CHARACTERS = 300


def first_line(error: BaseException) -> str:
    """The first line of its text, at most 300 characters; the name of its type where it has no text."""
    return str(error).strip().split("\n", 1)[0][:_CHARACTERS].strip() or type(error).__name__


def brief(error: BaseException) -> str:
    """The name of its type and `first_line`."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"

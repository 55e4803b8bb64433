"""What an error or a value is, short enough to stand inside another message."""

from __future__ import annotations

import inspect

_CHARACTERS = 300


def first_line(error: BaseException) -> str:
    """The first line of its text, at most 300 characters; the name of its type where it has no text."""
    return str(error).strip().split("\n", 1)[0][:_CHARACTERS].strip() or type(error).__name__


def brief(error: BaseException) -> str:
    """The name of its type and `first_line`."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"


def described(value: object) -> str:
    """A value for a message: its kind, and what it is where that is short."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    shown = repr(value)
    return f"{shown} ({type(value).__name__})" if len(shown) <= 60 else f"a {type(value).__name__}"

r"""Find the last ``\boxed{}`` of a response."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}`` (or ``\fbox``); None without one.

    A box that never closes (a truncated response) does not count. Linear in the text, whatever it nests.
    """
    starts = [match.end() for match in _BOX.finditer(text)]
    if not starts:
        return None
    # One pass from the first box on: the closing position of every open brace.
    closing: dict[int, int] = {}
    open_braces: list[int] = []
    for match in re.finditer(r"\\.|[{}]", text[starts[0] - 1 :], re.DOTALL):
        if match.group() == "{":
            open_braces.append(match.end())
        elif match.group() == "}" and open_braces:
            closing[open_braces.pop()] = match.start()
    offset = starts[0] - 1
    for start in reversed(starts):
        end = closing.get(start - offset)
        if end is not None:
            return text[start : offset + end].strip()
    return None

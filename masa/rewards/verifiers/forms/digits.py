"""Answers made of digits that are no single decimal number: numbers with nothing but space between, and other bases."""

from __future__ import annotations

import re

_SPACE = r"(?:\s|\\[ ,;:]|~|\\quad)+"
_NUMBERS = re.compile(rf"[+-]?\d+(?:\.\d+)?(?:{_SPACE}[+-]?\d+(?:\.\d+)?)+")
# Digits in groups of three are one number, whose writing needs no comma.
_GROUPED = re.compile(rf"[+-]?\d{{1,3}}(?:{_SPACE}\d{{3}})+(?:\.\d+)?")
_BASE = re.compile(
    r"(?:\(([0-9A-Za-z]+)\)|([0-9A-Za-z]+))\s*_\s*(?:\{\s*(?:\\text\s*\{)?\s*(\d+|[a-z]+)\s*\}{1,2}|(\d))"
)
_BASE_NAMES = {"two": "2", "three": "3", "eight": "8", "ten": "10", "twelve": "12", "sixteen": "16"}


def spaced_numbers(answer: str) -> tuple[str, ...] | None:
    """The numbers of an answer such as ``1 2``, which is not 12; None for anything else, ``1 234`` included."""
    text = answer.strip().strip("$")
    if not _NUMBERS.fullmatch(text) or _GROUPED.fullmatch(text):
        return None
    return tuple(re.split(_SPACE, text))


def based_numeral(answer: str) -> tuple[str, str] | None:
    """Digits and base of a numeral that names its base, such as ``101_2``; None for anything else."""
    match = _BASE.fullmatch(answer.strip().strip("$").strip())
    if match is None:
        return None
    base = match[3] or match[4]
    base = _BASE_NAMES.get(base, base)
    digits = (match[1] or match[2]).upper().lstrip("0") or "0"
    # A letter with an index is a variable: x_1.
    return (digits, base) if base.isdigit() and match.group()[0].isdigit() | match.group().startswith("(") else None

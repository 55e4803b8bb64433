"""Find the last JSON object in text that a language model wrote, with the slips such text is full of.

Accepted beyond JSON: single-quoted strings, raw line breaks in strings, unknown escapes, trailing commas, Python's
``None``/``True``/``False``, and bare fractions (``6/8``), percentages (``75%``) and grouped digits (``1,024``).
Whatever surrounds the object (prose, code fences) is skipped. Nesting and total work are bounded, so no text is slow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 16
# The object stands at the end of a response; a response longer than this is not a meta-prediction's.
MAX_CHARACTERS = 200_000
# One unit is one token of an object; ordinary predictions need about fifty.
MAX_TOKENS = 200_000

_SPACE = re.compile(r"\s*")
_DOUBLE_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
# An apostrophe ends a single-quoted string only where a JSON delimiter follows: 'Vieta's formulas' is one string.
_SINGLE_QUOTE_END = re.compile(r"(?<!\\)'(?=\s*[,:}\]])")
_BARE = re.compile(
    r"(?P<grouped>\d{1,3}(?:,\d{3})+(?=\s*[,}\]]))"
    r"|(?P<fraction>[+-]?\d+(?:\.\d+)?\s*(?:/|out of)\s*\d+(?:\.\d+)?)"
    r"|(?P<percent>[+-]?\d+(?:\.\d+)?\s*%)"
    r"|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[+-]?(?:Infinity|inf|NaN|nan)|true|false|null|True|False|None)"
)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}


@dataclass(frozen=True)
class BareNumber:
    """A number as it was written: ``6``, ``0.75``, ``6/8``, ``75%``, ``NaN``."""

    text: str


class _NotAnObjectError(Exception):
    pass


class _BudgetSpentError(Exception):
    pass


def last_object(text: str) -> dict[str, Any] | None:
    """The last non-empty object in ``text`` that is not part of another one; None where there is none.

    Numbers come as ``BareNumber`` so that the reader of a field sees how they were written. Of a repeated key the last
    value stands.
    """
    text = text[-MAX_CHARACTERS:]
    reader = _Reader(text)
    found: dict[str, Any] | None = None
    position = text.find("{")
    while position >= 0:
        try:
            value, end = reader.read_object(position, depth=0)
        except _NotAnObjectError:
            end = position + 1
        except _BudgetSpentError:
            return found
        else:
            found = value or found
        position = text.find("{", end)
    return found


class _Reader:
    """Recursive descent over one text; ``tokens`` counts the work done over all attempts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = 0
        # Where a search for a closing quote once failed, every later one fails: keeps unclosed quotes linear.
        self.no_double_quote_from = len(text) + 1
        self.no_single_quote_from = len(text) + 1

    def skip_space(self, position: int) -> int:
        match = _SPACE.match(self.text, position)
        return match.end() if match else position

    def peek(self, position: int) -> str:
        return self.text[position : position + 1]

    def spend(self) -> None:
        self.tokens += 1
        if self.tokens > MAX_TOKENS:
            raise _BudgetSpentError

    def read_object(self, position: int, depth: int) -> tuple[dict[str, Any], int]:
        if depth > MAX_DEPTH:
            raise _NotAnObjectError
        result: dict[str, Any] = {}
        position = self.skip_space(position + 1)
        while self.peek(position) != "}":
            key, position = self.read_string(position)
            position = self.skip_space(position)
            if self.peek(position) != ":":
                raise _NotAnObjectError
            result[key], position = self.read_value(self.skip_space(position + 1), depth)
            position = self.read_separator(position, "}")
        return result, position + 1

    def read_list(self, position: int, depth: int) -> tuple[list[Any], int]:
        if depth > MAX_DEPTH:
            raise _NotAnObjectError
        result: list[Any] = []
        position = self.skip_space(position + 1)
        while self.peek(position) != "]":
            value, position = self.read_value(position, depth)
            result.append(value)
            position = self.read_separator(position, "]")
        return result, position + 1

    def read_separator(self, position: int, closing: str) -> int:
        position = self.skip_space(position)
        if self.peek(position) == ",":
            return self.skip_space(position + 1)
        if self.peek(position) == closing:
            return position
        raise _NotAnObjectError

    def read_value(self, position: int, depth: int) -> tuple[Any, int]:
        self.spend()
        first = self.peek(position)
        if first == "{":
            return self.read_object(position, depth + 1)
        if first == "[":
            return self.read_list(position, depth + 1)
        if first in ('"', "'"):
            return self.read_string(position)
        match = _BARE.match(self.text, position)
        if match is None:
            raise _NotAnObjectError
        written = match.group()
        return (_WORDS[written] if written in _WORDS else BareNumber(written)), match.end()

    def read_string(self, position: int) -> tuple[str, int]:
        self.spend()
        if self.peek(position) == '"' and position < self.no_double_quote_from:
            match = _DOUBLE_QUOTED.match(self.text, position)
            if match:
                return _unescape(match.group(1)), match.end()
            self.no_double_quote_from = position
        elif self.peek(position) == "'" and position < self.no_single_quote_from:
            end = _SINGLE_QUOTE_END.search(self.text, position + 1)
            if end:
                return _unescape(self.text[position + 1 : end.start()]), end.end()
            self.no_single_quote_from = position
        raise _NotAnObjectError


def _unescape(raw: str) -> str:
    if "\\" not in raw:
        return raw

    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        if len(code) == 5:
            return chr(int(code[1:], 16))
        return _ESCAPED.get(code, match.group())

    text = _ESCAPE.sub(replace, raw)
    # JSON writes a character beyond 16 bits as two escapes; lone halves stay as they are.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

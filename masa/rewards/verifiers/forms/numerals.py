r"""Numbers as people write them: integers with separators, decimals, fractions, mixed numbers, powers of ten."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_MAX_EXPONENT = 5_000
# A decimal stands for a number that it is the rounding of from this many places on (1/3 and 0.333333) ...
_PLACES_OF_A_ROUNDING = 6
# ... and where what it leaves out is a small part of it (not 0.000001 for 1/700000).
_RELATIVE = Fraction(1, 10**5)

_SPACE = r"(?:\s|\\[,;:! ]|~)*"
_FRACTION = (
    r"\\[dtc]?frac\s*(?:\{\s*(\d{1,9})\s*\}\s*\{\s*(\d{1,9})\s*\}"
    r"|(\d)\s*(\d)|(\d)\s*\{(\d{1,9})\}|\{(\d{1,9})\}\s*(\d))"
)
_AND = r"(?:and\s+|\\text\{\s*and\s*\}\s*)?"
_MIXED = re.compile(
    r"(?<![\d.^_}\])A-Za-z/!*])(?<!\^\{)(\d{1,9})"
    rf"(?:{_SPACE}{_FRACTION}|(?:\s|\\[,;: ]|~)+{_AND}(\d{{1,9}})\s*/\s*(\d{{1,9}})(?![\d.]))"
)
_REPEATING = re.compile(
    r"(?<![\d.])(\d{0,40})\.(\d{0,40})"
    r"(?:\\(?:overline|bar|overbar|dot)\s*\{?(\d{1,40})\}?(?:(\d{0,40})\\dot\s*\{?(\d)\}?)?|\((\d{1,40})\))"
)
_ELLIPSIS_DECIMAL = re.compile(r"(?<![\d.])(\d{0,40})\.(\d{2,40}?)\s*(?:\.{3}|\\[lc]?dots(?:\s|$))")
_GROUPED = re.compile(r"\d{1,3}(?:(?:,|\{,\}|,\\!|\\,)\d{3})+(?!\d)")
_NUMERAL = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<number>\d{1,1000}(?:\.\d{0,1000})?|\.\d{1,1000})(?:\\(?:times|cdot)10\^(?P<ten>\d|\{[+-]?\d{1,6}\}))?"
    r"|10\^(?P<power>\d|\{[+-]?\d{1,6}\})"
    r"|\\frac\{(?P<above>[+-]?\d{1,1000})\}\{(?P<below>[+-]?\d{1,1000})\}|(?P<over>\d{1,1000}/\d{1,1000}))"
)


@dataclass(frozen=True)
class Rational:
    """A plain number. ``places``: how many a decimal is written with (less than 0 in ``1.5 x 10^3``), else None."""

    value: Fraction
    places: int | None

    def equals(self, other: Rational) -> bool:
        """Exactly, or as the rounding of the other to at least six places, nearly all of its size."""
        return self.value == other.value or self._rounds(other) or other._rounds(self)

    def _rounds(self, other: Rational) -> bool:
        if self.places is None or self.places < _PLACES_OF_A_ROUNDING:
            return False
        if other.places is not None and other.places <= self.places:
            return False
        difference = abs(self.value - other.value)
        return difference <= Fraction(1, 2 * 10**self.places) and difference <= _RELATIVE * abs(other.value)

    def times(self, factor: Fraction) -> Rational:
        """The number in another unit; an exact factor keeps a decimal a decimal of as many places."""
        return Rational(self.value * factor, self.places)


def numeral(form: str) -> Rational | None:
    """The number that a written form (without spaces) is; None for anything else."""
    match = _NUMERAL.fullmatch(_GROUPED.sub(lambda m: re.sub(r"\D", "", m[0]), form))
    if match is None:
        return None
    number, exponent = match["number"], (match["ten"] or match["power"] or "0").strip("{}")
    if abs(int(exponent)) > _MAX_EXPONENT:
        return None
    written = number or match["over"] or ("1" if match["power"] else f"{match['above']}/{match['below']}")
    if written.count("/") and written.partition("/")[2].startswith(("+", "-")):
        above, _, below = written.partition("/")
        written = f"{-int(above)}/{abs(int(below))}" if below[0] == "-" else f"{above}/{below[1:]}"
    try:
        value = Fraction(written) * Fraction(10) ** int(exponent)
    except ZeroDivisionError:
        return None
    decimals = len(number.partition(".")[2]) - int(exponent) if number and "." in number else None
    return Rational(-value if match["sign"] == "-" else value, decimals)


def improper_fraction(text: str) -> str:
    r"""Mixed numbers (``1 1/2``, ``1\frac{1}{2}``) as one fraction; an improper fraction beside stays a factor."""

    def one_fraction(match: re.Match[str]) -> str:
        above, below = (int(part) for part in match.groups()[1:] if part)
        return f"\\frac{{{int(match[1]) * below + above}}}{{{below}}}" if 0 < above < below else match[0]

    return _MIXED.sub(one_fraction, text)


def repeating_decimal(text: str) -> str:
    r"""``0.\overline{3}``, ``0.(3)``, ``0.\dot{3}`` and ``0.333...`` as fractions."""

    def fraction(match: re.Match[str]) -> str:
        whole, head, first, middle, last, bracketed = match.groups()
        return _as_fraction(whole, head, bracketed or first + (middle or "") + (last or ""))

    def of_ellipsis(match: re.Match[str]) -> str:
        period = _period(match[2])
        if period is None:
            return match[0]
        return _as_fraction(match[1], *_head_and_period(match[2], len(period)))

    text = _REPEATING.sub(fraction, text)
    return _ELLIPSIS_DECIMAL.sub(of_ellipsis, text)


def _period(digits: str) -> str | None:
    """What the digits of ``0.1666...`` go on repeating; None where they do not say so clearly."""
    for size in range(1, len(digits) // 2 + 1):
        period = digits[-size:]
        head, _ = _head_and_period(digits, size)
        repeats = (len(digits) - len(head)) // size
        # 2.718281828... repeats four digits twice and does not go on so.
        if repeats >= 3 or (repeats == 2 and (not head or size == 1)):
            return period
    return None


def _head_and_period(digits: str, size: int) -> tuple[str, str]:
    period, head = digits[-size:], digits
    while head.endswith(period):
        head = head[:-size]
    return head, period


def _as_fraction(whole: str, head: str, period: str) -> str:
    nines = 10 ** len(period) - 1
    value = Fraction(int(whole or 0)) + Fraction(int(head or 0) * nines + int(period), nines * 10 ** len(head))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"

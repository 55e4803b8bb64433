r"""How large a number an answer writes down, estimated from its text alone: what no evaluation should be tried on.

``9^{9^{9^{9}}}`` takes eleven characters and more memory than there is. The estimate reads numbers, powers, factorials,
binomials, products and sums as a calculator would, in logarithms; everything else counts as a letter of size one. It
takes microseconds and never raises.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# Powers and factorials of up to this many digits are evaluated: 25,000! and 2^{300000} still are.
MAX_DIGITS = 100_000
# No answer nests this deep; what does is refused where it holds a power at all.
_MAX_DEPTH = 60
_LARGEST_POWER_OF_TEN = 300.0

_TOKEN = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+|\\[a-zA-Z]+|\*\*|\\.|\S")
_WORTH_A_LOOK = re.compile(r"\^|\*\*|!|\\d?binom|\\exp|\d[eE][+-]?\d")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|,\\!)(?=\d{3}(?!\d))")
_OPENING = {"{": "}", "(": ")", "[": "]", r"\{": r"\}"}
_CLOSING = frozenset(_OPENING.values())
_IGNORED = frozenset({r"\left", r"\right", r"\big", r"\Big", r"\,", r"\;", r"\!", r"\:", r"\ ", "$", "~", "+", "-"})
_CONSTANTS = {"e": math.log10(math.e), r"\pi": math.log10(math.pi), "π": math.log10(math.pi)}


@dataclass(frozen=True)
class _Size:
    """``log``: log10 of a bound on the value; ``digits``: of its exact decimal form, 0 where there is none."""

    log: float = 0.0
    digits: float = 0.0


_SYMBOL = _Size()


class _TooLargeError(Exception):
    """Caught in this file: a part of the answer is beyond what is evaluated."""


def too_large_to_evaluate(text: str, factorials: bool = True) -> str | None:
    """Why ``text`` must not be evaluated, or None where it may be.

    ``factorials=False`` reads an exclamation mark as punctuation, as prose needs it.
    """
    if not _WORTH_A_LOOK.search(text):
        return None
    tokens = _TOKEN.findall(_THOUSANDS.sub("", text))
    try:
        _Reader([token for token in tokens if token not in _IGNORED], factorials).read_all()
    except _TooLargeError as error:
        return str(error)
    return None


class _Reader:
    """Reads tokens left to right; every power and factorial met is checked against the limit."""

    def __init__(self, tokens: list[str], factorials: bool) -> None:
        self._tokens = tokens
        self._factorials = factorials
        self._at = 0
        self._depth = 0

    def read_all(self) -> None:
        while self._at < len(self._tokens):
            self._product(closing=None)
            self._at += 1  # a bracket that closes nothing

    def _product(self, closing: str | None) -> _Size:
        """Factors, up to and with ``closing``; a sum is bounded like a product, which is the larger but for ones."""
        log = digits = 0.0
        quotient = False
        while (token := self._peek()) is not None:
            if token in _CLOSING:
                if token == closing:
                    self._at += 1
                break
            if token in ("/", ",", ";", "="):
                self._at += 1
                quotient = token == "/"
                log, digits = (log, digits) if quotient else (0.0, 0.0)
                continue
            factor = self._powers()
            log += factor.log if not quotient else 0.0
            digits += factor.digits
            quotient = False
        return _Size(log, digits)

    def _powers(self) -> _Size:
        """An atom with its factorial signs and exponents; exponents bind to the right."""
        base = self._atom()
        while (token := self._peek()) is not None:
            if token == "!" and self._factorials:
                self._at += 1
                base = _factorial(base)
            elif token in ("^", "**"):
                self._at += 1
                base = _power(base, self._exponent())
            elif token == "_":
                self._at += 1
                self._atom()
            else:
                break
        return base

    def _exponent(self) -> _Size:
        """What stands after ``^``: a braced group or one token, then what is stacked on it."""
        self._descend()
        exponent = self._atom()
        while self._peek() in ("^", "**"):
            self._at += 1
            exponent = _power(exponent, self._exponent())
        self._depth -= 1
        return exponent

    def _atom(self) -> _Size:
        token = self._peek()
        if token is None:
            return _SYMBOL
        self._at += 1
        if token in _OPENING:
            self._descend()
            size = self._product(_OPENING[token])
            self._depth -= 1
            return size
        if token in (r"\frac", r"\dfrac", r"\tfrac", r"\cfrac"):
            above, below = self._nested(), self._nested()
            return _Size(max(0.0, above.log - (below.log if below.digits else 0.0)), above.digits + below.digits)
        if token in (r"\binom", r"\dbinom", r"\tbinom"):
            return _binomial(self._nested(), self._nested())
        if token == r"\exp":
            return _power(_Size(_CONSTANTS["e"]), self._nested())
        if token in _CONSTANTS:
            return _Size(_CONSTANTS[token])
        return _number(token) if token[0].isdecimal() or token[0] == "." else _SYMBOL

    def _nested(self) -> _Size:
        self._descend()
        size = self._atom()
        self._depth -= 1
        return size

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _TooLargeError(f"nested more than {_MAX_DEPTH} levels deep, with powers")

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None


def _number(token: str) -> _Size:
    mantissa, _, exponent = token.lower().partition("e")
    if exponent:
        shift = _value(len(exponent) - 1 if len(exponent) > 9 else math.log10(max(1, abs(int(exponent)))))
        return _checked(_Size(shift if exponent[0] != "-" else 0.0, shift))
    whole = mantissa.partition(".")[0].lstrip("0")
    digits = len(mantissa.replace(".", "").strip("0"))
    if digits == 0 or mantissa in ("1", "1."):
        return _SYMBOL
    log = max(0.0, len(whole) + math.log10(float(f"0.{whole[:15]}"))) if whole else 0.0
    return _Size(log, max(log, digits) if "." in mantissa else log)


def _power(base: _Size, exponent: _Size) -> _Size:
    times = _value(exponent.log)
    # A bare letter to any power stays a letter.
    log = base.log * times if base.log else 0.0
    digits = base.digits * times if base.digits else 0.0
    return _checked(_Size(log, digits))


def _factorial(base: _Size) -> _Size:
    if not base.digits:
        return base
    value = _value(base.log)
    digits = value * max(base.log - math.log10(math.e), 1.0)
    return _checked(_Size(digits, digits))


def _binomial(above: _Size, below: _Size) -> _Size:
    if not above.digits:
        return _SYMBOL
    value = _value(above.log)
    digits = min(value * math.log10(2), _value(below.log) * above.log)
    return _checked(_Size(digits, digits))


def _value(log: float) -> float:
    return math.inf if log > _LARGEST_POWER_OF_TEN else 10.0**log


def _checked(size: _Size) -> _Size:
    if max(size.log, size.digits) > MAX_DIGITS:
        raise _TooLargeError(f"it would have more than {MAX_DIGITS:,} digits")
    return size

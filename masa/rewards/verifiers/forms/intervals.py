r"""Sets of real numbers written as intervals or as inequalities: ``(2, 5)``, ``2 < x < 5``, ``x \in (2, 5)``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_VARIABLE = r"(?:[A-Za-z]|\\(?:theta|alpha|beta|gamma|lambda|phi|omega))(?:_\{?\w\}?)?"
# One character each, so that they stay apart from a variable when spaces go.
_SIGNS = {"le": "≤", "ge": "≥", "ne": "≠", "in": "∈", "cup": "∪", "mid": "|", "vert": "|", "lor": " or ", "vee": " or "}
_SIGNS |= {"land": " and ", "wedge": " and "}
_SIGN = re.compile(rf"\\({'|'.join(_SIGNS)})(?![a-zA-Z])")
_MEMBER = re.compile(rf"({_VARIABLE})∈(.+)")
_BUILDER = re.compile(rf"\\\{{({_VARIABLE})(?:∈(?:\\mathbb)?(?:\{{R\}}|R))?[|:](.+)\\\}}")
_RELATION = re.compile(r"([≤≥≠<>])")
_OR = re.compile(r"\bor\b")
_AND = re.compile(r"\band\b")
_ALL_REALS = re.compile(r"\\mathbb\{?R\}?|\\R|\\Reals")
# The positive and the negative numbers, without 0 and, where a relation says so, with it.
_HALF_OF_REALS = re.compile(r"(?:\\mathbb\{?R\}?|\\R|\\Reals)(?:[\^_]\{?([+-])\}?|_\{([<>≤≥])0\})")
_REVERSED = re.compile(r"\][^\[\]()]+[\[\])]|[(\[][^\[\]()]+\[")
_WITHOUT = re.compile(r"(?:\\mathbb\{?R\}?|\\R|\(-\\infty,\\infty\))(?:\\setminus|\\backslash|-)\\\{([^{}]+)\\\}")
_BARE_RELATION = re.compile(r"\s*(\\le|\\ge|\\ne|\\sim|<|>)(?![A-Za-z])\s*(?=\S)")
_SPACES = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[,;:! ]|\\quad|~")
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textrm)\{\s*,?\s*([a-z]+)\s*\}")
_MINUS, _PLUS = r"-\infty", r"\infty"


@dataclass(frozen=True)
class Interval:
    """Ends as written, and whether they belong to it."""

    low: str
    low_closed: bool
    high: str
    high_closed: bool


@dataclass(frozen=True)
class RealSet:
    """A union of intervals; ``variable`` where the answer names one, ``is_named`` where nothing but a set is meant."""

    intervals: tuple[Interval, ...]
    variable: str | None = None
    is_inequality: bool = False
    is_named: bool = False

    @property
    def is_stated(self) -> bool:
        """Whether it says of a variable where it lies; bare brackets may be a point."""
        return self.is_inequality or self.is_named or self.variable is not None


def bare_relation(text: str) -> tuple[str, str] | None:
    r"""The sign that an answer in one typography begins with (``\\ge 5``), and what follows; None for others."""
    match = _BARE_RELATION.match(text)
    return None if match is None else (match[1], text[match.end() :])


def real_set(text: str) -> RealSet | None:
    """The set that an answer in one typography says; None for anything that is clearly none."""
    if len(text) > 400:
        return None
    text = _SIGN.sub(lambda match: _SIGNS[match[1]], _TEXT.sub(r" \1 ", _SPACES.sub(" ", text))).strip().rstrip(".")
    squeezed = re.sub(r"\s+", "", text)
    member = _MEMBER.fullmatch(squeezed)
    if member is not None and not _RELATION.search(squeezed):
        found = _intervals(member[2])
        return None if found is None else RealSet(found, member[1])
    builder = _BUILDER.fullmatch(squeezed)
    if builder is not None:
        inner = _inequalities(builder[2])
        return inner if inner is not None and inner.variable == builder[1] else None
    if _RELATION.search(text) and not _HALF_OF_REALS.fullmatch(squeezed):
        return _inequalities(text)
    found = _intervals(squeezed)
    named = "mathbb" in squeezed or _REVERSED.fullmatch(squeezed) is not None
    return None if found is None else RealSet(found, is_named=named)


def equal_sets(first: RealSet, second: RealSet, equal: Callable[[str, str], bool]) -> bool:
    """The same intervals in any order; a variable that both name must be the same."""
    if first.variable and second.variable and first.variable != second.variable:
        return False
    left = list(second.intervals)
    for one in first.intervals:
        same = next((other for other in left if _same(one, other, equal)), None)
        if same is None:
            return False
        left.remove(same)
    return not left


def _same(one: Interval, other: Interval, equal: Callable[[str, str], bool]) -> bool:
    if (one.low_closed, one.high_closed) != (other.low_closed, other.high_closed):
        return False
    ends = ((one.low, other.low), (one.high, other.high))
    return all(a == b or (not {a, b} & {_MINUS, _PLUS} and equal(a, b)) for a, b in ends)


def _intervals(form: str) -> tuple[Interval, ...] | None:
    if _ALL_REALS.fullmatch(form):
        return (Interval(_MINUS, False, _PLUS, False),)
    half = _HALF_OF_REALS.fullmatch(form)
    if half is not None:
        sign = half[1] or half[2]
        closed = sign in "≤≥"
        return (Interval("0", closed, _PLUS, False) if sign in "+>≥" else Interval(_MINUS, False, "0", closed),)
    without = _WITHOUT.fullmatch(form)
    if without is not None:
        return _but(without[1])
    found = []
    for part in re.split(r"∪|(?<=[)\]])U(?=[(\[])", form):
        # ]2, 5[ is how some write (2, 5).
        if len(part) < 5 or part[0] not in "([]" or part[-1] not in ")][":
            return None
        ends = _split_once(part[1:-1])
        if ends is None:
            return None
        found.append(Interval(ends[0], part[0] == "[", ends[1], part[-1] == "]"))
    return tuple(found)


def _but(point: str) -> tuple[Interval, ...]:
    return (Interval(_MINUS, False, point, False), Interval(point, False, _PLUS, False))


def _split_once(inside: str) -> tuple[str, str] | None:
    depth, commas = 0, []
    for position, character in enumerate(inside):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            commas.append(position)
    if len(commas) != 1 or depth:
        return None
    low, high = inside[: commas[0]], inside[commas[0] + 1 :]
    return (low, high.removeprefix("+")) if low and high else None


def _inequalities(text: str) -> RealSet | None:
    found: list[Interval] = []
    variables = set()
    for alternative in _OR.split(text):
        both = [_inequality(part) for part in _AND.split(alternative)]
        known = [one for one in both if one is not None]
        if len(known) != len(both) or len(known) > 2:
            return None
        variables |= {variable for variable, _ in known}
        if len(known) == 2:
            joined = _joined(known[0][1], known[1][1])
            if joined is None:
                return None
            found.append(joined)
        else:
            found += known[0][1]
    return RealSet(tuple(found), variables.pop(), is_inequality=True) if len(variables) == 1 else None


def _joined(first: tuple[Interval, ...], second: tuple[Interval, ...]) -> Interval | None:
    """The part that a ray up and a ray down have in common; None for other pairs."""
    if len(first) != 1 or len(second) != 1:
        return None
    up, down = (first[0], second[0]) if first[0].high == _PLUS else (second[0], first[0])
    if up.high != _PLUS or down.low != _MINUS or up.low == _MINUS or down.high == _PLUS:
        return None
    return Interval(up.low, up.low_closed, down.high, down.high_closed)


def _inequality(text: str) -> tuple[str, tuple[Interval, ...]] | None:
    parts = _RELATION.split(re.sub(r"\s+", "", text).strip(","))
    if len(parts) == 3:
        return _ray(*parts)
    if len(parts) != 5 or not re.fullmatch(_VARIABLE, parts[2]) or not parts[0] or not parts[4]:
        return None
    low, first, variable, second, high = parts
    if first in ">≥" and second in ">≥":
        low, first, second, high = high, second, first, low
    elif not (first in "<≤" and second in "<≤"):
        return None
    return variable, (Interval(low, first in "≤≥", high, second in "≤≥"),)


def _ray(left: str, relation: str, right: str) -> tuple[str, tuple[Interval, ...]] | None:
    if re.fullmatch(_VARIABLE, right) and left and not re.fullmatch(_VARIABLE, left):
        flipped = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
        left, relation, right = right, flipped.get(relation, relation), left
    size = re.fullmatch(rf"\|({_VARIABLE})\|", left)
    if size is not None and right and relation in "<≤>≥":
        low = f"-({right})" if re.search(r"[+-]", right) else f"-{right}"
        closed = relation in "≤≥"
        if relation in "<≤":
            return size[1], (Interval(low, closed, right, closed),)
        return size[1], (Interval(_MINUS, False, low, closed), Interval(right, closed, _PLUS, False))
    if not re.fullmatch(_VARIABLE, left) or not right:
        return None
    if relation == "≠":
        return left, _but(right)
    closed = relation in "≤≥"
    if relation in "<≤":
        return left, (Interval(_MINUS, False, right, closed),)
    return left, (Interval(right, closed, _PLUS, False),)

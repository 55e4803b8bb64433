r"""Lists and sums that go on by an ellipsis: they are equal by what is written, not by algebra."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from masa.rewards.verifiers.forms.numerals import numeral

_ELLIPSIS = re.compile(r"\\(?:[lc]?dots|dotsb|dotsc|ddots|vdots)(?![A-Za-z])|\.{3,}")
_MARK = "…"


def has_ellipsis(text: str) -> bool:
    return bool(_ELLIPSIS.search(text))


def spelled_ellipses(text: str) -> str:
    """The text with every ellipsis as a command: three points at the end of a form would end a sentence."""
    return _ELLIPSIS.sub(r"\\ldots ", text)


def equal_sequences(first: str, second: str, equal: Callable[[str, str], bool]) -> bool:
    """Whether two written forms, at least one with an ellipsis, give the same list or sum.

    The terms after the ellipsis must be the same, and those before it, where one side may write out more of an
    arithmetic progression than the other (``1, 2, ..., n`` and ``1, 2, 3, ..., n``).
    """
    first, second = (_ELLIPSIS.sub(_MARK, form) for form in (first, second))
    if first == second:
        return True
    if first.count(_MARK) != 1 or second.count(_MARK) != 1:
        return False
    ours, theirs = _parts(first), _parts(second)
    if ours is None or theirs is None or ours[0] != theirs[0]:
        return False
    (_, head, tail), (_, other_head, other_tail) = ours, theirs
    return _all_equal(tail, other_tail, equal) and _same_start(head, other_head, equal)


def _parts(form: str) -> tuple[str, list[str], list[str]] | None:
    """Separator and brackets, the terms before the ellipsis, and those after it."""
    opening, closing = "", ""
    for one, other in ((r"\{", r"\}"), ("{", "}"), ("(", ")"), ("[", "]")):
        if form.startswith(one) and form.endswith(other):
            form, opening, closing = form[len(one) : -len(other)], one[-1], other[-1]
            break
    separator = next((sign for sign in (",", "+") if sign in form), None)
    if separator is None:
        return None
    before, _, after = form.partition(_MARK)
    if (before and not before.endswith(separator)) or (after and not after.startswith(separator)):
        return None
    head, tail = ([term for term in part.strip(separator).split(separator) if term] for part in (before, after))
    # A set and a bare list are written for one another; a point is neither.
    brackets = "" if opening + closing == "{}" else opening + closing
    return separator + brackets, head, tail


def _all_equal(ours: Sequence[str], theirs: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    return len(ours) == len(theirs) and all(equal(one, other) for one, other in zip(ours, theirs, strict=True))


def _same_start(ours: Sequence[str], theirs: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    short, long = sorted((ours, theirs), key=len)
    if not _all_equal(short, long[: len(short)], equal):
        return False
    if len(short) == len(long):
        return True
    values = [numeral(term) for term in long]
    known = [value.value for value in values if value is not None]
    steps = {later - earlier for earlier, later in pairwise(known)}
    return len(short) >= 2 and len(known) == len(values) and len(steps) == 1

r"""What is written with a colon: ratios such as ``2:3`` and ``1:2:3``, and times of day such as ``8:30 a.m.``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from masa.rewards.verifiers.forms.numerals import numeral

# A form with one of these says something of a variable, or is a list.
_NOT_IN_RATIOS = re.compile(r"[=<>|,;!]|\\(?:le|ge|ne|in|to|mid|rightarrow|ldots|cdots)(?![A-Za-z])")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_TO = re.compile(r"(?<=\d)(?:\{to\}|to)(?=\d)")
_HALF = r"[ap]\s*\.?\s*m\s*\.?|noon|midnight"
_CLOCK = re.compile(
    r"(?P<hour>\d{1,2})(?:\s*:\s*(?P<minute>[0-5]\d))?(?:\s|\\[,;: ]|~)*(?:\\(?:text|mathrm|textrm)\s*\{)?\s*"
    rf"(?P<half>{_HALF})?\s*\}}?\s*\.?",
    re.IGNORECASE,
)
_HALVES = {"am": 0, "midnight": 0, "pm": 12, "noon": 12}
_HOURS_OF_A_DAY = 24


@dataclass(frozen=True)
class Clock:
    """A time of day; ``half`` is the hour that its half of the day begins with, None where it names none."""

    hour: int
    minute: int
    half: int | None

    def equals(self, other: Clock) -> bool:
        """The same minute of the day; where only one side names the half, it is understood."""
        if (self.half is None) == (other.half is None):
            return self == other
        named, plain = (self, other) if other.half is None else (other, self)
        hours = named.hour % 12 + (named.half or 0)
        return plain.minute == named.minute and plain.hour in (named.hour, hours)


def clock(answer: str) -> Clock | None:
    """The time that an answer names with a half of the day; without one, ``8:30`` may be a ratio and ``8`` a number."""
    match = _CLOCK.fullmatch(answer.strip())
    if match is None or not (match["half"] or match["minute"]) or int(match["hour"]) > _HOURS_OF_A_DAY:
        return None
    half = re.sub(r"[\s.]", "", match["half"]).lower() if match["half"] else None
    return Clock(int(match["hour"]), int(match["minute"] or 0), None if half is None else _HALVES[half])


def equal_times(first: str, second: str) -> bool | None:
    """The verdict where a side names a half of the day; None elsewhere."""
    one, other = clock(first), clock(second)
    if not any(time is not None and time.half is not None for time in (one, other)):
        return None
    if one is None or other is None:
        # 5 p.m. of somebody who is asked for the hour.
        named, plain = (one, second) if one is not None else (other, first)
        whole = named is not None and named.minute == 0 and plain.strip().isdigit()
        return whole and named is not None and int(plain) == named.hour
    return one.equals(other)


def in_colons(form: str) -> str:
    """``2 to 3`` as ``2:3``; of an answer's written form, which has no spaces."""
    return _TO.sub(":", form)


def ratio_parts(form: str) -> tuple[str, ...] | None:
    r"""The parts of a ratio in its written form (``\sqrt{2}:1``); None for anything else, such as words and a colon."""
    if ":" not in form or _NOT_IN_RATIOS.search(form):
        return None
    parts, depth = [""], 0
    for character in form:
        depth += (character in "([{") - (character in ")]}")
        if character == ":" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    known = all(part and not re.search(r"[A-Za-z]{2}", _COMMAND.sub(" ", part)) for part in parts)
    return tuple(parts) if known and depth == 0 and len(parts) > 1 else None


def equal_ratios(first: Sequence[str], second: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    """Whether two ratios are the same proportion. What may be a time (``8:34``) is not reduced: it is no 4:17."""
    if len(first) != len(second):
        return False
    ours, theirs = _values(first), _values(second)
    if ours is None or theirs is None:
        return all(
            equal(rf"\frac{{{one}}}{{{first[0]}}}", rf"\frac{{{other}}}{{{second[0]}}}")
            for one, other in zip(first[1:], second[1:], strict=True)
        )
    if _is_time(first) and _is_time(second):
        return ours == theirs
    return all(one * theirs[0] == other * ours[0] for one, other in zip(ours, theirs, strict=True))


def _values(parts: Sequence[str]) -> list[Fraction] | None:
    values = [numeral(part) for part in parts]
    known = [one.value for one in values if one is not None and one.value]
    return known if len(known) == len(values) else None


def _is_time(parts: Sequence[str]) -> bool:
    hours, *smaller = parts
    return hours.isdigit() and int(hours) <= _HOURS_OF_A_DAY and all(re.fullmatch(r"[0-5]\d", one) for one in smaller)

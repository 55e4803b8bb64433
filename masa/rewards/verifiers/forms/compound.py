r"""Quantities in several units: ``5 \text{ feet } 6 \text{ inches}``, ``1 hour and 30 minutes``, ``30^\circ 15'``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from masa.rewards.verifiers.forms.units import Dimensions, Unit, read_unit

_WRAPPED = re.compile(r"\\(?:text|textrm|mathrm|mbox|rm|textnormal)\s*\{([^{}]*)\}")
_PRIMES = r"\^\s*\{?\s*\\prime\s*\\prime\s*\}?|''|″|\"|\^\s*\{?\s*\\prime\s*\}?|'|′"
_DEGREE = r"\^\s*\{?\s*\\circ\s*\}?|\\degree|°"
_PIECE = re.compile(
    rf"(?:\s|\\[,;: ]|~|,|and\b)*(?P<number>\d+(?:\.\d+)?)(?:\s|\\[,;: ]|~)*(?:(?P<sign>{_PRIMES}|{_DEGREE})"
    r"|(?P<word>[A-Za-z]+)\.?)"
)
_ANY_DEGREE = re.compile(_DEGREE)
_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class Compound:
    """The sum in base units of ``dimensions``, and the units that it is written in, the largest first."""

    total: Fraction
    dimensions: Dimensions
    units: tuple[Unit, ...]


def compound(answer: str) -> Compound | None:
    """A sum of two or more quantities, each in a smaller unit of the same kind; None for anything else."""
    if len(answer) > _MOST_CHARACTERS:
        return None
    text = _WRAPPED.sub(r" \1 ", answer).strip().rstrip(".")
    of_angle = _ANY_DEGREE.search(text) is not None
    pieces: list[tuple[Fraction, Unit]] = []
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        unit = None if match is None else read_unit(_named(match["sign"], of_angle) if match["sign"] else match["word"])
        if match is None or unit is None:
            return None
        pieces.append((Fraction(match["number"]), unit))
        position = match.end()
    units = tuple(unit for _, unit in pieces)
    falling = all(one.factor > other.factor for one, other in pairwise(units))
    if len(units) < 2 or not falling or len({unit.dimensions for unit in units}) != 1:
        return None
    return Compound(sum((value * unit.factor for value, unit in pieces), Fraction()), units[0].dimensions, units)


def _named(sign: str, of_angle: bool) -> str:
    if _ANY_DEGREE.fullmatch(sign):
        return "degree"
    twice = sign in ("''", '"', "″") or sign.count("prime") == 2
    if of_angle:
        return "arcsecond" if twice else "arcminute"
    return "inch" if twice else "foot"

r"""Congruences: ``x \equiv 3 \pmod{7}``, ``3 (mod 7)``, ``10 mod 7``; math-verify drops what follows ``\pmod``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MOD = (
    r"(?:\\pmod|\\pod|\\mod|\\bmod|\\text\s*\{\s*mod\s*\}|\\(?:operatorname|mathrm)\s*\{\s*mod\s*\}|(?<![A-Za-z\\])mod)"
)
_CONGRUENCE = re.compile(
    rf"(?:(?P<variable>[A-Za-z]\w?)\s*(?:\\equiv|≡|=)\s*)?(?P<residues>.+?)(?:\\[,;: ]|\\q?quad|\s|~)*"
    rf"\(?\s*{_MOD}\s*\{{?\s*(?P<modulus>\d{{1,30}})\s*\}}?\s*\)?\s*\.?"
)
_INTEGER = re.compile(r"[+-]?\d{1,30}")
# A congruence is short; the pattern's cost grows with the cube of a run of spaces.
_MOST_CHARACTERS = 200
_BETWEEN_RESIDUES = re.compile(r"\s*(?:,|\\text\s*\{\s*(?:and|or)\s*\}|(?<![A-Za-z])(?:and|or)(?![A-Za-z]))\s*")


@dataclass(frozen=True)
class Congruence:
    """The residues that an answer names, each from 0 to ``modulus`` - 1."""

    modulus: int
    residues: frozenset[int]


def congruence(answer: str) -> Congruence | None:
    """The congruence that an answer states with numbers alone; None for anything else."""
    match = _match(answer)
    if match is None or int(match["modulus"]) == 0:
        return None
    named = [one for one in _BETWEEN_RESIDUES.split(match["residues"]) if one]
    if not named or not all(_INTEGER.fullmatch(one) for one in named):
        return None
    modulus = int(match["modulus"])
    return Congruence(modulus, frozenset(int(one) % modulus for one in named))


def without_modulus(answer: str) -> str:
    """What a congruence says is congruent: where one side alone names the modulus, it is understood."""
    match = _match(answer)
    return answer if match is None else match["residues"]


def _match(answer: str) -> re.Match[str] | None:
    text = answer.strip()
    return _CONGRUENCE.fullmatch(text) if "mod" in text and len(text) <= _MOST_CHARACTERS else None

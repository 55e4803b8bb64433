r"""Values given by name: ``x = 1, y = 2``, ``(x, y) = (1, 2)``, ``2 \text{ apples}, 3 \text{ pears}``.

A point matches them in the order of their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from masa.rewards.verifiers.answer_forms import split_entries
from masa.rewards.verifiers.forms.units import read_unit

_NAME = r"(?:[A-Za-z]|\\(?:theta|alpha|beta|gamma|lambda|mu|phi|omega))(?:_(?:\w|\{\w+\}))?"
_ONE = re.compile(rf"({_NAME})=([^=<>]+)")
_TOGETHER = re.compile(rf"\(({_NAME}(?:,{_NAME})+)\)=\((.+)\)")

_WRAPPED = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s*\{([^{}]*)\}")
_COUNTED = re.compile(r"(\d+)(?:\s|\\[,; ]|~)+([A-Za-z]{3,})")
_BETWEEN = re.compile(r"\s*(?:,\s*and\b|,|\band\b)\s*")


def assignments(form: str) -> Mapping[str, str] | None:
    """The values by name of a written form that names two or more, each once; None for anything else."""
    together = _TOGETHER.fullmatch(form)
    if together is not None:
        names, values = together[1].split(","), split_entries(together[2])
        if values is None or len(values) != len(names) or len(set(names)) != len(names):
            return None
        return dict(zip(names, values, strict=True))
    matches = [_ONE.fullmatch(entry) for entry in split_entries(form) or ()]
    found = {match[1]: match[2] for match in matches if match is not None}
    return found if len(found) == len(matches) >= 2 else None


def counts(answer: str) -> Mapping[str, str] | None:
    """How many there are of each of two things or more, none of them a unit; None for anything else."""
    matches = [_COUNTED.fullmatch(part) for part in _BETWEEN.split(_WRAPPED.sub(r" \1 ", answer).strip(" ."))]
    found = {match[2].lower().removesuffix("s"): match[1] for match in matches if match is not None}
    return found if len(found) == len(matches) >= 2 and not any(map(read_unit, found)) else None


def equal_values(named: Mapping[str, str], entries: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    """Whether the entries of a point or a list are the named values, in the order of the names' letters.

    Names that are no single letters have the order they are written in.
    """
    letters = all(len(name) == 1 for name in named)
    values = [named[name] for name in (sorted(named) if letters else named)]
    return len(values) == len(entries) and all(equal(a, b) for a, b in zip(values, entries, strict=True))


def equal_assignments(first: Mapping[str, str], second: Mapping[str, str], equal: Callable[[str, str], bool]) -> bool:
    """Whether the same names have the same values."""
    return first.keys() == second.keys() and all(equal(value, second[name]) for name, value in first.items())

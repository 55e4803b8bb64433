r"""Words in answers: numbers that are spelled, and what makes another answer of the number beside it."""

from __future__ import annotations

import re

_ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {
    **{word: number for number, word in enumerate(_ONES)},
    **{ten: 20 + 10 * n for n, ten in enumerate(_TENS)},
    **{f"{ten}-{one}": 20 + 10 * n + m for n, ten in enumerate(_TENS) for m, one in enumerate(_ONES[1:10], 1)},
    "one hundred": 100,
    "one thousand": 1000,
}
_LONGEST = 60
_WRAPPED = re.compile(r"\\(?:text|textrm|textbf|mbox|mathrm)\s*\{([^{}]*)\}")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")
_QUALIFIERS = frozenset(
    ("not", "nor", "but", "than", "least", "most", "except", "maybe", "perhaps", "neither", "either", "unless")
)
# An alternative in words, or one in brackets; "x = 1 or x = 2" is a list.
_ALTERNATIVE = re.compile(r"(?<![\\A-Za-z])or\s+[A-Za-z]{3,}|\(\s*or(?![A-Za-z])", re.IGNORECASE)


def spelled_number(text: str) -> str:
    r"""An answer that is one number in words (``\text{three}``) in digits; any other as it is."""
    if len(text) > _LONGEST:
        return text
    plain = re.sub(r"[\s\-]+", " ", _WRAPPED.sub(r"\1", text)).strip().rstrip(".").lower()
    number = _NUMBERS.get(plain, _NUMBERS.get(plain.replace(" ", "-")))
    return text if number is None else str(number)


def is_qualified(answer: str) -> bool:
    """Whether words beside a number make it another answer: ``5 or more``, ``at least 5``, ``5 (or 6)``, ``not 5``."""
    plain = _WRAPPED.sub(r" \1 ", answer)
    return bool(_ALTERNATIVE.search(plain)) or not _QUALIFIERS.isdisjoint(_WORD.findall(plain.lower()))

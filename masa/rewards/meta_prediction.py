"""Read a meta-prediction (l_pred, d_pred, n_pred of the paper) out of what the policy wrote."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from masa.rewards.json_objects import BareNumber, last_object

Field = Literal["notions", "pass_rate", "length"]

# A prediction is a handful of short names; more than this is an attempt to cover everything.
MAX_NOTIONS = 64
MAX_NOTION_CHARACTERS = 200
# Where no limit is given, a length that no context window holds is still out of range.
MAX_LENGTH = 10_000_000

_CLOSING_TAG = re.compile(r"</\s*meta\s*>", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_FRACTION = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:/|out of)\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
_LENGTH = re.compile(r"(?:~|≈|about)?\s*(.+?)\s*(?:tokens?)?", re.IGNORECASE | re.DOTALL)
_GROUPED_DIGITS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d*)?")
# Longer digit strings are no rate and no length, and Python refuses to read very long ones.
_MAX_NUMBER_CHARACTERS = 40


@dataclass(frozen=True)
class MetaKeys:
    """The JSON keys of each field, in order of preference; the defaults know ours and the authors'.

    Keys are compared without regard to case, and with spaces and hyphens read as underscores.
    """

    notions: tuple[str, ...] = ("notions", "math_notion", "notion", "math_notions")
    pass_rate: tuple[str, ...] = ("pass_rate",)
    length: tuple[str, ...] = ("solution_length", "length")


@dataclass(frozen=True)
class MetaPrediction:
    """One parsed meta-prediction; a field that was not found, or not readable, is None.

    ``pass_rate`` is a fraction of one, ``length`` counts tokens. ``found`` names the fields that hold a value.
    """

    notions: tuple[str, ...] | None = None
    pass_rate: float | None = None
    length: int | None = None

    @property
    def found(self) -> tuple[Field, ...]:
        fields: tuple[Field, ...] = ("notions", "pass_rate", "length")
        return tuple(field for field in fields if getattr(self, field) is not None)

    @property
    def parsed(self) -> bool:
        """Whether any field was found; the reward of a prediction that is not parsed is 0."""
        return bool(self.found)

    @property
    def complete(self) -> bool:
        return len(self.found) == 3


def parse_meta_prediction(
    text: str,
    keys: MetaKeys | None = None,
    pass_rate_total: int = 8,
    max_length: int | None = None,
) -> MetaPrediction:
    """The prediction in the last well-formed JSON object after the last ``</meta>``, or in ``text`` without that tag.

    Never raises for any ``text``. How a pass rate is read (the prompt asks for an integer out of ``pass_rate_total``):
    ``6/8`` and ``6 out of 8`` are the fraction they say, ``75%`` is 0.75, a number strictly between 0 and 1 is the rate
    itself (0.75), and any other number is a count out of ``pass_rate_total`` (6 is 6/8, and 1 or 1.0 is 1/8). A length
    is a positive number of tokens, at most ``max_length`` where that is given, rounded to an integer. A notion list
    drops what is not a non-empty string; a string is split at its commas. Non-finite, negative and out-of-range values
    count as not found.

    Raises:
        ValueError: ``pass_rate_total`` below 1 (a mistake in the call, whatever the text).
    """
    if pass_rate_total < 1:
        raise ValueError(f"pass_rate_total is {pass_rate_total}, at least 1 needed")
    keys = keys or MetaKeys()
    closing_tags = list(_CLOSING_TAG.finditer(text))
    found = last_object(text[closing_tags[-1].end() :] if closing_tags else text)
    if found is None:
        return MetaPrediction()
    values = {_plain_key(key): value for key, value in found.items()}
    return MetaPrediction(
        notions=_read_notions(_first_value(values, keys.notions)),
        pass_rate=_read_pass_rate(_first_value(values, keys.pass_rate), pass_rate_total),
        length=_read_length(_first_value(values, keys.length), max_length or MAX_LENGTH),
    )


def _plain_key(key: str) -> str:
    return re.sub(r"[\s\-]+", "_", key.strip().lower())


def _first_value(values: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((values[_plain_key(key)] for key in keys if _plain_key(key) in values), None)


def _read_notions(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        candidates: list[Any] = value.split(",")
    elif isinstance(value, list):
        candidates = value
    else:
        return None
    names = [" ".join(candidate.split()) for candidate in candidates if isinstance(candidate, str)]
    kept = dict.fromkeys(name for name in names if 0 < len(name) <= MAX_NOTION_CHARACTERS)
    return tuple(kept)[:MAX_NOTIONS]


def _written(value: Any) -> str | None:
    """The characters of a number, whether it stood in quotes or not."""
    if isinstance(value, BareNumber):
        return value.text.strip()
    return value.strip() if isinstance(value, str) else None


def _read_number(written: str) -> float | None:
    if len(written) > _MAX_NUMBER_CHARACTERS or not written.isascii() or not _NUMBER.fullmatch(written):
        return None
    number = float(written)
    return number if math.isfinite(number) and number >= 0 else None


def _read_pass_rate(value: Any, total: int) -> float | None:
    written = _written(value)
    if written is None:
        return None
    if fraction := _FRACTION.fullmatch(written):
        above, below = _read_number(fraction[1]), _read_number(fraction[2])
        rate = above / below if above is not None and below else None
    elif written.endswith("%"):
        percent = _read_number(written[:-1].rstrip())
        rate = None if percent is None else percent / 100
    else:
        number = _read_number(written)
        rate = number if number is None or 0 < number < 1 else number / total
    return rate if rate is not None and rate <= 1 else None


def _read_length(value: Any, limit: int) -> int | None:
    written = _written(value)
    if written is None:
        return None
    match = _LENGTH.fullmatch(written[:_MAX_NUMBER_CHARACTERS])
    digits = match[1] if match else ""
    if _GROUPED_DIGITS.fullmatch(digits):
        digits = digits.replace(",", "")
    number = _read_number(digits)
    length = 0 if number is None or number > limit else round(number)
    return length if length >= 1 else None

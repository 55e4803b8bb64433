"""Replace the predicted numbers in a meta-prediction by measured ones, keeping every other token.

An expert's tokens are the policy's own wherever they can be: a text that is tokenised afresh may fall into other
tokens than the policy wrote, and cloning those would teach it a spelling instead of a prediction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.rewards.meta_prediction import MetaPrediction

_CLOSING_TAG = re.compile(r"</\s*meta\s*>", re.IGNORECASE)
# A quoted value, digits grouped by commas, or whatever stands before the next comma or bracket.
_VALUE = r"""(?P<value>"[^"]*"|'[^']*'|\d{1,3}(?:,\d{3})+(?=\s*[,}])|[^\s,}\]][^,}\]\n]*?)(?=\s*[,}\n])"""

Span = tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """What the solutions showed: a count of correct ones out of ``pass_rate_total``, and a length in tokens.

    ``length`` is None where no solution was correct; the predicted length then stays as it is.
    """

    pass_rate: int
    length: int | None


class Splicer:
    """Rewrites token ids of meta-predictions.

    Args:
        tokenizer: the policy's.
        parse: reads a prediction out of a text, as rewards do.
        keys: the JSON keys of ``pass_rate`` and of ``length``, in order of preference.
        pass_rate_total: what pass rates are counted out of.
    """

    def __init__(
        self,
        tokenizer: Any,
        parse: Callable[[str], MetaPrediction],
        keys: Mapping[str, Sequence[str]],
        pass_rate_total: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._parse = parse
        self._keys = keys
        self._total = pass_rate_total

    def splice(self, token_ids: Sequence[int], measured: Measured) -> tuple[int, ...] | None:
        """The ids with both numbers replaced; None where that cannot be done and proven by decoding.

        Proven means: the new ids decode to the old text with nothing but the numbers replaced, and reading that text
        gives the measured values and the old notions.
        """
        text = self._decode(token_ids)
        values = {"pass_rate": str(measured.pass_rate)}
        if measured.length is not None:
            values["length"] = str(measured.length)
        edits = []
        for field, value in values.items():
            span = value_span(text, self._keys[field])
            if span is None:
                return None
            edits.append((span, value))
        new_text, new_ids = text, list(token_ids)
        for span, value in sorted(edits, reverse=True):  # from the end, so that earlier spans stay where they are
            new_ids = self._replace(new_ids, new_text, span, value)
            new_text = new_text[: span[0]] + value + new_text[span[1] :]
        if self._decode(new_ids) != new_text or not self._says(new_ids, token_ids, measured):
            return None
        return tuple(new_ids)

    def _replace(self, ids: list[int], text: str, span: Span, value: str) -> list[int]:
        """Only tokens that hold a part of the value are tokenised again, together with what else they hold."""
        first = self._tokens_within(ids, span[0])
        last = first
        while last < len(ids) and len(self._decode(ids[:last])) < span[1]:
            last += 1
        start, end = len(self._decode(ids[:first])), len(self._decode(ids[:last]))
        between = text[start : span[0]] + value + text[span[1] : end]
        return [*ids[:first], *self._tokenizer.encode(between, add_special_tokens=False), *ids[last:]]

    def _tokens_within(self, ids: Sequence[int], characters: int) -> int:
        """The largest number of leading tokens whose text has at most ``characters`` characters."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._decode(ids[:middle])) <= characters:
                low = middle
            else:
                high = middle - 1
        return low

    def _says(self, new: Sequence[int], old: Sequence[int], measured: Measured) -> bool:
        said, before = (self._parse(self._decode(ids, skip_special=True)) for ids in (new, old))
        rate_is_right = said.pass_rate == measured.pass_rate / self._total
        length_is_right = said.length == (before.length if measured.length is None else measured.length)
        return rate_is_right and length_is_right and said.notions == before.notions

    def _decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
        )
        return text


def value_span(text: str, keys: Sequence[str]) -> Span | None:
    """Where the value of the first key that occurs stands: the last occurrence after the last ``</meta>``."""
    tags = list(_CLOSING_TAG.finditer(text))
    start = tags[-1].end() if tags else 0
    for key in keys:
        words = r"[\s_\-]+".join(map(re.escape, re.split(r"[\s_\-]+", key.strip())))
        pattern = re.compile(rf"""["']\s*{words}\s*["']\s*:\s*{_VALUE}""", re.IGNORECASE)
        found = list(pattern.finditer(text, start))
        if found:
            return found[-1].span("value")
    return None

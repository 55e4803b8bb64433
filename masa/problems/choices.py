"""Multiple choice: options in the forms that data sets give them, and the letter of the right one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from masa.problems.errors import RowError, shown

LETTERS = "ABCDEFGHIJ"
_LETTERED = re.compile(r"\s*\(?([A-J])\s*[).:]\s*(.*)", re.DOTALL)
_LETTER_ANSWER = re.compile(r"\s*\(?([A-Ja-j])(?:\s*[).:].*)?\s*", re.DOTALL)


@dataclass(frozen=True)
class Options:
    """The options' texts in their order, and the labels that the row itself gives them (letters or numbers)."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


def read_options(raw: Any) -> Options:
    """Options out of a list of texts (``"A) True"`` or bare), a mapping of letters, or ``{"label": [], "text": []}``.

    A text is read as JSON, since csv has no lists.

    Raises:
        RowError: options of another shape, fewer than two, or more than ten.
    """
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError:
            raise RowError(f"the options are {shown(raw)}, a list of texts is needed") from None
    labels: list[Any] = []
    if isinstance(raw, Mapping) and isinstance(raw.get("text"), list) and isinstance(raw.get("label"), list):
        labels, raw = raw["label"], raw["text"]
    elif isinstance(raw, Mapping):
        labels, raw = list(raw), list(raw.values())
    if not isinstance(raw, list) or not all(isinstance(text, str | int | float) for text in raw):
        raise RowError(f"the options are {shown(raw)}, a list of texts is needed")
    if not 2 <= len(raw) <= len(LETTERS):
        raise RowError(f"{len(raw)} options found, 2 to {len(LETTERS)} are allowed")
    texts = [str(text) for text in raw]
    if not labels:
        split = [_LETTERED.fullmatch(text) for text in texts]
        if all(match and match[1] == letter for match, letter in zip(split, LETTERS, strict=False)):
            texts = [match[2] for match in split if match]
        labels = list(LETTERS[: len(texts)])
    if len(labels) != len(texts):
        raise RowError(f"{len(texts)} options found with {len(labels)} labels")
    return Options(tuple(text.strip() for text in texts), tuple(str(label).strip() for label in labels))


def letter_of(answer: Any, options: Options | None) -> str:
    """The letter of the right option: the answer may be its letter, its label, or its text.

    Raises:
        RowError: an answer that is none of the options.
    """
    text = str(answer).strip()
    if options is None:
        if match := _LETTER_ANSWER.fullmatch(text):
            return match[1].upper()
        raise RowError(f"the answer is {shown(answer)}, a letter from A to J is needed")
    if text in options.labels:
        return LETTERS[options.labels.index(text)]
    if options.texts.count(text) == 1:
        return LETTERS[options.texts.index(text)]
    if (match := _LETTER_ANSWER.fullmatch(text)) and match[1].upper() in LETTERS[: len(options.texts)]:
        return match[1].upper()
    raise RowError(
        f"the answer is {shown(answer)}, which is none of the options A to {LETTERS[len(options.texts) - 1]}"
    )


def choice_statement(context: str, question: str, options: Options) -> str:
    """Context, question and lettered options as one statement."""
    lettered = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, options.texts, strict=False))
    parts = [context.strip(), question.strip(), lettered]
    return "\n\n".join(part for part in parts if part)

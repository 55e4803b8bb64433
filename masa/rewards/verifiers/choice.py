"""Multiple choice: letters A to J, with or without the text of the option."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from masa.rewards.verdict import Judgement
from masa.rewards.verifiers import Limits
from masa.rewards.verifiers.boxed import last_boxed

LETTERS = "ABCDEFGHIJ"

# "B", "(b)", "B.", "B) Paris", "B: Paris", "Option B"; a letter that begins a word or a sentence is none.
_LABELLED = re.compile(
    r"(?:option|choice|answer)?\s*:?\s*[(\[]?\s*([A-Ja-j])\s*(?:$|[)\].:,;]+(?:\s|$).*)", re.IGNORECASE | re.DOTALL
)
_ANSWER = re.compile(r"(?:answer|option|choice)\b(?:\s+(?:is|would be|must be))?\s*:?[ \t]*", re.IGNORECASE)
_STATEMENT_CHARACTERS = 200
_LONE_LETTER = re.compile(r"^\W*([A-J])\W*$", re.MULTILINE)
_LABEL = re.compile(r"^\s*[(\[]?([A-Ja-j])[)\].:]\s*")
_MARKUP = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\s*\{([^{}]*)\}|[*$`]+")


def verify_choice(response: str, answer: Any, options: Any, limits: Limits) -> Judgement:
    r"""Correct when the response settles on the gold letter.

    Read from the last ``\boxed{}``; else from what follows the last ``answer is``, ``answer:``, ``option`` or
    ``choice``; else from the last line that is a letter alone. There the answer may be a letter (``B``, ``(b)``,
    ``B. Paris``) or, where ``options`` gives the texts (a list in the order of the letters, or a mapping from letter to
    text), the text of an option. The gold answer may be a letter, with or without its text, or an option's text.

    Raises:
        ValueError: the gold answer names no letter and equals no option.
    """
    texts = _option_texts(options)
    gold = _letter(str(answer), texts)
    if gold is None:
        raise ValueError(f"choice answer {answer!r} is neither a letter from A to J nor one of the options")
    found = _read(response, texts)
    return Judgement(float(found == gold), found)


def _read(response: str, texts: Mapping[str, str]) -> str | None:
    boxed = last_boxed(response)
    if boxed is not None:
        return _letter(boxed, texts)
    for match in reversed(list(_ANSWER.finditer(response))):
        statement = response[match.end() : match.end() + _STATEMENT_CHARACTERS].partition("\n")[0]
        if letter := _letter(statement, texts, prose=True):
            return letter
    lone = _LONE_LETTER.findall(response)
    if lone:
        return str(lone[-1])
    return _letter(response[:300], texts)


def _letter(text: str, texts: Mapping[str, str], prose: bool = False) -> str | None:
    text = _MARKUP.sub(lambda match: match.group(1) or "", text).strip()
    by_text = {value: letter for letter, value in texts.items()}
    if letter := by_text.get(_plain(text)):
        return letter
    match = _LABELLED.fullmatch(text)
    if match and not (prose and match.group(1).islower() and text[:1] not in "(["):
        return match.group(1).upper()
    # "B Paris": only the option's own text may follow a bare letter.
    head, _, rest = text.partition(" ")
    if len(head) == 1 and head.upper() in texts and _plain(rest) == texts[head.upper()]:
        return head.upper()
    return None


def _plain(text: str) -> str:
    return " ".join(_LABEL.sub("", text).split()).rstrip(".").casefold()


def _option_texts(options: Any) -> dict[str, str]:
    if isinstance(options, Mapping):
        return {str(letter).upper(): _plain(str(text)) for letter, text in options.items()}
    if isinstance(options, (list, tuple)):
        return {letter: _plain(str(text)) for letter, text in zip(LETTERS, options, strict=False)}
    return {}

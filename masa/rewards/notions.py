"""Which notions occur in which texts: case-insensitive, on word boundaries, plural or singular.

Text is cut into words (runs of letters and digits); everything else only separates, so that ``AM-GM`` and ``AM–GM``,
``prime-factorization`` and ``prime factorization`` are the same. A notion occurs where all its words follow each other.
Regular plurals are read as their singular on both sides (see ``singular``), or all words as their lemma (see
``word_reader``). In scripts that put no space between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese) every character is a word, so a notion occurs where its characters follow
each other.

Cost: each text is cut once (linear in its characters, whatever the number of notions). A notion of one word then costs
one set lookup per text; a longer one costs a comparison wherever its longest word stands in the text, or one substring
search.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Literal

from masa.config import ConfigError

NotionForm = tuple[str, ...]
NotionMatch = Literal["form", "lemma"]

# First and last code point of the scripts without spaces; what is no letter, digit or mark in them only separates.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # ideographic iteration mark and zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # narrow Katakana
    (0x20000, 0x3FFFF),
)
# A substring search costs a text of 32 KB at most 20 microseconds, the positions of its words 600; up to this many
# notions the searches are the faster way, and so they are where a word stands more often than this in one text.
_MAX_SEARCHES = 100
_MAX_COMPARISONS = 200

_SIBILANT_E = re.compile(r"(?:s|x|z|ch|sh|o)e$")


def singular(word: str) -> str:
    """The form shared by a lower-case word and its regular plural.

    From four letters on: a final ``s`` goes, but not from ``-ss``, ``-us`` and ``-is``; then ``-ie`` becomes ``y``, and
    the ``e`` of ``-se``, ``-xe``, ``-ze``, ``-che``, ``-she`` and ``-oe`` goes. The same steps run on singulars, so
    that size and sizes, box and boxes, movie and movies each meet in one form; that form need not be a word.
    """
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 3:
        if word.endswith("ie"):
            return word[:-2] + "y"
        if _SIBILANT_E.search(word):
            return word[:-1]
    return word


class _Separators(dict[int, int | str]):
    """Maps each character that is neither letter nor digit to a space, and sets those of unspaced scripts apart."""

    def __missing__(self, code: int) -> int | str:
        self[code] = mapped = _separated(code)
        return mapped


def _separated(code: int) -> int | str:
    character = chr(code)
    if any(first <= code <= last for first, last in _UNSPACED):
        # Vowels and tones of Thai and its like are marks, not letters; the words differ by them.
        counts = character.isalnum() or unicodedata.category(character).startswith("M")
        return f" {character} " if counts else " "
    return code if character.isalnum() else ord(" ")


def word_reader(match: NotionMatch) -> Callable[[str], str]:
    """What a lower-case word is compared by: ``singular`` (``form``), or its English lemma (``lemma``).

    Lemmas are those of the package simplemma (a dictionary of inflected forms, and rules for words that it lacks), read
    as their singular in turn; so whatever one form has in common, one lemma has: ``factor``, ``factors``, ``factored``
    and ``factoring`` meet, which matching by form tells apart. Words of other languages mostly stay as they are.

    Raises:
        ConfigError: ``lemma``, and simplemma is not installed.
        ValueError: ``match`` is neither ``form`` nor ``lemma``.
    """
    if match == "form":
        return singular
    if match != "lemma":
        raise ValueError(f"notion match is {match!r}, one of 'form', 'lemma' needed")
    require_lemmatizer(match)
    return _lemma


def require_lemmatizer(match: NotionMatch) -> None:
    """Lemmas are simplemma's.

    Raises:
        ConfigError: notions are to be matched by lemma, and simplemma is not installed.
    """
    if match == "lemma" and find_spec("simplemma") is None:
        raise ConfigError(
            "rewards.notion_match: found 'lemma', allowed without the package simplemma: form; install masa-rl[lemma]"
        )


# The words of a run's texts are many, the frequent ones few.
@lru_cache(maxsize=100_000)
def _lemma(word: str) -> str:
    import simplemma

    return singular(simplemma.lemmatize(word, lang="en").casefold())


class _Forms(dict[str, str]):
    """What each word seen is compared by; the texts of a group share most of their vocabulary."""

    def __init__(self, match: NotionMatch) -> None:
        super().__init__()
        self._read = word_reader(match)

    def __missing__(self, word: str) -> str:
        self[word] = form = self._read(word)
        return form


_SEPARATORS = _Separators()


def _words(text: str, forms: _Forms) -> list[str]:
    return list(map(forms.__getitem__, text.casefold().translate(_SEPARATORS).split()))


def notion_form(notion: str, match: NotionMatch = "form") -> NotionForm:
    """The words that stand for a notion; notions of equal form are the same notion. Empty: nothing to look for.

    Raises:
        ConfigError: as `word_reader`.
    """
    return tuple(_words(notion, _Forms(match)))


def notions_in_texts(
    notions: Iterable[NotionForm], texts: Sequence[str], match: NotionMatch = "form"
) -> list[frozenset[NotionForm]]:
    """For each text, the notions (given by their forms under the same ``match``) that occur in it.

    An empty form occurs in none.

    Raises:
        ConfigError: as `word_reader`.
    """
    wanted = [form for form in dict.fromkeys(notions) if form]
    forms = _Forms(match)
    return [_notions_in_words(wanted, _words(text, forms)) for text in texts]


def _notions_in_words(wanted: list[NotionForm], words: list[str]) -> frozenset[NotionForm]:
    vocabulary = set(words)
    present = [form for form in wanted if vocabulary.issuperset(form)]
    longer = [form for form in present if len(form) > 1]
    found: set[NotionForm] = {form for form in present if len(form) == 1}
    line = f" {' '.join(words)} " if longer else ""
    if len(longer) <= _MAX_SEARCHES:
        return frozenset(found.union(form for form in longer if f" {' '.join(form)} " in line))
    # The longest word of a notion is a cheap guess at its rarest one.
    positions: dict[str, list[int]] = {max(form, key=len): [] for form in longer}
    for position in [index for index, word in enumerate(words) if word in positions]:
        positions[words[position]].append(position)
    for form in longer:
        anchor = max(form, key=len)
        if len(positions[anchor]) > _MAX_COMPARISONS:
            occurs = f" {' '.join(form)} " in line
        else:
            starts = (position - form.index(anchor) for position in positions[anchor])
            occurs = any(start >= 0 and tuple(words[start : start + len(form)]) == form for start in starts)
        if occurs:
            found.add(form)
    return frozenset(found)

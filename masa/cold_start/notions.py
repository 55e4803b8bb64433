"""Notions that a problem's own solutions show: what its correct solutions say and its wrong ones do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from masa.rewards.alignment import NotionCount, SolutionGroup, score_metas
from masa.rewards.meta_prediction import MetaPrediction
from masa.rewards.notions import NotionForm, NotionMatch, notion_form, notions_in_texts

# Words of a single letter or two name variables; digits alone would give the answer away.
_WORD = re.compile(r"[^\W\d_]{3,}")
_BREAK = re.compile(r"[^\w\s]|\n")
# Words that say nothing of how a problem is solved.
_EMPTY = frozenset(Path(__file__).with_name("empty_words.txt").read_text(encoding="utf-8").split())


def telling_notions(group: SolutionGroup, *, most: int, count: NotionCount, match: NotionMatch = "form") -> list[str]:
    """At most ``most`` notions for which r_notion is 1, the most telling first; none where no solution is correct.

    Candidates are words of at least three letters, and two of them side by side; those that the statement holds or
    that say nothing of a method are left out. The most telling have the largest difference between the share of
    correct and the share of wrong solutions that hold them; of equal ones the longer goes first. A notion that is
    part of one taken before, or holds one, is passed over.
    """
    names: dict[NotionForm, str] = {}
    for text in group.correct_texts:
        for name in _candidates(text):
            names.setdefault(notion_form(name, match), name)
    if not names or not most:
        return []
    given = notions_in_texts(names, [group.problem_text], match)[0]
    forms = [form for form in names if form not in given]
    correct = notions_in_texts(forms, group.correct_texts, match)
    wrong = notions_in_texts(forms, group.incorrect_texts, match)
    difference = {form: _share(form, correct) - _share(form, wrong) for form in forms}
    found: list[NotionForm] = []
    for form in sorted(forms, key=lambda one: (-difference[one], -len(" ".join(one)), one)):
        if len(found) == most:
            break
        apart = not any(set(form) & set(other) for other in found)
        if apart and score_metas([MetaPrediction((names[form],))], group, count=count, match=match)[0].notion == 1.0:
            found.append(form)
    return [names[form] for form in found]


def _candidates(text: str) -> Iterator[str]:
    for part in _BREAK.split(text.lower()):
        before = ""
        for piece in part.split():
            word = piece if _WORD.fullmatch(piece) and piece not in _EMPTY else ""
            if word:
                yield word
            if word and before:
                yield f"{before} {word}"
            before = word


def _share(form: NotionForm, texts: Sequence[frozenset[NotionForm]]) -> float:
    return sum(form in text for text in texts) / max(1, len(texts))

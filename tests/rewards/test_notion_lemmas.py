"""Notions that are matched by lemma: what inflection tells apart, and what it does not."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from masa.config.controls import HintingSection
from masa.controls.hinting import rank_notions
from masa.rewards.alignment import notion_reward
from masa.rewards.notions import notion_form, notions_in_texts

pytestmark = pytest.mark.skipif(
    find_spec("simplemma") is None, reason="the package simplemma is not installed (extra lemma)"
)


@pytest.mark.parametrize(
    ("notion", "text"),
    [
        ("factoring", "We factored the quadratic."),
        ("matrix", "Both matrices are invertible."),
        ("prove by induction", "This was proven by induction."),
        ("congruence", "CONGRUENCES modulo 7"),
        ("vertex", "the vertices of the triangle"),
    ],
)
def test_a_notion_is_found_in_another_inflection_by_lemma_alone(notion: str, text: str) -> None:
    def found(match: str) -> bool:
        form = notion_form(notion, match)  # type: ignore[arg-type]
        return form in notions_in_texts([form], [text], match)[0]  # type: ignore[arg-type]

    assert found("lemma")
    # What the rule of regular plurals finds, the lemma finds as well.
    assert found("form") is (notion == "congruence")


@pytest.mark.parametrize(("notion", "text"), [("prime", "a primer"), ("ring", "the string"), ("number", "a numerator")])
def test_a_notion_is_not_found_in_another_word(notion: str, text: str) -> None:
    form = notion_form(notion, "lemma")
    assert not notions_in_texts([form], [text], "lemma")[0]


def test_words_of_other_scripts_are_found_as_by_form() -> None:
    form = notion_form("质因数", "lemma")
    assert form == notion_form("质因数")
    assert form in notions_in_texts([form], ["分解质因数"], "lemma")[0]


def test_the_reward_counts_inflections_only_where_lemmas_are_asked_for() -> None:
    correct, incorrect = ["We factored it.", "By factoring"], ["We guessed."]
    assert notion_reward(["factored"], ["by factoring"], incorrect) == 0.0
    assert notion_reward(["factored"], ["by factoring"], incorrect, match="lemma") == 1.0
    # Two inflections of one notion are one notion: it does not count twice beside one that is wrong.
    assert notion_reward(["factored", "factoring", "sums"], correct, incorrect, match="lemma") == 0.5
    # And a notion that the statement holds in another inflection says nothing new.
    assert notion_reward(["factored"], correct, incorrect, "Factor the number.", match="lemma") == 0.0


def test_inflections_of_a_notion_agree_on_a_hint() -> None:
    predicted = [["factoring"], ["factored"], ["guess"]]
    section = HintingSection(enabled=True, min_agreement=0.5)
    assert rank_notions(predicted, "Solve it.", section) == []
    assert rank_notions(predicted, "Solve it.", section, match="lemma") == ["factoring"]


def test_a_match_that_is_unknown_is_named() -> None:
    with pytest.raises(ValueError, match="'stem', one of 'form', 'lemma' needed"):
        notion_form("factoring", "stem")  # type: ignore[arg-type]

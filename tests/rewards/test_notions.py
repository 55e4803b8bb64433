"""Matching of notions: case, word boundaries, plurals."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.rewards.notions import notion_form, notions_in_texts, singular


def occurs(notion: str, text: str) -> bool:
    return notion_form(notion) in notions_in_texts([notion_form(notion)], [text])[0]


@pytest.mark.parametrize(
    ("notion", "text"),
    [
        ("Pythagorean Theorem", "by the pythagorean theorem, c = 5"),
        ("quadratic formula", "The Quadratic\nFormula gives"),
        ("AM-GM", "use AM–GM here"),
        ("prime factorization", "the prime-factorizations are"),
        ("Vieta's formulas", "Vieta’s formula"),
        ("congruence", "congruences"),
        ("identities", "an identity"),
        ("boxes", "one box"),
        ("box", "two boxes"),
        ("size", "sizes differ"),
        ("classes", "a class"),
        ("matrixes", "matrix"),
        ("zeroes", "a zero"),
        ("x^2", "where x^2 is"),
        ("mean value mean", "a mean mean value mean"),
    ],
)
def test_a_notion_is_found(notion: str, text: str) -> None:
    assert occurs(notion, text)


@pytest.mark.parametrize(
    ("notion", "text"),
    [
        ("sin", "using a single line"),
        ("prime", "primed"),
        ("right triangle", "the triangle on the right"),
        ("basis", "bases"),
        ("gas", "ga"),
        ("modulus", "modulu"),
        ("", "anything"),
        ("???", "what???"),
    ],
)
def test_a_notion_is_not_found(notion: str, text: str) -> None:
    assert not occurs(notion, text)


@pytest.mark.parametrize(
    ("notion", "text"),
    [
        ("勾股定理", "根据勾股定理可得斜边为五"),
        ("二次方程式", "この二次方程式を解くと、"),
        ("ピタゴラスの定理", "ここでピタゴラスの定理を使う。"),
        ("ทฤษฎีบทพีทาโกรัส", "โดยใช้ทฤษฎีบทพีทาโกรัสจะได้"),
        ("中国剩余定理", "用中国剩余定理（CRT）"),
        ("x轴", "与X轴的交点"),
        ("AM-GM不等式", "由AM–GM不等式得"),
        ("ພຶດຊະຄະນິດ", "ໃຊ້ພຶດຊະຄະນິດ"),
    ],
)
def test_a_notion_is_found_inside_text_without_spaces(notion: str, text: str) -> None:
    assert occurs(notion, text)


@pytest.mark.parametrize(
    ("notion", "text"),
    [
        ("勾股定理", "勾股的定理"),
        ("余弦定理", "正弦定理"),
        ("ค่า", "คา"),
        ("か", "が"),
        ("sin", "用single方法"),
        ("、。", "好、。"),
    ],
)
def test_a_notion_of_other_characters_is_not_found_in_text_without_spaces(notion: str, text: str) -> None:
    assert not occurs(notion, text)


@pytest.mark.parametrize(
    ("plural", "word"),
    [
        ("angles", "angle"),
        ("inequalities", "inequality"),
        ("branches", "branch"),
        ("axes", "axe"),
        ("cases", "case"),
        ("buses", "bus"),
        ("movies", "movie"),
        ("potatoes", "potato"),
        ("houses", "house"),
        ("radixes", "radix"),
        ("ties", "tie"),
    ],
)
def test_a_regular_plural_meets_its_singular(plural: str, word: str) -> None:
    assert singular(plural) == singular(word)


@given(
    st.lists(st.sampled_from(["a", "bc", "bcs", "d e", "e d", "a bc a"]), max_size=6),
    st.text("abcde s.-\n", max_size=80),
)
@settings(deadline=None, max_examples=300)
def test_searching_for_many_equals_searching_for_each_in_the_plain_way(notions: list[str], text: str) -> None:
    forms = [notion_form(notion) for notion in notions]
    line = f" {' '.join(notion_form(text))} "
    expected = {form for form in forms if f" {' '.join(form)} " in line}
    assert notions_in_texts(forms, [text])[0] == expected


def test_texts_and_notions_of_one_repeated_word_stay_fast() -> None:
    forms = [notion_form("prime " * n + "number") for n in range(1, 120)]
    started = time.process_time()
    notions_in_texts(forms, ["prime " * 8_000 + "number"] * 16)
    assert time.process_time() - started < 2.0

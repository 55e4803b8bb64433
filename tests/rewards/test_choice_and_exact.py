"""The choice and exact verifiers."""

from __future__ import annotations

from typing import Any

import pytest

from masa.rewards import VerifierPool
from masa.rewards.verdict import Judgement
from masa.rewards.verifiers.choice import verify_choice
from masa.rewards.verifiers.exact import verify_exact

CITIES = ["Paris", "Rome", "Cape Town", "A) Oslo"]


def choice(response: str, answer: str, options: Any = None) -> Judgement:
    return verify_choice(response, answer, options, None)  # type: ignore[arg-type]


def exact(response: str, answer: Any) -> Judgement:
    return verify_exact(response, answer, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "response",
    [
        r"\boxed{B}",
        r"\boxed{b}",
        r"\boxed{(B)}",
        r"\boxed{\text{B}}",
        r"\boxed{\textbf{(B) }}",
        r"\boxed{B. Rome}",
        r"\boxed{B) Rome}",
        r"\boxed{B: anything}",
        r"\boxed{A} no, \boxed{B}",
        "The answer is B.",
        "The answer is (b).",
        "the correct option is B",
        "Answer: B) Rome",
        "**Answer: B**",
        "A is wrong.\nC is wrong.\nAnswer: **B**",
        "Answer: A. But wait. Answer: B.",
        "Let me think.\n\nB",
        "(B)",
        "B",
    ],
)
def test_a_letter_is_read(response: str) -> None:
    assert choice(response, "B") == Judgement(1.0, "B")


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("The answer is A.", "A"),
        (r"\boxed{C}", "C"),
        (r"\boxed{AB}", None),
        (r"\boxed{Bread}", None),
        (r"\boxed{K}", None),
        (r"\boxed{}", None),
        ("The answer is a matter of taste", None),
        ("I cannot say which it is.", None),
        ("", None),
    ],
)
def test_another_letter_or_none_is_incorrect(response: str, found: str | None) -> None:
    assert choice(response, "B") == Judgement(0.0, found)


@pytest.mark.parametrize("response", [r"\boxed{Rome}", "Answer: Rome", r"\boxed{B Rome}", r"\boxed{rome.}"])
@pytest.mark.parametrize("options", [CITIES, {"A": "Paris", "B": "Rome"}, ["A) Paris", "B) Rome"]])
def test_the_text_of_an_option_stands_for_its_letter(response: str, options: Any) -> None:
    assert choice(response, "B", options) == Judgement(1.0, "B")


@pytest.mark.parametrize("gold", ["B", "(B)", "b", "B. Rome", "Rome"])
def test_the_gold_answer_may_be_a_letter_or_a_text(gold: str) -> None:
    assert choice(r"\boxed{B}", gold, CITIES).score == 1


def test_a_gold_answer_that_is_no_option_is_an_error(pool: VerifierPool) -> None:
    verdict = pool.verify([{"verifier": "choice", "response": "B", "answer": "Berlin", "options": CITIES}])[0]
    assert verdict.status == "error"
    assert "'Berlin'" in verdict.message


def test_options_reach_the_verifier_through_the_pool(pool: VerifierPool) -> None:
    item = {"verifier": "choice", "response": r"\boxed{Cape Town}", "answer": "C", "options": CITIES}
    assert pool.verify([item])[0].correct


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{[1, 2]}", "[1, 2]"),
        (r"\boxed{ a   b }", "a b"),
        ("thinking\n#### 12", "12"),
        ("The answer is: yes", "yes"),
        ("Answer: no\nAnswer: yes", "yes"),
        ("  yes\n", "yes"),
        (r"\boxed{5}", 5),
    ],
)
def test_the_same_characters_are_exact(response: str, answer: Any) -> None:
    assert exact(response, answer).score == 1


@pytest.mark.parametrize(
    ("response", "answer"), [("Yes", "yes"), (r"\boxed{1/2}", "0.5"), ("", "x"), ("it is yes", "yes")]
)
def test_other_characters_are_not(response: str, answer: str) -> None:
    assert exact(response, answer).score == 0

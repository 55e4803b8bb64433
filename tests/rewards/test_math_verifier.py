"""The math verifier: what is equal, what is not, and which answer of a response counts."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from masa.rewards import VerifierPool
from masa.rewards.verifiers import Limits
from masa.rewards.verifiers.answer_forms import rational_value, repair_matrix_rows, written_form
from masa.rewards.verifiers.boxed import last_boxed
from masa.rewards.verifiers.constants import equal_constants
from masa.rewards.verifiers.forms.typography import one_typography
from masa.rewards.verifiers.mathematics import verify_math

LIMITS = Limits(seconds=5.0, memory_mb=512, scratch=Path("unused"))

EQUAL = [
    ("42", "42"),
    ("042", "42"),
    ("+7", "7"),
    ("42.", "42"),
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac12", r"\frac{1}{2}"),
    ("1/2", r"\frac{1}{2}"),
    (".5", r"\frac12"),
    ("0.333333", r"\frac13"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    (r"\sqrt2", r"\sqrt{2}"),
    ("(x+1)^2", "x^2+2x+1"),
    ("x = 5", "5"),
    ("5", "x=5"),
    (r"50\%", "50"),
    (r"50\%", r"\frac12"),
    ("50%", "50"),
    (r"7\text{ hours}", "7"),
    (r"12\,\text{cm}^2", "12"),
    (r"45^\circ", "45"),
    (r"\$18.90", "18.90"),
    ("1,234", "1234"),
    (r"10{,}000", "10000"),
    (r"1,\!234,\!567", "1234567"),
    (r"\{1, 2, 3\}", r"\{3, 2, 1\}"),
    ("1, 2", "2, 1"),
    (r"2, 3, \text{ and } 4", "2,3,4"),
    (r"\left(\frac12, 3\right)", r"(\frac{1}{2},3)"),
    (r"[0, \infty)", r"[0,\infty)"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(-\infty,2)\cup(3,\infty)"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    (r"\begin{pmatrix} 16 & -4 \\ 37 & -13 \end{pmatrix}", r"\begin{pmatrix}16&-4\37&-13\end{pmatrix}"),
    ("x^2 + y^2 = 4", "x^2+y^2=4"),
    (r"\text{east}", "east"),
    (r"\text{East}", "east"),
    (r"\textbf{(C)}", "C"),
    (r"\text{A, B}", "{A,B}"),
    ("8:34", r"8\!:\!34"),
    (r"\frac{2\pi}{3}", r"\frac23\pi"),
    (r"1.5 \times 10^3", "1500"),
    ("3 + 4i", "4i+3"),
    ("2^{10}", "1024"),
    (r"\approx 8.24", "8.24"),
]

DIFFERENT = [
    ("41", "42"),
    ("-42", "42"),
    ("0.3", "3"),
    (".3", "3"),
    (r"\frac{1}{3}", "0.5"),
    ("0.33", r"\frac13"),
    ("seat", "east"),
    (r"\text{seat}", r"\text{east}"),
    ("3:1", "3"),
    ("8:34", r"\frac{4}{17}"),
    ("(1,2)", "(2,1)"),
    ("[1,2)", "(1,2)"),
    ("(2,3)", "5"),
    ("5", "(5,5)"),
    (r"\{1,2\}", r"\{1,2,3\}"),
    ("x^2+2x", "x^2+2x+1"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}"),
    ("x=5, y=6", "5"),
    (r"\frac{0}{0}", "0"),
    (r"\frac{1}{0}", r"\infty"),
    ("", "0"),
    (" ", "0"),
    ("{}", "0"),
    ("B", "C"),
    (r"5\%", r"\frac12"),
    ("1,234", "1.234"),
]


def item(response: str, answer: Any) -> dict[str, Any]:
    return {"verifier": "math", "response": response, "answer": answer}


def test_equal_answers_are_correct(pool: VerifierPool) -> None:
    verdicts = pool.verify([item(rf"Thus $\boxed{{{one}}}$.", other) for one, other in EQUAL])
    assert [pair for pair, verdict in zip(EQUAL, verdicts, strict=True) if not verdict.correct] == []


def test_different_answers_are_incorrect(pool: VerifierPool) -> None:
    verdicts = pool.verify([item(rf"Thus $\boxed{{{one}}}$.", other) for one, other in DIFFERENT])
    wrong = [
        (pair, verdict) for pair, verdict in zip(DIFFERENT, verdicts, strict=True) if verdict.status != "incorrect"
    ]
    assert wrong == []


def test_the_gold_answer_may_stand_in_dollars_or_a_box_or_be_a_number(pool: VerifierPool) -> None:
    verdicts = pool.verify([item(r"\boxed{2.5}", gold) for gold in (r"$\frac52$", r"$\boxed{\frac{5}{2}}$", 2.5)])
    assert all(verdict.correct for verdict in verdicts)


def test_the_last_box_counts(pool: VerifierPool) -> None:
    right, wrong = pool.verify([item(r"\boxed{1} or \boxed{2}", gold) for gold in ("2", "1")])
    assert (right.correct, wrong.correct) == (True, False)
    assert right.extracted == "2"


def test_without_a_box_the_stated_answer_counts(pool: VerifierPool) -> None:
    responses = ["The final answer is $\\frac{1}{2}$.", "Answer: 0.5", "so it is 1/2"]
    assert all(verdict.correct for verdict in pool.verify([item(response, "0.5") for response in responses]))


def test_a_response_without_any_answer_is_incorrect(pool: VerifierPool) -> None:
    for verdict in pool.verify([item(response, "5") for response in ("", "I do not know.", "5 " * 500 + "x" * 2000)]):
        assert (verdict.status, verdict.extracted) == ("incorrect", None)


@pytest.mark.parametrize("answer", ["", "  ", "$$", [], {"x": 1}, True, None])
def test_a_gold_answer_that_says_nothing_is_an_error(pool: VerifierPool, answer: Any) -> None:
    verdict = pool.verify([item(r"\boxed{5}", answer)])[0]
    assert verdict.status == "error"
    assert verdict.message.startswith("ValueError: math answer is")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a \boxed{1} b \boxed{ x_{2} } c", "x_{2}"),
        (r"\boxed{\frac{1}{2}", None),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\fbox{6}", "6"),
        (r"\boxed {7}", "7"),
        (r"\boxed{}", ""),
        (r"} \boxed{8} }", "8"),
        (r"\boxed 9", None),
        ("", None),
    ],
)
def test_the_last_complete_box_is_found(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected


def test_the_written_form_keeps_a_leading_decimal_point() -> None:
    assert written_form(".3") == ".3"
    assert written_form("0.3.") == "0.3"


def test_rows_of_a_matrix_get_their_ends_back() -> None:
    damaged = r"\begin{pmatrix}a&-4\37&\frac{1}{2}\end{pmatrix}"
    assert repair_matrix_rows(damaged) == r"\begin{pmatrix}a&-4\\37&\frac{1}{2}\end{pmatrix}"
    assert repair_matrix_rows(r"\frac\pi2") == r"\frac\pi2"


def test_the_shortcut_for_plain_numbers_agrees_with_math_verify() -> None:
    from math_verify import parse, verify

    generator = random.Random(0)

    def number() -> str:
        above, below = generator.randint(-12, 12), generator.randint(1, 12)
        forms = [str(above), rf"\frac{{{above}}}{{{below}}}", f"{above}/{below}", f"{above / below:.6f}"]
        return generator.choice([*forms, f"{above / below:.3f}", f"{above}.0", rf"-\frac{{{abs(above)}}}{{{below}}}"])

    for _ in range(150):
        one, other = number(), number()
        first, second = rational_value(one, written_form(one)), rational_value(other, written_form(other))
        assert first is not None
        assert second is not None
        expected = verify(parse(rf"\boxed{{{other}}}"), parse(rf"\boxed{{{one}}}"))
        assert first.equals(second) == expected, (one, other)


def test_constants_called_different_are_different_for_math_verify() -> None:
    from math_verify import parse, verify

    written = [
        r"\sqrt{2}",
        r"\frac{\sqrt{8}}{2}",
        "1.414214",
        r"\pi",
        r"\frac{22}{7}",
        "3.14159265",
        "2i",
        r"\ln 2",
        "-1",
        "10^{6}",
    ]
    constants = [parse(rf"\boxed{{{text}}}") for text in written]
    apart = [(one, other) for one in constants for other in constants if equal_constants(one, other) is False]
    assert len(apart) > 50
    assert not any(verify(one, other) for one, other in apart)
    assert equal_constants(constants[0], constants[1]) is True
    assert equal_constants(constants[0], constants[2]) is None


def test_a_gold_answer_that_lost_its_spaces_is_the_list_that_a_response_found() -> None:
    found = r"So $x = 81$ or $x = 256,$ in all $\boxed{81, 256}.$"
    for response, gold, right in (
        (found, "81,256", True),
        (found, "81256", False),
        (r"The number is $\boxed{81, 256}.$", "81,256", False),
        (r"There are 81,256 or $\boxed{81, 256}.$", "81,256", False),
        (r"So 81 and 256: \boxed{81,256}", "81, 256", False),
    ):
        assert (verify_math(response, gold, None, LIMITS).score == 1.0) is right, (response, gold)


@pytest.mark.parametrize(
    "answer",
    [r"\langle" + "," * 50_000 + r"\right" * 5_000, "one " * 20_000, "(" + " " * 50_000 + "or", "1\u0305" * 20_000],
)
def test_typography_takes_time_in_proportion_to_the_length(answer: str) -> None:
    before = time.process_time()
    one_typography(answer)
    assert time.process_time() - before < 2


def test_a_vector_in_angle_brackets_is_a_point_and_what_has_one_entry_is_not() -> None:
    assert one_typography(r"\left\langle 1, 2 \right\rangle") == "( 1, 2 )"
    assert one_typography("⟨1, 2⟩.") == "(1, 2)"
    assert one_typography(r"\langle u \rangle") == r"\langle u \rangle"

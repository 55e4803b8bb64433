"""How large an answer is, told from its text: what is refused, and what must not be."""

from __future__ import annotations

import random
import time

import pytest

from masa.rewards.verifiers.forms.intervals import real_set
from masa.rewards.verifiers.forms.magnitude import too_large_to_evaluate
from masa.rewards.verifiers.forms.numerals import numeral
from masa.rewards.verifiers.forms.typography import one_typography
from masa.rewards.verifiers.forms.units import quantity


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9}}",
        "9^9^9",
        "9**9**9",
        r"\left(2^{100}\right)^{1000000}",
        "2^{1000000}x + 1",
        "2^{1{,}000{,}000}",
        "2^{-1000000000}",
        "0.5^{1000000000}",
        "1.0000001^{100000000}",
        r"\left(\frac{9}{8}\right)^{9^{9}}",
        "100000!",
        "((10!)!)!",
        r"\frac{1}{100000!}",
        r"\binom{1000000}{500000}",
        "e^{e^{e^{e^{e}}}}",
        r"\exp(\exp(\exp(\exp(9))))",
        "1e999999999",
        "1e-999999999",
        "x^{9^{9^{9}}}",
        "2^{" * 80 + "2" + "}" * 80,
    ],
)
def test_what_would_have_too_many_digits_is_refused(answer: str) -> None:
    assert too_large_to_evaluate(answer) is not None


@pytest.mark.parametrize(
    "answer",
    [
        "42",
        "2^{300000}",
        "2^{2004} - 1",
        "10^{10000}",
        "25000!",
        r"\frac{1}{2004!}",
        r"\binom{2004}{1002}",
        "1^{1000000000}",
        "(-1)^{1000000000}",
        "x^{1000000000}",
        "(x+1)^{2004}",
        r"2^{\frac{1000000}{999999}}",
        "3e8",
        "6.02e23",
        "x_{100}^{2}",
        r"e^{i\pi}",
        r"\sum_{k=1}^{1000000} k^2",
        "5!",
        "2^{2^{16}}",
        "1,000,000,000",
    ],
)
def test_what_can_be_evaluated_is_not_refused(answer: str) -> None:
    assert too_large_to_evaluate(answer) is None


def test_prose_may_exclaim() -> None:
    assert too_large_to_evaluate("The answer is 100000!", factorials=False) is None
    assert too_large_to_evaluate("The answer is 9^9^9", factorials=False) is not None


PIECES = [
    *(
        "1",
        "234",
        ".",
        ", ",
        " ",
        "x",
        "e",
        r"\pi",
        r"\frac",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        r"\{",
        r"\}",
        "^",
        "**",
        "_",
        "!",
    ),
    *(
        r"\ldots",
        "...",
        "…",
        "+",
        "-",
        "=",
        "<",
        r"\le",
        r"\in",
        r"\cup",
        r"\text{",
        "cm",
        "m",
        "/",
        "per",
        r"^\circ",
        "√",
    ),
    *(
        "sqrt(",
        "∞",
        "½",
        "²",
        r"\overline{3}",
        "(3)",
        "e8",
        r"\times",
        "10",
        "$",
        "€",
        r"\mathbf{",
        "no solution",
        "٣",
        "|",
        ":",
    ),
]


def test_no_text_breaks_or_slows_what_reads_it() -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(PIECES, k=draw.choice((3, 8, 20, 60)))) for _ in range(1500)]
    texts += [piece * (1900 // len(piece)) for piece in PIECES]
    slowest = 0.0
    for text in texts:
        started = time.process_time()
        spelled = one_typography(text)
        too_large_to_evaluate(text)
        quantity(spelled, letters=True)
        real_set(spelled)
        numeral(spelled)
        slowest = max(slowest, time.process_time() - started)
    assert slowest < 0.5

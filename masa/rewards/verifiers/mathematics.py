r"""Mathematical answers: written forms first, then math-verify.

math-verify's own timeouts are signals that only work in a main thread; they are off here, and the pool's worker is
killed on time instead. What a cheap comparison settles (the same writing, two plain integers) never reaches sympy.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from masa.rewards.verdict import Judgement
from masa.rewards.verifiers import Limits
from masa.rewards.verifiers.answer_forms import (
    is_percentage,
    is_ratio,
    is_words,
    pair_entries,
    rational_value,
    repair_matrix_rows,
    written_form,
)
from masa.rewards.verifiers.boxed import last_boxed
from masa.rewards.verifiers.essence import answer_or_tail
from masa.rewards.verifiers.magnitude import too_large_to_evaluate

# Nothing this long is a final answer, unless the gold one is, too.
_MAX_ANSWER_CHARACTERS = 2_000
_ANYTHING_MATHEMATICAL = re.compile(r"[\d$\\]")


def verify_math(response: str, answer: Any, options: Any, limits: Limits) -> Judgement:
    r"""Correct when the response's final answer equals the gold answer, LaTeX or plain.

    The last complete ``\boxed{}`` is the final answer. Without one, math-verify looks for an answer in the last 1,000
    characters. An answer that math-verify cannot read is incorrect; one too large to evaluate is refused.

    Raises:
        ValueError: the gold answer is empty or not a string or number.
    """
    gold = _gold_text(answer)
    is_boxed, text = answer_or_tail(response)
    if is_boxed and written_form(text) == written_form(gold) != "":
        return Judgement(1.0, text)
    reason = too_large_to_evaluate(text, factorials=is_boxed) or too_large_to_evaluate(gold)
    if reason is not None:
        return Judgement(0.0, text if is_boxed else None, refused=True, message=f"not evaluated: {reason}")
    if is_boxed:
        return Judgement(float(equal_answers(text, gold)), text)
    if not _ANYTHING_MATHEMATICAL.search(text):
        return Judgement(0.0)
    found = _parse(text)
    if not found:
        return Judgement(0.0)
    extracted = found[-1] if isinstance(found[-1], str) else None
    if extracted is not None and written_form(extracted) == written_form(gold):
        return Judgement(1.0, extracted)
    return Judgement(float(_any_equal(_parse_gold(gold), found)), extracted)


@lru_cache(maxsize=4096)
def equal_answers(predicted: str, gold: str) -> bool:
    """Whether two final answers say the same; the solutions of one problem mostly repeat a few answers."""
    if len(predicted) > max(_MAX_ANSWER_CHARACTERS, 4 * len(gold)):
        return False
    predicted_form, gold_form = written_form(predicted), written_form(gold)
    if not predicted_form:
        return False
    if predicted_form == gold_form:
        return True
    first, second = rational_value(predicted, predicted_form), rational_value(gold, gold_form)
    if first and second:
        return first.equals(second)
    # math-verify reads 3:1 as the quotient 3, and 8:34 as 4/17.
    if (first and is_ratio(gold_form)) or (second and is_ratio(predicted_form)):
        return False
    # A number is no point and no interval.
    first_pair, second_pair = pair_entries(predicted_form), pair_entries(gold_form)
    if (first and second_pair) or (second and first_pair):
        return False
    # math-verify reads words as products of letters, in which east is seat.
    if is_words(predicted, predicted_form) or is_words(gold, gold_form):
        return predicted_form.casefold() == gold_form.casefold()
    gold_parsed, predicted_parsed = _parse_gold(gold), _parse(f"\\boxed{{{predicted}}}")
    if not (is_percentage(predicted) or is_percentage(gold)) and _clearly_apart(gold_parsed, predicted_parsed):
        return False
    return _any_equal(gold_parsed, predicted_parsed)


def _gold_text(answer: Any) -> str:
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
        raise ValueError(f"math answer is a {type(answer).__name__}, a string or a number needed")
    gold = str(answer).strip()
    boxed = last_boxed(gold)
    gold = gold if boxed is None else boxed
    if not gold.strip("$ "):
        raise ValueError("math answer is empty")
    return gold


def _parse(text: str) -> list[Any]:
    from math_verify import parse

    return list(parse(text, parsing_timeout=None))


@lru_cache(maxsize=1024)
def _parse_gold(gold: str) -> list[Any]:
    # A gold answer is one expression, so it is put where math-verify looks first.
    return _parse(f"\\boxed{{{repair_matrix_rows(gold)}}}")


def _clearly_apart(gold: list[Any], found: list[Any]) -> bool:
    """Whether both are constants whose values differ far beyond math-verify's six decimal places.

    Nothing can then make them equal, and simplifying their difference is most of a comparison's work.
    """
    from sympy import Expr

    if not gold or not found or not all(isinstance(side[0], Expr) and side[0].is_number for side in (gold, found)):
        return False
    try:
        first, second = (complex(side[0].evalf(15)) for side in (gold, found))
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return False
    return abs(first - second) > 1e-3 * max(1.0, abs(first))


def _any_equal(gold: list[Any], found: list[Any]) -> bool:
    from math_verify import verify

    failure: Exception | None = None
    for expected in gold:
        for candidate in found:
            try:
                if verify(expected, candidate, timeout_seconds=None, raise_on_error=True):
                    return True
            except ValueError as error:
                # "Can't evaluate nan or zoo": the answer divides by zero; it equals nothing.
                failure = None if "nan or zoo" in str(error) else error
            except Exception as error:
                failure = error
    if failure is not None:
        raise failure
    return False

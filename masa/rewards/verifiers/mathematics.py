r"""Mathematical answers: written forms first, then math-verify.

math-verify's own timeouts are signals that only work in a main thread; they are off here, and the pool's worker is
killed on time instead. What a cheap comparison settles (the same writing, two plain integers) never reaches sympy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from masa.rewards.verdict import Judgement
from masa.rewards.verifiers import Limits
from masa.rewards.verifiers.answer_forms import (
    bare_entries,
    is_percentage,
    is_set,
    is_words,
    list_entries,
    pair_entries,
    point_entries,
    rational_value,
    repair_matrix_rows,
    without_braces_of_one,
    written_form,
)
from masa.rewards.verifiers.boxed import last_boxed
from masa.rewards.verifiers.constants import equal_constants
from masa.rewards.verifiers.essence import answer_or_tail, is_list_of_grouped_digits, states_entries
from masa.rewards.verifiers.forms.assignments import assignments, counts, equal_assignments, equal_values
from masa.rewards.verifiers.forms.compound import compound
from masa.rewards.verifiers.forms.congruences import congruence, without_modulus
from masa.rewards.verifiers.forms.digits import based_numeral, spaced_numbers
from masa.rewards.verifiers.forms.intervals import bare_relation, equal_sets, real_set
from masa.rewards.verifiers.forms.magnitude import too_large_to_evaluate
from masa.rewards.verifiers.forms.numerals import numeral
from masa.rewards.verifiers.forms.ratios import equal_ratios, equal_times, in_colons, ratio_parts
from masa.rewards.verifiers.forms.sequences import equal_sequences, has_ellipsis, spelled_ellipses
from masa.rewards.verifiers.forms.typography import one_typography
from masa.rewards.verifiers.forms.units import DEGREES, RADIANS, in_radians, quantity, radians_of
from masa.rewards.verifiers.forms.words import is_qualified

# Nothing this long is a final answer, unless the gold one is, too.
_MAX_ANSWER_CHARACTERS = 2_000
# Lists up to this long are compared entry by entry.
_MOST_ENTRIES = 40
_ONE_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
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
    # Prose has exclamation marks, and stars for emphasis.
    reason = too_large_to_evaluate(one_typography(text)) if is_boxed else too_large_to_evaluate(text, factorials=False)
    reason = reason or too_large_to_evaluate(one_typography(gold))
    if reason is not None:
        if is_boxed and written_form(text) == written_form(gold):
            return Judgement(1.0, text)
        return Judgement(0.0, text if is_boxed else None, refused=True, message=f"not evaluated: {reason}")
    if is_boxed:
        if is_list_of_grouped_digits(text) and re.sub(r"\s+", "", text) == gold and states_entries(response, text):
            # Data sets lose spaces: of a gold answer 81,256, a response that found 81 and 256 tells what it was.
            return Judgement(1.0, text)
        return Judgement(float(equal_answers(text, gold)), text)
    if not _ANYTHING_MATHEMATICAL.search(text):
        return Judgement(0.0)
    found = _parse(text)
    if not found:
        return Judgement(0.0)
    extracted = found[-1] if isinstance(found[-1], str) else None
    if extracted is not None:
        return Judgement(float(equal_answers(extracted, gold)), extracted)
    return Judgement(float(_any_equal(_parse_gold(gold), found)))


@lru_cache(maxsize=4096)
def equal_answers(predicted: str, gold: str) -> bool:
    """Whether two final answers say the same; the solutions of one problem mostly repeat a few answers."""
    if len(predicted) > max(_MAX_ANSWER_CHARACTERS, 4 * len(gold)):
        return False
    return _equal(one_typography(predicted), one_typography(gold))


def _equal(predicted: str, gold: str) -> bool:
    """What typography and units leave to be compared, from the cheapest rule to the dearest."""
    if has_ellipsis(predicted) or has_ellipsis(gold):
        ours, theirs = (written_form(spelled_ellipses(side)) for side in (predicted, gold))
        return bool(ours) and equal_sequences(ours, theirs, equal_answers)
    predicted_form, gold_form = written_form(predicted), written_form(gold)
    if not predicted_form:
        return False
    first, second = congruence(predicted), congruence(gold)
    if first and second:
        return first == second
    if first or second:
        return _equal(without_modulus(predicted), without_modulus(gold))
    for rule in (equal_times, _equal_digits, _equal_compounds, _equal_quantities, _equal_relations):
        verdict = rule(predicted, gold)
        if verdict is not None:
            return verdict
    if is_qualified(predicted) and not is_qualified(gold):
        return False
    if predicted_form == gold_form and is_list_of_grouped_digits(predicted) == is_list_of_grouped_digits(gold):
        return True
    by_kind = _equal_ratios(predicted_form, gold_form)
    if by_kind is None:
        by_kind = _equal_by_kind(predicted, predicted_form, gold, gold_form)
    if by_kind is not None:
        return by_kind
    gold_parsed, predicted_parsed = _parse_gold(in_radians(gold)), _parse(f"\\boxed{{{in_radians(predicted)}}}")
    if not (is_percentage(predicted) or is_percentage(gold)):
        by_value = equal_constants(gold_parsed, predicted_parsed)
        if by_value is not None:
            return by_value
    return _any_equal(gold_parsed, predicted_parsed)


def _equal_digits(predicted: str, gold: str) -> bool | None:
    """The verdict where an answer has numbers with only space between, or both name their base; None elsewhere."""
    bases = based_numeral(predicted), based_numeral(gold)
    if all(bases):
        return bases[0] == bases[1]
    spaced = spaced_numbers(predicted), spaced_numbers(gold)
    if not any(spaced):
        return None
    if all(spaced):
        return spaced[0] == spaced[1]
    # Without its spaces the answer would be another number; with commas it is the list that it may be meant for.
    listed = [",".join(one) if one else other for one, other in zip(spaced, (predicted, gold), strict=True)]
    return False if _ONE_NUMBER.fullmatch(written_form(gold if spaced[0] else predicted)) else _equal(*listed)


def _equal_compounds(predicted: str, gold: str) -> bool | None:
    """The verdict where a side is a quantity in several units (``5 feet 6 inches``); None elsewhere."""
    first, second = compound(predicted), compound(gold)
    if first and second:
        return (first.total, first.dimensions) == (second.total, second.dimensions)
    several, single = (first, gold) if first else (second, predicted)
    if several is None:
        return None
    other = quantity(single, letters=True)
    value = numeral(written_form(single if other is None else other.value))
    if value is None:
        return False
    if other is not None:
        return other.unit.dimensions == several.dimensions and value.value * other.unit.factor == several.total
    # A number alone may be of the largest of the units, or of the smallest.
    return value.value in {several.total / unit.factor for unit in (several.units[0], several.units[-1])}


def _equal_relations(predicted: str, gold: str) -> bool | None:
    r"""The verdict where a side is a relation without a variable (``\ge 5``), which is no number; None elsewhere."""
    first, second = bare_relation(predicted), bare_relation(gold)
    if first and second:
        return first[0] == second[0] and _equal(first[1], second[1])
    if not (first or second):
        return None
    other = real_set(gold if first else predicted)
    if other is None:
        return False
    variable = other.variable or "x"
    return _equal(variable + predicted, gold) if first else _equal(predicted, variable + gold)


def _equal_ratios(predicted_form: str, gold_form: str) -> bool | None:
    """The verdict where a side is a ratio; None elsewhere. math-verify reads 3:1 as the quotient 3, 8:34 as 4/17."""
    first, second = ratio_parts(predicted_form), ratio_parts(gold_form)
    if first is None and second is not None:
        first = ratio_parts(in_colons(predicted_form))
    if first and second:
        return equal_ratios(first, second, equal_answers)
    return False if first or second else None


def _equal_quantities(predicted: str, gold: str) -> bool | None:
    """The verdict where the gold answer names a unit, or the answer alone does; None where units say nothing."""
    expected = quantity(gold, letters=False)
    found = quantity(predicted, letters=expected is not None)
    if expected is None or found is None:
        one = expected or found
        if one is None or not one.sure:
            return None
        if is_percentage(predicted if found is None else gold):
            return False
        other = predicted if found is None else gold
        if one.unit.dimensions == DEGREES and "\\pi" in other:
            return _equal(other, radians_of(one))
        # Where only one side names it, the unit is understood.
        return _equal(predicted if found is None else found.value, gold if expected is None else expected.value)
    if {found.unit.dimensions, expected.unit.dimensions} == {DEGREES, RADIANS}:
        return _equal(
            *(radians_of(side) if side.unit.dimensions == DEGREES else side.value for side in (found, expected))
        )
    if found.unit.dimensions != expected.unit.dimensions:
        return False
    if found.unit.factor == expected.unit.factor:
        return _equal(found.value, expected.value)
    factor = found.unit.factor / expected.unit.factor
    first, second = numeral(written_form(found.value)), numeral(written_form(expected.value))
    if first and second:
        return first.times(factor).equals(second)
    return _equal(rf"\frac{{{factor.numerator}}}{{{factor.denominator}}} \cdot ({found.value})", expected.value)


def _equal_by_kind(predicted: str, predicted_form: str, gold: str, gold_form: str) -> bool | None:
    """The verdict on numbers, ratios, points, intervals, words and lists; None for what needs algebra."""
    predicted_form, gold_form = without_braces_of_one(predicted_form), without_braces_of_one(gold_form)
    # Without its space, the list 1, 234 would be a number.
    lists = [is_list_of_grouped_digits(one) for one in (predicted, gold)]
    first = None if lists[0] else rational_value(predicted, predicted_form)
    second = None if lists[1] else rational_value(gold, gold_form)
    if first and second:
        return first.equals(second)
    if any(lists) and (first or second):
        return False
    values = assignments(predicted_form), assignments(gold_form)
    if not any(values):
        values = counts(predicted), counts(gold)
    if values[0] and values[1]:
        return equal_assignments(values[0], values[1], equal_answers)
    # A number is no point and no interval.
    first_pair, second_pair = pair_entries(predicted_form), pair_entries(gold_form)
    if (first and second_pair) or (second and first_pair):
        return False
    first_set, second_set = real_set(predicted), real_set(gold)
    if first_set and second_set and (first_set.is_stated or second_set.is_stated):
        return equal_sets(first_set, second_set, equal_answers)
    by_order = _equal_in_order(predicted_form, values[0], gold_form, values[1])
    if by_order is not None:
        return by_order
    if (first_pair and is_set(gold_form)) or (second_pair and is_set(predicted_form)):
        return False
    # math-verify reads words as products of letters, in which east is seat.
    if is_words(predicted, predicted_form) or is_words(gold, gold_form):
        return predicted_form.casefold() == gold_form.casefold()
    if first_pair and second_pair and len(first_pair) == len(second_pair):
        if (first_pair[0], first_pair[-1]) == (second_pair[0], second_pair[-1]):
            return all(a == b or equal_answers(a, b) for a, b in zip(first_pair[1:-1], second_pair[1:-1], strict=True))
        return None
    forms = (predicted_form, gold_form)
    ours, theirs = (
        form.split(",") if spaced else list_entries(form) for form, spaced in zip(forms, lists, strict=True)
    )
    if ours and theirs and len(ours) == len(theirs) <= _MOST_ENTRIES and not any("=" in one for one in ours + theirs):
        return _same_entries(ours, theirs)
    return None


def _equal_in_order(
    predicted_form: str, predicted: Mapping[str, str] | None, gold_form: str, gold: Mapping[str, str] | None
) -> bool | None:
    """The verdict on a point against a list without brackets, and on either against values by name; None elsewhere."""
    points = [point_entries(form) for form in (predicted_form, gold_form)]
    ours, theirs = (
        point or bare_entries(form) for point, form in zip(points, (predicted_form, gold_form), strict=True)
    )
    if predicted:
        return equal_values(predicted, theirs, equal_answers) if theirs else None
    if gold:
        return equal_values(gold, ours, equal_answers) if ours else None
    if bool(points[0]) == bool(points[1]) or not (ours and theirs):
        return None
    return len(ours) == len(theirs) and all(a == b or equal_answers(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_entries(ours: list[str], theirs: list[str]) -> bool:
    left = list(theirs)
    for entry in ours:
        same = entry if entry in left else next((other for other in left if equal_answers(entry, other)), None)
        if same is None:
            return False
        left.remove(same)
    return True


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

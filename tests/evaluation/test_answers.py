"""The verifiers that benchmarks bring along: quantities with units, Python literals."""

import pytest

from masa.evaluation.verifiers.literals import python_literal
from masa.evaluation.verifiers.quantities import numeric_with_unit, read_quantity
from masa.evaluation.verifiers.units import read_unit

ENERGY = {"value": "-321", "unit": r"$\mathrm{~kJ} \mathrm{~mol}^{-1}$"}


@pytest.mark.parametrize(
    ("response", "right"),
    [
        (r"\boxed{-321}", True),
        (r"\boxed{-321 \text{ kJ/mol}}", True),
        (r"\boxed{-3.21 \times 10^{5}\ \mathrm{J\,mol^{-1}}}", True),
        (r"\boxed{-0.32 \text{ MJ mol}^{-1}}", True),
        (r"The answer is -318.2 kJ/mol", True),
        (r"so $\Delta H = \boxed{-321}\ \text{kJ/mol}$.", True),
        (r"\boxed{321}", False),
        (r"\boxed{-350}", False),
        (r"\boxed{-321 \text{ J/mol}}", False),
        (r"\boxed{-321 \text{ kJ}}", False),
        ("no number", False),
        ("", False),
    ],
)
def test_a_quantity_is_right_within_tolerance_in_any_equivalent_unit(response: str, right: bool) -> None:
    assert numeric_with_unit(response, ENERGY) is right


def test_the_tolerance_is_five_per_cent() -> None:
    assert numeric_with_unit(r"\boxed{104.9}", "100")
    assert not numeric_with_unit(r"\boxed{106}", "100")


def test_zero_is_right_for_zero_alone() -> None:
    assert numeric_with_unit(r"\boxed{0}", "0")
    assert not numeric_with_unit(r"\boxed{0.01}", "0")


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        (r"\boxed{1,200}", 1200, ""),
        (r"\boxed{\frac{3}{4}}", 0.75, ""),
        (r"\boxed{x = 2.5\,\text{m}}", 2.5, "m"),
        (r"\boxed{10^{5}}", 1e5, ""),
        (r"\boxed{1.5 \times 10^{-3}}", 1.5e-3, ""),
        (r"\boxed{3e8 m/s}", 3e8, "m/s"),
        (r"\boxed{-.5}", -0.5, ""),
    ],
)
def test_numbers_are_read_as_they_are_written(text: str, value: float, unit: str) -> None:
    found = read_quantity(text)
    assert found is not None
    assert found[0] == pytest.approx(value)
    assert found[1] == unit


def test_a_gold_answer_without_a_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="a number is needed"):
        numeric_with_unit(r"\boxed{1}", {"value": "many", "unit": ""})


@pytest.mark.parametrize(
    ("one", "other", "factor"),
    [
        ("km", "m", 1e3),
        (r"\mathrm{~cm}^{-1}", "m^-1", 100),
        (r"$\mathrm{~L}$", "dm^3", 1),
        ("J/(mol K)", r"\text{J mol}^{-1} \text{K}^{-1}", 1),
        (r"\mu m", "m", 1e-6),
        ("kPa", "bar", 1e-2),
        ("10^{-3} mol", "mmol", 1),
        ("degrees", "rad", 3.14159265 / 180),
        ("hours", "min", 60),
    ],
)
def test_units_convert(one: str, other: str, factor: float) -> None:
    first, second = read_unit(one), read_unit(other)
    assert first is not None
    assert second is not None
    assert first.dimension == second.dimension
    assert first.scale / second.scale == pytest.approx(factor)


@pytest.mark.parametrize("text", ["", "furlongs per fortnight", "°C", "x" * 500, "^^", "/"])
def test_what_is_no_unit_is_none(text: str) -> None:
    assert read_unit(text) is None


def test_a_unit_that_is_not_understood_does_not_decide() -> None:
    assert numeric_with_unit(r"\boxed{5 \text{ furlongs}}", {"value": "5", "unit": "m"})


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("[ANSWER][1,2][/ANSWER]", "[1, 2]", True),
        ("[ANSWER]1[/ANSWER] no: [ANSWER]2[/ANSWER]", "2", True),
        ("[ANSWER]'a\"b'[/ANSWER]", "'a\"b'", True),
        ('[ANSWER]"ab"[/ANSWER]', "'ab'", True),
        ("[ANSWER]{'b': 2, 'a': 1}[/ANSWER]", "{'a': 1, 'b': 2}", True),
        ("[ANSWER]assert f([0]) == [0, 1][/ANSWER]", "[0, 1]", True),
        ("[ANSWER]f([0]) == [0, 1][/ANSWER]", "[0, 1]", True),
        (r"It is \boxed{(1, 2)}", "(1, 2)", True),
        ("```python\n'x'\n```", "'x'", True),
        ("[ANSWER][1, 2][/ANSWER]", "(1, 2)", False),
        ("[ANSWER]ab[/ANSWER]", "'ab'", False),
        ("[ANSWER]__import__('os')[/ANSWER]", "0", False),
        ("[ANSWER]" + "[" * 5000 + "[/ANSWER]", "[]", False),
        ("it is 3", "3", False),
        ("", "''", False),
    ],
)
def test_a_literal_is_right_where_it_equals_the_answer(response: str, answer: str, right: bool) -> None:
    assert python_literal(response, answer) is right

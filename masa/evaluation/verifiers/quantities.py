"""A verifier for numbers with a unit (SciBench): right within a relative tolerance, in any equivalent unit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from masa.evaluation.verifiers.units import Unit, plain_unit, read_unit
from masa.rewards.verifiers.boxed import last_boxed

# The tolerance of SciBench's own scoring.
RELATIVE_TOLERANCE = 0.05

_ANSWER_LINE = re.compile(r"answer(?:\s+is)?\s*:?\s*([^\n]+)", re.IGNORECASE)
_NUMBER = re.compile(
    r"""(?P<sign>[+-]?)\s*
        (?:\\[dt]?frac\s*\{\s*(?P<above>[\d.]+)\s*\}\s*\{\s*(?P<below>[\d.]+)\s*\}
          |(?P<number>\d[\d,]*(?:\.\d*)?|\.\d+))
        (?:\s*/\s*(?P<divisor>\d+(?:\.\d+)?))?
        (?:[eE](?P<e>[+-]?\d{1,4})|\s*(?:\\times|\\cdot|×|·|x|\*)\s*10\s*\^\s*\{?\s*(?P<ten>[+-]?\d{1,4})\s*\}?)?""",
    re.VERBOSE,
)
_LONGEST_ANSWER = 300


def numeric_with_unit(response: str, answer: Mapping[str, Any] | str | float) -> bool:
    r"""Whether the response's number is within 5 % of the gold one.

    ``answer`` is ``{"value": number, "unit": text}`` (or the number alone). The response's number is read from the last
    ``\boxed{}``, else from what follows the last "answer is". A number without a unit is taken in the gold unit, for
    the problem names it. A unit of the same dimension is converted; one of another dimension is wrong; one that is not
    understood does not decide.

    Raises:
        ValueError: the gold value is no finite number.
    """
    given = answer if isinstance(answer, Mapping) else {"value": answer}
    gold = read_number(str(given["value"]))
    if gold is None:
        raise ValueError(f"the gold answer is {given['value']!r}, a number is needed")
    found = read_quantity(response)
    if found is None:
        return False
    value, unit_text = found
    gold_unit = read_unit(str(given.get("unit") or ""))
    unit = read_unit(unit_text)
    if unit_text and unit is not None:
        # A plain number's "unit" is 1: a dimensioned answer to it is another quantity.
        expected = gold_unit or (Unit(1.0, (0,) * 7) if not plain_unit(str(given.get("unit") or "")) else None)
        if expected is not None:
            if unit.dimension != expected.dimension:
                return False
            value *= unit.scale / expected.scale
    return math.isclose(value, gold, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12 if gold == 0 else 0.0)


def read_quantity(response: str) -> tuple[float, str] | None:
    """Number and unit (empty where there is none) that a response settles on; None without a number."""
    boxed = last_boxed(response)
    lines = _ANSWER_LINE.findall(response[-2000:])
    text = boxed if boxed is not None else lines[-1] if lines else ""
    text = _tidy(text)
    # "x = 3.2 m": what is asked stands behind the sign.
    text = text.rsplit("=", 1)[-1].rsplit(r"\approx", 1)[-1]
    match = _NUMBER.search(text)
    value = _value(match) if match else None
    if match is None or value is None:
        return None
    after = boxed is not None and not text[match.end() :].strip() and _after_box(response)
    return value, plain_unit(text[match.end() :]) or (plain_unit(after) if after else "")


def read_number(text: str) -> float | None:
    """The first number in ``text``; None without one."""
    match = _NUMBER.search(_tidy(text))
    return _value(match) if match else None


def _tidy(text: str) -> str:
    text = text[:_LONGEST_ANSWER].replace("−", "-").replace(r"\left", "").replace(r"\right", "")
    text = re.sub(r"\\[,;:! ]|[~$]", " ", text)
    # 10^{5} alone is 1 x 10^5.
    return re.sub(r"(?<![\d.])(?<!times )(?<!cdot )10\s*\^", r"1 \\times 10^", text)


def _after_box(response: str) -> str:
    r"""A unit written right behind the box: ``\boxed{3.2} \text{ m}``; empty where something else follows."""
    position = max(response.rfind(r"\boxed"), response.rfind(r"\fbox"))
    depth = 0
    for index in range(position, len(response)):
        depth += {"{": 1, "}": -1}.get(response[index], 0)
        if response[index] == "}" and depth == 0:
            tail = response[index + 1 : index + 61].split("\n")[0].split("$")[0].split(".")[0]
            return tail if read_unit(tail) is not None else ""
    return ""


def _value(match: re.Match[str]) -> float | None:
    try:
        if match["above"]:
            value = float(match["above"]) / float(match["below"])
        else:
            value = float(match["number"].replace(",", ""))
        if match["divisor"]:
            value /= float(match["divisor"])
        value *= 10.0 ** int(match["e"] or match["ten"] or 0)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    return (-value if match["sign"] == "-" else value) if math.isfinite(value) else None

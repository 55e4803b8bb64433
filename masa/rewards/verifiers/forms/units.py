r"""Units at the end of an answer: which one it is, and what turns one into another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unit:
    """``factor`` times the base unit of ``dimensions`` (base quantities and their powers)."""

    factor: Fraction
    dimensions: Dimensions


# base quantity: {factor: names}; a plural s is understood.
_NAMES: Mapping[str, Mapping[str, str]] = {
    "length": {
        "1": "m meter metre", "1/100": "cm centimeter centimetre", "1/1000": "mm millimeter millimetre",
        "1/10": "dm decimeter decimetre", "1000": "km kilometer kilometre", "1/1000000": "micrometer micrometre",
        "1/1000000000": "nm nanometer nanometre", "254/10000": "in inch inches", "3048/10000": "ft foot feet",
        "9144/10000": "yd yard", "1609344/1000": "mi mile",
    },
    "time": {
        "1": "s sec second", "60": "min minute", "3600": "h hr hour", "86400": "day", "604800": "week wk",
        "1/1000": "ms millisecond",
    },
    "months": {"1": "month", "12": "year yr"},
    "mass": {
        "1": "kg kilogram", "1/1000": "g gram", "1/1000000": "mg milligram", "45359237/100000000": "lb pound",
        "45359237/1600000000": "oz ounce", "1000": "tonne", "90718474/100000": "ton",
    },
    "dollars": {"1": "dollar usd", "1/100": "cent"},
    "euros": {"1": "euro eur"},
    "pounds sterling": {"1": "gbp"},
    "rupees": {"1": "rupee inr"},
    "yen": {"1": "yen jpy"},
    "yuan": {"1": "yuan cny rmb"},
    "angle": {"1": "degree deg", "1/60": "arcminute", "1/3600": "arcsecond"},
    "radians": {"1": "radian rad"},
    "celsius": {"1": "celsius"},
    "fahrenheit": {"1": "fahrenheit"},
    "kelvin": {"1": "kelvin"},
    "energy": {"1": "J joule", "1000": "kJ kilojoule"},
    "force": {"1": "N newton", "1000": "kN kilonewton"},
    "power": {"1": "W watt", "1000": "kW kilowatt"},
    "frequency": {"1": "Hz hertz", "1000": "kHz kilohertz", "1000000": "MHz megahertz"},
    "current": {"1": "A amp ampere", "1/1000": "mA milliamp"},
    "voltage": {"1": "V volt", "1000": "kV kilovolt"},
    "charge": {"1": "C coulomb"},
    "amount": {"1": "mol mole"},
    "information": {
        "1": "bit", "8": "byte B", "8000": "kB KB kilobyte", "8000000": "MB megabyte", "8000000000": "GB gigabyte",
    },
    "pressure": {"1": "Pa pascal", "1000": "kPa kilopascal"},
}  # fmt: skip
_GALLON = Fraction(3785411784, 10**12)
_OTHERS = {
    "L l liter litre": Unit(Fraction(1, 1000), (("length", 3),)),
    "mL ml milliliter millilitre cc": Unit(Fraction(1, 10**6), (("length", 3),)),
    "mph": Unit(Fraction(1609344, 3600 * 1000), (("length", 1), ("time", -1))),
    "kph kmh": Unit(Fraction(1000, 3600), (("length", 1), ("time", -1))),
    "gallon gal": Unit(_GALLON, (("length", 3),)),
    "quart qt": Unit(_GALLON / 4, (("length", 3),)),
    "pint pt": Unit(_GALLON / 8, (("length", 3),)),
    "cup": Unit(_GALLON / 16, (("length", 3),)),
    "knot": Unit(Fraction(1852, 3600), (("length", 1), ("time", -1))),
    "hectare ha": Unit(Fraction(10_000), (("length", 2),)),
    "acre": Unit(Fraction(40468564224, 10**7), (("length", 2),)),
}


def _known_units() -> dict[str, Unit]:
    known = {
        name: Unit(Fraction(factor), ((base, 1),))
        for base, factors in _NAMES.items()
        for factor, names in factors.items()
        for name in names.split()
    }
    known.update({name: unit for names, unit in _OTHERS.items() for name in names.split()})
    return known


_KNOWN = _known_units()
DEGREES: Dimensions = _KNOWN["degree"].dimensions
RADIANS: Dimensions = _KNOWN["radian"].dimensions
_ONE_LETTER = frozenset(name for name in _KNOWN if len(name) == 1)
_SIGNS = {
    r"\$": "dollar",
    "$": "dollar",
    "€": "euro",
    "£": "gbp",
    "¥": "yen",
    "₹": "rupee",
    "¢": "cent",
    r"\euro": "euro",
}
_SIGN_BEFORE = re.compile(r"\s*(-?)\s*(\\\$|€|£|¥|₹|\\euro(?![a-z])|US\\\$)\s*(?=[\d.\\(])(.+)", re.DOTALL)
_SIGN_AFTER = re.compile(r"(.*[\d)}])\s*(\\\$|€|£|¥|₹|¢)\s*\.?", re.DOTALL)
_DEGREES = r"(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-z])|\\circ(?![a-z])|°)"
_TEMPERATURE = re.compile(
    rf"(.*?){_DEGREES}\s*(?:\\[,;: ])?\s*(?:\\(?:text|mathrm|rm)\s*\{{?\s*)?([CF])\s*\}}?\s*\.?", re.DOTALL
)
_ANGLE = re.compile(rf"(.*?[\d)}}a-z])\s*{_DEGREES}\s*\.?", re.DOTALL)
_OF_AN_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES_OF = re.compile(rf"(\d+(?:\.\d+)?)\s*{_DEGREES}")
_WRAPPED = re.compile(r"\\(?:text|textrm|mathrm|mbox|rm|operatorname|mathit|textnormal)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([^{}\d]+)\s*\}\s*\{\s*([^{}\d]+)\s*\}\s*$")
_SPLIT = re.compile(
    r"(?P<value>.*?[\d)}\]]|.*?\\pi|.*?\}\s*)(?P<space>(?:\s|\\[,;: !]|\\quad|~)*)"
    r"(?P<unit>[A-Za-z][A-Za-z.\s/^{}\d\-·*\\]*)$",
    re.DOTALL,
)
_TOKEN = re.compile(r"[A-Za-z]+|\^\s*\{?\s*-?\d\s*\}?|/|\\cdot|[*·]")
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_LATER_POWERS = {"squared": 2, "cubed": 3}


@dataclass(frozen=True)
class Quantity:
    """An answer without its unit, and the unit; not ``sure`` where that may be a variable (``5 m``)."""

    value: str
    unit: Unit
    sure: bool = True


def quantity(text: str, *, letters: bool) -> Quantity | None:
    """The answer as value and unit; None without a unit that is known.

    ``letters``: whether a bare single letter right after the number (``5m``) is a unit rather than a variable.
    """
    if len(text) > 300 or _OF_AN_ANGLE.search(text):
        return None
    for pattern in (_SIGN_BEFORE, _SIGN_AFTER):
        match = pattern.fullmatch(text)
        if match is not None:
            sign = match.groups()[-2] if pattern is _SIGN_BEFORE else match[2]
            value = f"{match[1]}{match[3]}" if pattern is _SIGN_BEFORE else match[1]
            inner = quantity(value, letters=False)
            return Quantity(value if inner is None else inner.value, _KNOWN[_SIGNS[sign.removeprefix("US")]])
    temperature = _TEMPERATURE.fullmatch(text)
    if temperature is not None:
        return Quantity(temperature[1], _KNOWN["celsius" if temperature[2] == "C" else "fahrenheit"])
    angle = _ANGLE.fullmatch(text)
    if angle is not None:
        return Quantity(angle[1], _KNOWN["degree"])
    return _written_out(text, letters)


def in_radians(text: str) -> str:
    r"""Degrees in an expression with a trigonometric function as radians: ``\sin 30^\circ`` is 1/2."""
    return _DEGREES_OF.sub(r"{(\\frac{\1 \\pi}{180})}", text) if _OF_AN_ANGLE.search(text) else text


def radians_of(angle: Quantity) -> str:
    """The value of a quantity in degrees, or in parts of them, in radians."""
    factor = angle.unit.factor / 180
    return rf"\frac{{{factor.numerator}}}{{{factor.denominator}}} \pi \cdot ({angle.value})"


def _written_out(text: str, letters: bool) -> Quantity | None:
    wrapped = bool(_WRAPPED.search(text))
    plain = _FRACTION.sub(r" \1/\2", _WRAPPED.sub(r" \1 ", text)).strip().rstrip(".")
    match = _SPLIT.fullmatch(plain)
    if match is None or not re.search(r"\d|\\pi", match["value"]):
        return None
    written = match["unit"]
    bare_letter = not wrapped and re.match(r"[A-Za-z](?![A-Za-z])", written) is not None
    if bare_letter and not letters and not match["space"]:
        return None
    unit = read_unit(written)
    return None if unit is None else Quantity(match["value"], unit, sure=not bare_letter)


def read_unit(written: str) -> Unit | None:
    """``cm^2``, ``square feet``, ``km/h``, ``meters per second``; None where a part of it is unknown."""
    if re.sub(_TOKEN, "", written).strip(" .{}"):
        return None
    factor, powers = Fraction(1), dict[str, int]()
    side, pending = 1, 1
    last: tuple[Unit, int] | None = None
    for token in _TOKEN.findall(written):
        if token in ("/", "per"):
            side = -1
        elif token in (r"\cdot", "*", "·", "of"):
            continue
        elif token in _POWERS:
            pending = _POWERS[token]
        elif token[0] == "^" or token in _LATER_POWERS:
            if last is None:
                return None
            power = _LATER_POWERS.get(token) or int(re.sub(r"[^\d-]", "", token))
            unit, before = last
            factor *= _add(powers, unit, before * (power - 1))
            last = None
        else:
            unit_or_none = _named(token)
            if unit_or_none is None:
                return None
            factor *= _add(powers, unit_or_none, side * pending)
            last = (unit_or_none, side * pending)
            pending = 1
    dimensions = tuple(sorted((base, power) for base, power in powers.items() if power))
    return Unit(factor, dimensions) if dimensions else None


def _add(powers: dict[str, int], unit: Unit, times: int) -> Fraction:
    for base, power in unit.dimensions:
        powers[base] = powers.get(base, 0) + power * times
    return unit.factor**times


def _named(word: str) -> Unit | None:
    if word in _KNOWN:
        return _KNOWN[word]
    lower = word.lower()
    if len(lower) < 2:
        return None
    singular = lower.removesuffix("s")
    return next((_KNOWN[name] for name in (lower, singular) if name in _KNOWN and name not in _ONE_LETTER), None)

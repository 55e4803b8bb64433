"""Units of physical quantities as they are written in answers, in LaTeX or plain text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# Exponents of metre, kilogram, second, ampere, kelvin, mole, candela.
Dimension = tuple[int, int, int, int, int, int, int]
_NONE: Dimension = (0, 0, 0, 0, 0, 0, 0)

_BASE: dict[str, tuple[float, Dimension]] = {
    "m": (1.0, (1, 0, 0, 0, 0, 0, 0)),
    "g": (1e-3, (0, 1, 0, 0, 0, 0, 0)),
    "s": (1.0, (0, 0, 1, 0, 0, 0, 0)),
    "A": (1.0, (0, 0, 0, 1, 0, 0, 0)),
    "K": (1.0, (0, 0, 0, 0, 1, 0, 0)),
    "mol": (1.0, (0, 0, 0, 0, 0, 1, 0)),
    "cd": (1.0, (0, 0, 0, 0, 0, 0, 1)),
    "N": (1.0, (1, 1, -2, 0, 0, 0, 0)),
    "J": (1.0, (2, 1, -2, 0, 0, 0, 0)),
    "W": (1.0, (2, 1, -3, 0, 0, 0, 0)),
    "Pa": (1.0, (-1, 1, -2, 0, 0, 0, 0)),
    "Hz": (1.0, (0, 0, -1, 0, 0, 0, 0)),
    "C": (1.0, (0, 0, 1, 1, 0, 0, 0)),
    "V": (1.0, (2, 1, -3, -1, 0, 0, 0)),
    "Ω": (1.0, (2, 1, -3, -2, 0, 0, 0)),
    "F": (1.0, (-2, -1, 4, 2, 0, 0, 0)),
    "T": (1.0, (0, 1, -2, -1, 0, 0, 0)),
    "L": (1e-3, (3, 0, 0, 0, 0, 0, 0)),
    "M": (1e3, (-3, 0, 0, 0, 0, 1, 0)),
    "bar": (1e5, (-1, 1, -2, 0, 0, 0, 0)),
    "atm": (101325.0, (-1, 1, -2, 0, 0, 0, 0)),
    "Torr": (101325.0 / 760, (-1, 1, -2, 0, 0, 0, 0)),
    "eV": (1.602176634e-19, (2, 1, -2, 0, 0, 0, 0)),
    "cal": (4.184, (2, 1, -2, 0, 0, 0, 0)),
    "D": (3.33564e-30, (1, 0, 1, 1, 0, 0, 0)),
}
# Units that take no prefix.
_WHOLE: dict[str, tuple[float, Dimension]] = {
    "min": (60.0, (0, 0, 1, 0, 0, 0, 0)),
    "h": (3600.0, (0, 0, 1, 0, 0, 0, 0)),
    "hr": (3600.0, (0, 0, 1, 0, 0, 0, 0)),
    "d": (86400.0, (0, 0, 1, 0, 0, 0, 0)),
    "Å": (1e-10, (1, 0, 0, 0, 0, 0, 0)),
    "ft": (0.3048, (1, 0, 0, 0, 0, 0, 0)),
    "in": (0.0254, (1, 0, 0, 0, 0, 0, 0)),
    "mi": (1609.344, (1, 0, 0, 0, 0, 0, 0)),
    "mph": (0.44704, (1, 0, -1, 0, 0, 0, 0)),
    "lb": (0.45359237, (0, 1, 0, 0, 0, 0, 0)),
    "u": (1.66053906660e-27, (0, 1, 0, 0, 0, 0, 0)),
    "amu": (1.66053906660e-27, (0, 1, 0, 0, 0, 0, 0)),
    "dm": (0.1, (1, 0, 0, 0, 0, 0, 0)),
    "°": (math.pi / 180, _NONE),
    "deg": (math.pi / 180, _NONE),
    "rad": (1.0, _NONE),
    "%": (0.01, _NONE),
}
_WORDS = {
    "meter": "m", "metre": "m", "gram": "g", "second": "s", "sec": "s", "joule": "J", "newton": "N", "watt": "W",
    "pascal": "Pa", "kelvin": "K", "mole": "mol", "volt": "V", "hertz": "Hz", "liter": "L", "litre": "L", "l": "L",
    "hour": "h", "minute": "min", "day": "d", "degree": "°", "radian": "rad", "torr": "Torr", "debye": "D",
    "coulomb": "C", "ampere": "A", "foot": "ft", "feet": "ft", "mile": "mi", "inch": "in", "ohm": "Ω",
}  # fmt: skip
_PREFIXES = {
    "f": 1e-15, "p": 1e-12, "n": 1e-9, "μ": 1e-6, "m": 1e-3, "c": 1e-2, "d": 1e-1, "k": 1e3, "M": 1e6, "G": 1e9,
    "T": 1e12, "kilo": 1e3, "mega": 1e6, "giga": 1e9, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9,
    "pico": 1e-12,
}  # fmt: skip
_LATEX_SYMBOLS = {
    r"\mu": "μ", "µ": "μ", r"\Omega": "Ω", r"\AA": "Å", r"\circ": "°", r"\degree": "°", r"\%": "%", r"\cdot": " ",
    r"\times": " ", "·": " ", "*": " ", "−": "-", "–": "-", "⁻": "^-", "²": "^2", "³": "^3", "¹": "^1",
}  # fmt: skip
_TEXT_COMMAND = re.compile(r"\\(?:mathrm|text|textrm|rm|mathbf|operatorname|mathit|left|right|displaystyle)\b\s*")
_FACTOR = re.compile(r"(/?)\s*\(?\s*([A-Za-zμΩÅ°%]+|10)\s*\)?(?:\s*\^?\s*\(?\s*([+-]?\d{1,3})\s*\)?)?\s*\)?")
_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class Unit:
    """A unit as a multiple of SI base units."""

    scale: float
    dimension: Dimension


def read_unit(text: str) -> Unit | None:
    r"""The unit that ``text`` writes: ``kJ/mol``, ``$\mathrm{~kJ} \mathrm{~mol}^{-1}$``, ``10^{-3} m``.

    A temperature in degrees Celsius is no multiple of a kelvin and gives None, as does anything that is not known.
    """
    plain = plain_unit(text)
    if not plain or len(plain) > _MOST_CHARACTERS or "°C" in plain.replace(" ", ""):
        return None
    scale, dimension, position, below = 1.0, list(_NONE), 0, False
    while position < len(plain):
        match = _FACTOR.match(plain, position)
        if match is None:
            return None
        # All that follows a slash is below it, as people write J/mol K.
        below = below or match[1] == "/"
        known = (10.0, _NONE) if match[2] == "10" else _lookup(match[2])
        if known is None:
            return None
        exponent = int(match[3] or 1) * (-1 if below else 1)
        scale *= known[0] ** exponent
        dimension = [total + exponent * one for total, one in zip(dimension, known[1], strict=True)]
        position = match.end()
        while position < len(plain) and plain[position] == " ":
            position += 1
    return Unit(scale, tuple(dimension))  # type: ignore[arg-type]


def plain_unit(text: str) -> str:
    """``text`` without LaTeX markup, factors separated by single spaces."""
    for symbol, meaning in _LATEX_SYMBOLS.items():
        text = text.replace(symbol, meaning)
    text = _TEXT_COMMAND.sub("", text)
    text = re.sub(r"\\[,;:! ]|[~$]", " ", text)
    text = text.replace("^{", "^").replace("{", "").replace("}", "").replace("^°", "°").replace("\\", "")
    text = re.sub(r"μ (?=[A-Za-z])", "μ", text.replace("^-^", "^-"))
    return " ".join(text.replace(" ^", "^").split()).strip(" .,;")


def _lookup(name: str) -> tuple[float, Dimension] | None:
    for spelling in (name, _singular(name)):
        spelling = _WORDS.get(spelling, spelling)
        if spelling in _BASE:
            return _BASE[spelling]
        if spelling in _WHOLE:
            return _WHOLE[spelling]
    for prefix, factor in _PREFIXES.items():
        rest = name.removeprefix(prefix)
        rest = _WORDS.get(_singular(rest), rest)
        if rest != name and name.startswith(prefix) and rest in _BASE:
            scale, dimension = _BASE[rest]
            return factor * scale, dimension
    return None


def _singular(name: str) -> str:
    return name.lower().rstrip("s") if len(name) > 3 else name

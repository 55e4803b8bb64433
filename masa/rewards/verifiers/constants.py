"""Whether two constants that sympy has read are the same number."""

from __future__ import annotations

from typing import Any

# Digits that exact constants are computed to, and the share of them in which equal ones agree.
_DIGITS = 60
_EXACT = 1e-40
# Decimals that differ by more than this part of themselves are different, whatever their absolute size.
_RELATIVE = 1e-5
# Decimals that agree to this part of themselves are equal: as far as floating point carries.
_FLOATING = 1e-13
_MOST_SYMBOLS = 4


def equal_constants(gold: list[Any], found: list[Any]) -> bool | None:
    """The verdict on two constants, by their values; None where a side is no constant, or has decimals that are close.

    Constants without a decimal are exact: 1/2004! is not 1/2006!, however small both are. ``e`` and ``i`` are the
    numbers where nothing else is unknown.
    """
    from sympy import Float

    if not gold or not found:
        return None
    first, second = _constant(gold[0]), _constant(found[0])
    if first is None or second is None:
        return True if _equal_with_i(gold[0], found[0]) else None
    exact = first.doit(), second.doit()
    if all(one.is_Rational for one in exact):
        return bool(exact[0] == exact[1])
    difference = _relative_difference(first, second)
    if difference is None:
        return None
    if first.has(Float) or second.has(Float):
        return True if difference < _FLOATING else False if difference > _RELATIVE else None
    return bool(difference < _EXACT)


def _equal_with_i(gold: Any, found: Any) -> bool:
    """Whether two expressions of variables and ``i`` agree at fixed points: e^{ix} is cos x + i sin x."""
    from sympy import E, Expr, Float, I, Rational

    if not (isinstance(gold, Expr) and isinstance(found, Expr)) or gold.has(Float) or found.has(Float):
        return False
    symbols = sorted(gold.free_symbols | found.free_symbols, key=str)
    names = [str(symbol) for symbol in symbols]
    if "i" not in names or len(names) > _MOST_SYMBOLS:
        return False
    for point in range(2):
        values = {"i": I, "e": E}
        numbers = {s: values.get(str(s), Rational(7 + 3 * n + 11 * point, 10 + n)) for n, s in enumerate(symbols)}
        difference = _relative_difference(gold.subs(numbers), found.subs(numbers))
        if difference is None or difference > _EXACT:
            return False
    return True


def _constant(parsed: Any) -> Any | None:
    from sympy import E, Expr, I, Symbol

    if not isinstance(parsed, Expr):
        return None
    names = {symbol.name for symbol in parsed.free_symbols if isinstance(symbol, Symbol)}
    if names and names <= {"e", "i"}:
        parsed = parsed.subs({symbol: {"e": E, "i": I}[symbol.name] for symbol in parsed.free_symbols})
    return parsed if parsed.is_number else None


def _relative_difference(first: Any, second: Any) -> float | None:
    """0 for equal, of the order of 1 for different; None where they cannot be computed."""
    try:
        a, b = first.evalf(_DIGITS), second.evalf(_DIGITS)
        if not (_is_computed(a) and _is_computed(b)):
            return None
        size = max(abs(a), abs(b), key=lambda value: value)
        if size == 0:
            return 0.0
        # What cancels to nothing is zero but for rounding.
        if min(abs(a), abs(b)) == 0 and size < _EXACT and not _is_plain(first, second):
            return 0.0
        return float(abs((a - b) / size).evalf(15))
    except (TypeError, ValueError, OverflowError, ArithmeticError, AttributeError, RecursionError):
        return None


def _is_computed(value: Any) -> bool:
    real, imaginary = value.as_real_imag()
    return bool(real.is_Float or real.is_Integer or real.is_Rational) and bool(
        imaginary.is_Float or imaginary.is_Integer or imaginary.is_Rational
    )


def _is_plain(first: Any, second: Any) -> bool:
    """Whether no sum is in either, so that nothing can have cancelled."""
    from sympy import Add

    return not (first.has(Add) or second.has(Add))

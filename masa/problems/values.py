"""Values of rows that are made in Python: numbers, texts and arrays of numpy and pandas as Python's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain_value(value: Any) -> Any:
    """``value`` with every scalar, array and column of numpy and pandas in it as Python numbers, texts and lists.

    What pandas says of a missing value is None; anything else stays as it is. Neither package is imported: where its
    values come from, it is loaded already.
    """
    package = type(value).__module__.partition(".")[0]
    if package == "pandas" and type(value).__name__ in ("NAType", "NaTType"):
        return None
    if package in ("numpy", "pandas") and hasattr(value, "tolist"):
        listed = value.tolist()
        return plain_value(listed) if isinstance(listed, list) else listed
    if type(value) is list:
        return [plain_value(entry) for entry in value]
    if type(value) is tuple:
        return tuple(plain_value(entry) for entry in value)
    if isinstance(value, Mapping):
        return {plain_value(key): plain_value(entry) for key, entry in value.items()}
    return value

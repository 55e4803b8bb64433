"""Values of rows that are made in Python: numpy's numbers, texts and arrays as Python's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain_value(value: Any) -> Any:
    """``value`` with every numpy scalar and array in it as Python numbers, texts and lists; anything else as it is.

    numpy itself is not imported: where its values come from, it is loaded already.
    """
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        listed = value.tolist()
        return plain_value(listed) if isinstance(listed, list) else listed
    if type(value) is list:
        return [plain_value(entry) for entry in value]
    if type(value) is tuple:
        return tuple(plain_value(entry) for entry in value)
    if isinstance(value, Mapping):
        return {plain_value(key): plain_value(entry) for key, entry in value.items()}
    return value

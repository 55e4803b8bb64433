"""The names by which a problem chooses its verifier."""

from __future__ import annotations

import re
from typing import Any

from masa.problems.errors import nearest, shown

VERIFIER_NAMES = ("math", "choice", "code", "exact")
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def known_verifier(name: Any) -> str:
    """``name`` itself, where it is a verifier's name or an import path (``module:function``).

    Raises:
        ValueError: anything else.
    """
    if isinstance(name, str) and (name in VERIFIER_NAMES or _IMPORT_PATH.fullmatch(name)):
        return name
    raise ValueError(
        f"verifier {shown(name)} is not known{nearest(str(name), VERIFIER_NAMES)}, "
        f"allowed: {', '.join(VERIFIER_NAMES)}, or module:function"
    )

"""A verifier for answers that are Python values (CRUXEval): equal values are right however they are written."""

from __future__ import annotations

import ast
import re

from masa.rewards.verifiers.boxed import last_boxed

_ANSWER = re.compile(r"\[ANSWER\](.*?)\[/ANSWER\]", re.DOTALL | re.IGNORECASE)
_CODE_BLOCK = re.compile(r"```(?:python)?\s*\n(.*?)```", re.DOTALL)
_LONGEST_LITERAL = 20_000


def python_literal(response: str, answer: str) -> bool:
    r"""Whether the value that the response settles on equals ``answer``, a Python literal (as ``==`` says).

    It is read from the last ``[ANSWER]...[/ANSWER]``, else the last ``\boxed{}``, else the last code block. An
    assertion ``f(...) == value`` counts as its value. Text that is no literal is compared as it stands.
    """
    found = read_answer(response)
    if found is None:
        return False
    return _equal(found, answer.strip())


def read_answer(response: str) -> str | None:
    """The text of the value that a response settles on, or None."""
    answers = _ANSWER.findall(response)
    blocks = _CODE_BLOCK.findall(response)
    text = answers[-1] if answers else last_boxed(response) or (blocks[-1] if blocks else None)
    if text is None:
        return None
    text = text.strip().strip("`").strip()
    return _right_side(text) or text


def _right_side(text: str) -> str | None:
    """``value`` of ``assert f(...) == value`` or ``f(...) == value``."""
    try:
        statement = ast.parse(text[:_LONGEST_LITERAL]).body[0]
    except (SyntaxError, ValueError, IndexError, RecursionError, MemoryError):
        return None
    test = statement.test if isinstance(statement, ast.Assert) else getattr(statement, "value", None)
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Call) and len(test.comparators) == 1:
        return ast.unparse(test.comparators[0])
    return None


def _equal(found: str, answer: str) -> bool:
    try:
        return bool(ast.literal_eval(found[:_LONGEST_LITERAL]) == ast.literal_eval(answer[:_LONGEST_LITERAL]))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return found == answer

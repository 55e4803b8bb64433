r"""The written form of a mathematical answer: what is left when typography is taken away.

Two answers with the same form are equal. Data sets store answers in forms of their own (MATH without spaces, units,
``%`` and degree signs, and with the ``\\`` between matrix rows reduced to ``\``), which no parser can read back.
"""

from __future__ import annotations

import re

_WRAPPERS = re.compile(r"\\(?:text|mbox|mathrm|mathbf|mathit|textbf|textit|textrm|rm|bf|operatorname|hbox)(?=\s*\{)\s*")
_DROPPED = re.compile(
    r"\\(?:left|right|big|Big|bigg|Bigg|displaystyle|limits)(?![a-zA-Z])\.?"
    r"|\\[,!;: ]|~|\\%|%|\\\$|\$|\^\s*\{?\s*\\circ\s*\}?|\\degree|°|\s+"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRACTION = re.compile(r"\\frac(\d)(\d)")
_HALF_SHORT_FRACTION = re.compile(r"\\frac(\d)(?=\{)|(\\frac\{[^{}]*\})(\d)")
_BACKSLASHES = re.compile(r"\\+")
_JOINING_WORDS = re.compile(r"\{,?(?:and|or)?,?\}")
_THOUSANDS = re.compile(r"(?<!\d)-?\d{1,3}(?:,\d{3})+(?!\d)")
_UNIT_AT_END = re.compile(r"(?<=[\d})])\{[A-Za-z./,]+\}$")
_INTEGER = re.compile(r"[+-]?\d{1,4000}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z'.\-]*(?:[\s~]+[A-Za-z'.\-]+)*")
_TEXT_ONLY = re.compile(r"\s*(?:\\(?:text|mbox|textbf|textit|textrm)\s*)?\{\s*([^{}\d\\]*)\}[\s.,]*")
_MATRIX = re.compile(r"(\\begin\{[pbvBV]?matrix\})(.*?)(\\end\{[pbvBV]?matrix\})", re.DOTALL)
_SINGLE_BACKSLASH = re.compile(r"(?<!\\)\\(?=[\s\d+\-.(a-zA-Z]?(?:[\s\d+\-.(]|[a-zA-Z](?![a-zA-Z])))")


def written_form(answer: str) -> str:
    """The form; empty for an answer that says nothing."""
    form = _WRAPPERS.sub("", answer)
    form = _DROPPED.sub("", form)
    form = _FRACTION.sub(r"\\frac", form)
    form = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", form)
    form = _HALF_SHORT_FRACTION.sub(lambda m: f"\\frac{{{m[1]}}}" if m[1] else f"{m[2]}{{{m[3]}}}", form)
    form = _JOINING_WORDS.sub(",", _BACKSLASHES.sub(r"\\", form))
    form = re.sub(r",+", ",", form).strip(".,;:")
    form = form.removeprefix(r"\approx")
    form = _UNIT_AT_END.sub("", form)
    while form.startswith("{") and _closes_at_end(form):
        form = form[1:-1].strip(".,;:")
    if re.fullmatch(r"\([A-Za-z]\)", form):
        form = form[1:-1]
    return form


def integer_value(form: str) -> int | None:
    """The value of a form that is a plain integer; None for anything else, digits grouped by commas included."""
    return int(form) if _INTEGER.fullmatch(form) else None


def is_words(answer: str, form: str) -> bool:
    r"""Whether an answer is words rather than a formula: ``\text{east}``, ``{east}``, or bare letters from four on."""
    if text := _TEXT_ONLY.fullmatch(answer):
        return bool(_WORDS.fullmatch(text[1].strip())) and len(form) > 1
    return bool(_WORDS.fullmatch(answer.strip())) and len(form) > 3


def repair_matrix_rows(answer: str) -> str:
    r"""Row ends of a matrix that a data set reduced to one backslash (``1&2\3&4``) doubled again."""

    def repair(match: re.Match[str]) -> str:
        return match[1] + _SINGLE_BACKSLASH.sub(r"\\\\", match[2]) + match[3]

    return _MATRIX.sub(repair, answer)


def _closes_at_end(form: str) -> bool:
    depth = 0
    for position, character in enumerate(form):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return position == len(form) - 1
    return False

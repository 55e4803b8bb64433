r"""The written form of a mathematical answer: what is left when typography is taken away.

Two answers with the same form are equal. Data sets store answers in forms of their own (MATH without spaces, units,
``%`` and degree signs, and with the ``\\`` between matrix rows reduced to ``\``), which no parser can read back.
"""

from __future__ import annotations

import re

from masa.rewards.verifiers.forms.numerals import Rational, numeral

_WRAPPERS = re.compile(
    r"\\(?:text|mbox|mathrm|mathbf|mathit|textbf|textit|textrm|textnormal|rm|bf|operatorname|hbox)(?=\s*\{)\s*"
)
_DROPPED = re.compile(
    r"\\(?:left|right|big|Big|bigg|Bigg|displaystyle|limits)(?![a-zA-Z])\.?"
    r"|\\[,!;: ]|~|\\%|%|\\\$|\$|\^\s*\{?\s*\\circ\s*\}?|\\degree|°|\s+"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRACTION = re.compile(r"\\frac(\d)(\d)")
_HALF_SHORT_FRACTION = re.compile(r"\\frac(\d)(?=\{)|(\\frac\{[^{}]*\})(\d)")
_BACKSLASHES = re.compile(r"\\+")
_JOINING_WORDS = re.compile(r"\{,?(?:and|or)?,?\}")
_UNIT_AT_END = re.compile(r"(?<=[\d})])\{[A-Za-z./,]+\}$")
_GROUPED_DIGITS = re.compile(r"\d{1,3}(?:,\d{3})+")
_PERCENT = re.compile(r"%|\b(?:percent|percentage|pct)\b", re.IGNORECASE)
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
    # A point at the start is a decimal point; at the end it ends a sentence.
    form = re.sub(r",+", ",", form).lstrip(",;:").rstrip(".,;:")
    form = form.removeprefix(r"\approx")
    form = _UNIT_AT_END.sub("", form)
    while form.startswith("{") and _closes_at_end(form):
        form = form[1:-1].lstrip(",;:").rstrip(".,;:")
    if re.fullmatch(r"\([A-Za-z]\)", form):
        form = form[1:-1]
    return form


def rational_value(answer: str, form: str) -> Rational | None:
    """The value of an answer that is a plain number; None for anything else, percentages included."""
    return None if is_percentage(answer) else numeral(form)


def pair_entries(form: str) -> tuple[str, ...] | None:
    """The entries of a point or an interval, its brackets first and last; None for anything else."""
    if len(form) < 5 or form[0] not in "([" or form[-1] not in ")]":
        return None
    entries = split_entries(form[1:-1])
    return None if entries is None else (form[0], *entries, form[-1])


def is_percentage(answer: str) -> bool:
    return bool(_PERCENT.search(answer))


def point_entries(form: str) -> list[str] | None:
    """The entries of what is written in parentheses, two or more; None for anything else."""
    return split_entries(form[1:-1]) if form.startswith("(") and form.endswith(")") else None


def without_braces_of_one(form: str) -> str:
    """The point in a set of one point; any other form as it is."""
    inner = form[2:-2]
    single = form.startswith("\\{") and form.endswith("\\}") and inner.startswith("(") and split_entries(inner) is None
    return inner if single and point_entries(inner) else form


def bare_entries(form: str) -> list[str] | None:
    """The entries of a list that stands in no brackets; None for anything else."""
    return None if form.startswith("\\{") else list_entries(form)


def is_set(form: str) -> bool:
    """Whether entries stand in braces: unlike those of a point they have no order."""
    return form.startswith("\\{") and form.endswith("\\}") and list_entries(form) is not None


def is_words(answer: str, form: str) -> bool:
    r"""Whether an answer is words rather than a formula: ``\text{east}``, ``{east}``, or bare letters from four on.

    A letter in ``\text`` names an option or a statement, not a variable.
    """
    if text := _TEXT_ONLY.fullmatch(answer):
        return bool(_WORDS.fullmatch(text[1].strip("() ")))
    return bool(_WORDS.fullmatch(answer.strip())) and len(form) > 3


def list_entries(form: str) -> list[str] | None:
    """The entries of a set or of a list without brackets; None for anything else, a number with commas included."""
    if form.startswith("\\{") and form.endswith("\\}"):
        form = form[2:-2]
    elif _GROUPED_DIGITS.fullmatch(form):
        return None
    return split_entries(form)


def split_entries(text: str) -> list[str] | None:
    """The parts between commas that stand in no bracket, two or more; None where one is empty or a bracket is open."""
    entries = [""]
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return None
        if character == "," and depth == 0:
            entries.append("")
        else:
            entries[-1] += character
    return entries if depth == 0 and len(entries) > 1 and all(entries) else None


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

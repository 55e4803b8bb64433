"""Text work on rows: bare statements, boxed answers, worked answers."""

from __future__ import annotations

import re
from hashlib import blake2b

# An instruction is looked for at the two ends of a statement only, so that long statements cost nothing.
_WINDOW = 400

_FINISH = r"[^\n.?!]{0,160}[.!]?\s*\Z"
_BOX = r"\\?boxed\s*(?:\{[^{}\n]{0,40}\})?"
_TRAILING = [
    # "Let's think step by step and output the final answer within \boxed{}.", also after a statement without a stop
    re.compile(rf"(?:let[’']?s|please)\s+(?:think|reason|solve)[^\n.?!]{{0,80}}step[ -]by[ -]step{_FINISH}", re.I),
    # A sentence of its own: "Put your final answer within \boxed{}.", "Think step by step."
    re.compile(
        r"(?:\A|(?<=[.?!:;$)\]}\"'\n])\s*)"
        r"(?:and\s+)?(?:please|then|now|finally|think|reason|solve|put|place|give|write|output|return|present|provide"
        r"|enclose|box|remember|make sure|show|your (?:final )?answer|the (?:final )?answer)\b"
        rf"[^\n.?!]{{0,160}}?(?:step[ -]by[ -]step|{_BOX}){_FINISH}",
        re.I,
    ),
    re.compile(r"(?:\A|(?<=\s))Remember to put your answer on its own line after \"Answer:\"\.?\s*\Z", re.I),
]
_LEADING = re.compile(
    r"\A\s*Solve the following (?:math )?problem[^\n]{0,120}?step[ -]by[ -]step\.?[^\n]{0,240}\n+", re.I
)


def bare_statement(text: str) -> str:
    """``text`` without the requests around it to think step by step or to box the answer, with ``\\n`` line ends."""
    text = text.replace("\r\n", "\n").strip()
    if lead := _LEADING.match(text):
        text = text[lead.end() :].strip()
    while True:
        start = max(0, len(text) - _WINDOW)
        found = [match.start() for pattern in _TRAILING if (match := pattern.search(text, start))]
        shorter = text[: min(found)].rstrip() if found else text
        # A statement that is nothing but an instruction is left alone: it is what the row asks.
        if not found or not shorter:
            return text
        text = shorter


def last_boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}`` or ``\\fbox{...}`` with balanced braces, or None."""
    for match in reversed(list(re.finditer(r"\\f?boxed\s*(?=\{)", text))):
        depth = 0
        for position in range(match.end(), len(text)):
            if text[position - 1] == "\\" and text[position] in "{}":
                continue
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[match.end() + 1 : position].strip()
    return None


_FINAL_LINE = re.compile(r"(?:\A|\n)\s*####\s*([^\n]*)\s*\Z")
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_GROUPED_NUMBER = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def split_worked_answer(text: str) -> tuple[str, str] | None:
    """Solution and answer of a GSM8K answer, which ends in a line ``#### 42``; None for any other text.

    Calculator annotations (``<<48/2=24>>``) leave the solution, thousands separators leave the answer.
    """
    if not (match := _FINAL_LINE.search(text)):
        return None
    answer = match[1].strip()
    if _GROUPED_NUMBER.fullmatch(answer):
        answer = answer.replace(",", "")
    return _CALCULATOR.sub("", text[: match.start()]).strip(), answer


def statement_key(statement: str) -> str:
    """The same 16 hexadecimal digits for statements that differ in white space alone."""
    return blake2b(" ".join(statement.split()).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

"""Text work on rows: bare statements, boxed answers, worked answers."""

from __future__ import annotations

import re
from hashlib import blake2b

# A request is looked for in the last characters of a statement only, so that long statements cost nothing.
_WINDOW = 400

_SENTENCE_START = re.compile(r"\A|(?<=[.?!:;$)\]}\"'\n])\s*")
_SENTENCE = re.compile(r"[^\n.?!]+[.!]?")
_REQUEST_OPENING = re.compile(
    r"(?:and |let[’']?s |please )*(?:(?:think|reason|solve|put|place|give|write|output|return|present|provide|enclose"
    r"|box|remember|make sure|show)\b|(?:your|the) (?:final )?answer (?:should|must)\b)",
    re.IGNORECASE,
)
_STEP_BY_STEP = re.compile(r"step[ -]by[ -]step", re.IGNORECASE)
_BOX_THE_ANSWER = re.compile(r"(?=.*\b(?:answer|result|solution)\b).*\bboxed\b", re.IGNORECASE)
_OWN_LINE = re.compile(r"Remember to put your answer on its own line after \"Answer:\"\.?", re.IGNORECASE)
# Only this opening is clear enough to be a request where the sentence before it has no stop.
_UNSTOPPED_REQUEST = re.compile(r"(?<=\s)(?:let[’']?s|please) (?:think|reason|solve)\b", re.IGNORECASE)
_LEADING_REQUEST = re.compile(
    r"\s*Solve the following (?:math )?problem[^\n]{0,120}?step[ -]by[ -]step[^\n]{0,240}\n+", re.IGNORECASE
)


def unix_lines(text: str) -> str:
    """``text`` with every line end as ``\\n``."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def bare_statement(text: str) -> str:
    """``text`` without the requests around it to think step by step or to box the answer, with ``\\n`` line ends."""
    text = unix_lines(text).strip()
    if lead := _LEADING_REQUEST.match(text):
        text = text[lead.end() :].strip()
    while True:
        shorter = _without_last_request(text)
        # A statement that is nothing but a request is left alone: it is what the row asks.
        if not shorter or shorter == text:
            return text
        text = shorter


def _without_last_request(text: str) -> str:
    window = max(0, len(text) - _WINDOW)
    starts = [match.end() for match in _SENTENCE_START.finditer(text, window)]
    starts += [match.start() for match in _UNSTOPPED_REQUEST.finditer(text, window)]
    requests = [start for start in starts if _is_request(text[start:])]
    return text[: min(requests)].rstrip() if requests else text


def _is_request(sentence: str) -> bool:
    if _OWN_LINE.fullmatch(sentence):
        return True
    if not _SENTENCE.fullmatch(sentence) or not _REQUEST_OPENING.match(sentence):
        return False
    return bool(_STEP_BY_STEP.search(sentence) or _BOX_THE_ANSWER.match(sentence))


def last_boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}`` or ``\\fbox{...}`` with balanced braces, or None."""
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*(?=\{)", text))):
        depth = 0
        for position in range(match.end(), len(text)):
            if text[position - 1] == "\\" and text[position] in "{}":
                continue
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[match.end() + 1 : position].strip()
    return None


_DELIMITED = re.compile(r"\A(?:\$\$(?P<a>[^$]+)\$\$|\$(?P<b>[^$]+)\$|\\\((?P<c>.+)\\\)|\\\[(?P<d>.+)\\\])\Z", re.DOTALL)
_ANSWER_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def answer_of_solution(text: str) -> str | None:
    """The answer that a solution ends with, or that it is; None where it gives none.

    In this order: the last ``\\boxed{}``, the last ``<answer>`` tags, a last line ``#### 42``; and the whole text where
    it is one formula between ``$`` or LaTeX's brackets, or has no white space in it.
    """
    if boxed := last_boxed(text):
        return boxed
    if tagged := [found for one in _ANSWER_TAGS.findall(text) if (found := one.strip())]:
        return answer_of_solution(tagged[-1]) or tagged[-1]
    if worked := split_worked_answer(text):
        return worked[1] or None
    whole = text.strip()
    if formula := _DELIMITED.match(whole):
        return next(part.strip() for part in formula.groups() if part is not None) or None
    return whole if whole and not re.search(r"\s", whole) else None


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

r"""One spelling for what is typography: Unicode symbols, bold and upright type, ``**`` as power, mixed numbers.

Every rule takes text to LaTeX text that means the same; what no rule knows stays as it is.
"""

from __future__ import annotations

import re

from masa.rewards.verifiers.forms.numerals import improper_fraction, repeating_decimal
from masa.rewards.verifiers.forms.words import spelled_number

_SYMBOLS = {
    "∞": r"\infty ", "∅": r"\emptyset ", "⌀": r"\emptyset ",
    "Ø": r"\emptyset ", "π": r"\pi ", "𝜋": r"\pi ", "θ": r"\theta ",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "φ": r"\phi ", "ω": r"\omega ",
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "⁄": "/", "∕": "/",
    "−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-",
    "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in ",
    "∪": r"\cup ", "∩": r"\cap ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "∖": r"\setminus ", "±": r"\pm ",
    "∨": r"\lor ", "∧": r"\land ", "…": r"\ldots ", "⋯": r"\cdots ", "º": "°", "˚": "°", "ℯ": "e", "ⅇ": "e", "ⅈ": "i",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}",
    "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2003": " ", "\u3000": " ",
}  # fmt: skip
_TABLE = str.maketrans({**_SYMBOLS, **{chr(0xFF01 + n): chr(0x21 + n) for n in range(94)}})
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉"
_RAISED_TABLE = str.maketrans(_RAISED, "0123456789+-ni")
_LOWERED_TABLE = str.maketrans(_LOWERED, "0123456789")

_GROUP = r"\{([^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*)\}"
_ATOM_AFTER_ROOT = r"\s*(?:(\()|" + _GROUP + r"|(\d+(?:\.\d+)?|\\pi|[A-Za-z]))"
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]", "sqrt": r"\sqrt", "cbrt": r"\sqrt[3]"}
_ROOT = re.compile(r"(√|∛|∜|(?<![A-Za-z\\])(?:sqrt|cbrt))" + _ATOM_AFTER_ROOT)
_BOLD = re.compile(r"\\(?:mathbf|boldsymbol|bm|pmb|mathbfit|symbf|bold|underline)\s*" + _GROUP)
_BOLD_NUMBER = re.compile(
    r"\\(?:textbf|textit|emph|textcolor\{[a-z]+\}|color\{[a-z]+\})\s*\{([^{}A-Za-z]*\d[^{}A-Za-z]*)\}"
)
_BOLD_SWITCH = re.compile(r"\\(?:bf|bfseries|mathversion\{bold\})(?![A-Za-z])")
_MARKDOWN = re.compile(r"(\*{1,3}|_{2,3})(?=\S)(.+?)(?<=\S)\1[.\s]*")
_HTML_STYLE = re.compile(r"<\s*(b|strong|i|em|u|mark)\s*>([^<]*)<\s*/\s*\1\s*>", re.IGNORECASE)
_CIS = re.compile(
    r"(?:\\(?:text|mathrm|operatorname|textrm)\s*\{\s*cis\s*\}|\\cis(?![A-Za-z])|(?<![A-Za-z\\])cis(?![A-Za-z]))\s*"
    r"(?:\\left)?(?:\((?P<inside>[^()]*?)(?:\\right)?\)|(?P<bare>-?(?:\\[dt]?frac\s*"
    + _GROUP
    + r"\s*"
    + _GROUP
    + r"|[\d.]*\s*\\pi|"
    r"[\d.]+)(?:\s*/\s*\d+)?(?:\s*\^\s*\{?\s*\\circ\s*\}?|\s*°)?))"
)
_DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|°)\s*")
# The number of combinations as some write it: {}_5C_2, ^5C_2.
_COMBINATIONS = re.compile(
    r"(?:\{\s*\})?\s*[_^]\s*\{?\s*(\d+)\s*\}?\s*(?:C|\\(?:mathrm|text)\{C\})\s*_\s*\{?\s*(\d+)\s*\}?"
)
_UPRIGHT = re.compile(r"\\(?:mathrm|operatorname|mathit|mathsf|mathnormal|rm)\s*\{\s*(e|i|\\pi)\s*\}")
_UPRIGHT_E = re.compile(r"\\text(?:rm)?\s*\{\s*e\s*\}(?=\s*\^)|\{\\rm\s+e\}|\\rm\s+e(?=\s*\^)")
_UPRIGHT_PI = re.compile(r"\\uppi(?![A-Za-z])")
_LOG_TO_E = re.compile(r"\\log\s*_\s*(?:e(?![A-Za-z])|\{\s*e\s*\})")
_BARE_FONT = re.compile(r"\\(?:mathrm|mathit|mathbf|boldsymbol|bm|rm)(?:\s+(?=[A-Za-z](?![A-Za-z]))|\s*(?=\d))")
_FUNCTION = re.compile(r"\\(?:mathrm|operatorname)\s*\{(ln|log|sin|cos|tan|exp|arctan|arcsin|arccos)\}")
_EMPTY_SET = re.compile(r"\\varnothing|\\left\\\{\s*\\right\\\}|\\\{\s*\\\}|\\O(?![A-Za-z])|\\text\{\s*\\O\s*\}")
_EMPTY_WORDS = re.compile(
    r"(?:\\text\{)?\s*(?:(?:the )?(?:empty|null) set|no (?:real )?solutions?)\.?\s*\}?", re.IGNORECASE
)
_ALL_REALS = re.compile(r"(?:\\text\{)?\s*(?:all|any) real(?:s| numbers?)\.?\s*\}?", re.IGNORECASE)
_NO_LIMIT = re.compile(r"(?:\\text\{)?\s*(?:DNE|do(?:es)? not exist|doesn't exist)\.?\s*\}?", re.IGNORECASE)
_COLON = re.compile(r"\\(?:text|mathrm|mathpunct)\s*\{\s*:\s*\}|\{\s*:\s*\}|\\colon(?![A-Za-z])")
_MONEY_SIGN = re.compile(r"\\(?:text|mathrm)\s*\{\s*(€|£|¥|₹|¢|\\\$)\s*\}")
_OPENING_ANGLE = re.compile(r"(?:\\left\s{0,9})?(?:\\langle|⟨)")
_CLOSING_ANGLE = re.compile(r"(?:\\right\s{0,9})?(?:\\rangle|⟩)\.?$")
# Patterns that begin with space take time with the square of its length.
_LONG_SPACE = re.compile(r"\s{3,}")
_OVERLINED = re.compile("(?:\\d[\u0304\u0305])+")
_NEGATIVE_INFINITY = re.compile(r"\s*(?:\\text\{)?\s*(?:negative|minus|-)\s*(?:infinity|inf)\s*\}?\s*", re.IGNORECASE)
_DEGREE_LETTER = re.compile(r"(?<=\d)\s*\^\s*(?:\{\s*[oO]\s*\}|o)(?![A-Za-z])")
_LARGE_WORD = re.compile(
    r"(?<=\d)(?:\s|\\[,; ]|~)*(?:\\text\{)?\s*(hundred|thousand|million|billion|trillion)(?![a-z])\s*\}?", re.IGNORECASE
)
_LARGE = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_INFINITY = re.compile(
    r"\\(?:text|mathrm)\{\s*(?:infinity|inf)\s*\}|(?<![A-Za-z\\])(?:infinity|inf)(?![A-Za-z])", re.IGNORECASE
)
_PLUS_INFINITY = re.compile(r"(?:(?<=[(\[,{])|^)\s*(?:\+|positive)\s*(?=\\infty)")
_SCIENTIFIC = re.compile(r"(?<![A-Za-z\d.\\}])(\d+(?:\.\d*)?|\.\d+)\s*[eE]\s*([+-]?\d{1,6})(?![\d.A-Za-z^{])")
_TIMES_TEN = re.compile(r"(?<=\d)\s*(?:[xX*]|\\ast)\s*(?=10\s*(?:\^|\*\*))")
_BARE_EXPONENT = re.compile(r"\^\s*([+-]?\d{2,}|-\d)(?![\d{])")
_STACKED = re.compile(
    r"\*\*\s*(?P<atom>[+-]?\d+(?:\.\d+)?|[+-]?(?:\\[a-z]+|[A-Za-z])|\((?:[^()]*)\))(?P<rest>\^\{.*\})?"
)
# Where a list has spaces after its commas, a comma without one belongs to a number.
_SPACED_LIST = re.compile(r",\s|(?<![A-Za-z])(?:and|or)(?![A-Za-z])")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d])")
_ODD_ROOT = re.compile(r"\\sqrt\s*\[([3579])\]\s*\{\s*-\s*([\d.]+)\s*\}")
_PLAIN_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])")
_RELATIONS = (
    (re.compile(r"\\(?:leqslant|leqq|leq|le)(?![A-Za-z])|<=|=<"), r"\\le "),
    (re.compile(r"\\(?:geqslant|geqq|geq|ge)(?![A-Za-z])|>=|=>"), r"\\ge "),
    (re.compile(r"\\(?:neq|ne)(?![A-Za-z])|\\not\s*=|!="), r"\\ne "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
)
_MOST_POWERS = 12
_MOST_ROOTS = 40


def one_typography(answer: str) -> str:
    """The answer in one spelling; not shorter than needed: spaces stay where they separate."""
    text = answer.translate(_TABLE) if not answer.isascii() else answer
    if not text.isascii():
        text = re.sub(f"[{_RAISED}]+", lambda m: f"^{{{m[0].translate(_RAISED_TABLE)}}}", text)
        text = _OVERLINED.sub(lambda m: rf"\overline{{{re.sub('[^0-9]', '', m[0])}}}", text)
        text = re.sub(f"[{_LOWERED}]+", lambda m: f"_{{{m[0].translate(_LOWERED_TABLE)}}}", text)
    text = _LONG_SPACE.sub("  ", text.strip().strip("$").strip())
    emphasised = _MARKDOWN.fullmatch(text)
    if emphasised and emphasised[1] not in emphasised[2]:
        text = emphasised[2]
    text = _HTML_STYLE.sub(r"\2", _HTML_STYLE.sub(r"\2", text))
    text = _bold_and_upright(text)
    text = _COMBINATIONS.sub(r"\\binom{\1}{\2}", _CIS.sub(_polar, text))
    text = _roots(text)
    text = _EMPTY_SET.sub(r"\\emptyset ", text)
    if _EMPTY_WORDS.fullmatch(text):
        text = r"\emptyset"
    elif _NO_LIMIT.fullmatch(text):
        text = r"\text{DNE}"
    elif _ALL_REALS.fullmatch(text):
        text = r"\mathbb{R}"
    elif _NEGATIVE_INFINITY.fullmatch(text):
        text = r"-\infty"
    text = _MONEY_SIGN.sub(r"\1", _COLON.sub(":", spelled_number(text)))
    text = _round_brackets(text)
    text = _DEGREE_LETTER.sub(r"^\\circ", text)
    text = _LARGE_WORD.sub(lambda m: f" \\times 10^{{{_LARGE[m[1].lower()]}}} ", text)
    text = _PLUS_INFINITY.sub("", _INFINITY.sub(r"\\infty ", text))
    text = _ODD_ROOT.sub(r"(-\\sqrt[\1]{\2})", text)
    if _SPACED_LIST.search(text):
        text = _GROUPED.sub(lambda m: m[0].replace(",", ""), text)
    text = _TIMES_TEN.sub(r" \\times ", text)
    text = _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)
    text = _powers(text)
    text = _PLAIN_PI.sub(r"\\pi ", text)
    for pattern, sign in _RELATIONS:
        text = pattern.sub(sign, text)
    return improper_fraction(repeating_decimal(text)).strip()


def _round_brackets(text: str) -> str:
    """A vector in angle brackets as a point; any other text as it is."""
    opening, closing = _OPENING_ANGLE.match(text), _CLOSING_ANGLE.search(text, max(0, len(text) - 30))
    if opening is None or closing is None or "," not in text[opening.end() : closing.start()]:
        return text
    return f"({text[opening.end() : closing.start()]})"


def _polar(match: re.Match[str]) -> str:
    r"""``cis`` of an angle, cos + i sin, as the exponential that it is."""
    angle = match["inside"] or match["bare"]
    if _DEGREES.search(angle):
        angle = rf"\frac{{({_DEGREES.sub('', angle)}) \pi}}{{180}}"
    return rf" e^{{i ({angle})}}"


def _bold_and_upright(text: str) -> str:
    text = _BARE_FONT.sub("", _UPRIGHT_E.sub("e", _UPRIGHT.sub(r"\1", text)))
    text = _LOG_TO_E.sub(r"\\ln ", text)
    text = _UPRIGHT_PI.sub(r"\\pi", _FUNCTION.sub(r"\\\1 ", text))
    for pattern in (_BOLD, _BOLD_NUMBER):
        text = pattern.sub(r"\1", text)
    return _BOLD_SWITCH.sub("", text)


def _roots(text: str) -> str:
    """Root signs and ``sqrt()`` as commands, from the right, so that what they hold is done already."""
    for match in reversed(list(_ROOT.finditer(text))[:_MOST_ROOTS]):
        inside, end = match[3] or match[4] or "", match.end()
        if match[2]:
            end = _closing(text, match.end())
            inside = text[match.end() : end - 1]
        text = f"{text[: match.start()]}{_ROOTS[match[1]]}{{{inside}}}{text[end:]}"
    return text


def _closing(text: str, start: int) -> int:
    """The position after the parenthesis that closes what was opened before ``start``; the end where none does."""
    depth = 1
    for position in range(start, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position + 1
    return len(text) + 1


def _powers(text: str) -> str:
    """``**`` as ``^{}``, from the right, so that a tower stands as Python reads it."""
    for _ in range(_MOST_POWERS):
        at = text.rfind("**")
        power = _STACKED.match(text, at) if at > 0 else None
        if power is None:
            break
        text = f"{text[:at].rstrip()}^{{{power['atom']}{power['rest'] or ''}}}{text[power.end() :]}"
    return _BARE_EXPONENT.sub(r"^{\1}", text)

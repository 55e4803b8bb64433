"""The prompt templates that have a name: `default` here, `paper` beside, the embedded worlds' beside their policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from masa.embedded import templates as embedded
from masa.embedded.long import templates as embedded_long
from masa.problems.paper_templates import PAPER_META, PAPER_SOLUTION

TemplateKind = Literal["solution", "meta"]

DEFAULT_SOLUTION = r"""
{{ problem }}

{% if verifier == "choice" -%}
Reason step by step, then give the letter of the right option within \boxed{}.
{%- elif verifier == "code" -%}
Think about the approach first, then give the complete solution in one Python code block that starts with ```python and ends with ```.
{%- else -%}
Reason step by step, and put the final answer within \boxed{}.
{%- endif %}

{% if hint %}

These notions may help: {{ hint }}
{% endif %}
"""  # noqa: E501 (a line of the template is a line of the prompt)

# Free reasoning between <meta> and </meta>, then one JSON object with the three predictions.
DEFAULT_META = r"""
{% set shortest = 128 if response_limit > 128 else 1 %}
Here is a problem. Do not solve it now. Predict instead what would happen if you solved it {{ pass_rate_total }} times, starting afresh each time and writing at most {{ response_limit }} tokens.

<problem>
{{ problem }}
</problem>

First weigh the problem freely between <meta> and </meta>: what it rests on, where a solution of yours could go wrong, and how much you would have to write. Then close with one JSON object that has exactly these keys:

- "{{ keys.notions }}": a list of strings, the notions that your correct solutions would use and your wrong ones would miss (theorems, techniques, concepts). Leave out every notion that is already written in the problem.
- "{{ keys.pass_rate }}": an integer from 0 to {{ pass_rate_total }}, how many of your {{ pass_rate_total }} solutions would be correct.
- "{{ keys.solution_length }}": an integer from {{ shortest }} to {{ response_limit }}, the tokens that one correct solution of yours would take.

Your response has this form:

<meta>
your thoughts
</meta>
{"{{ keys.notions }}": ["...", "..."], "{{ keys.pass_rate }}": ..., "{{ keys.solution_length }}": ...}
"""  # noqa: E501 (a line of the template is a line of the prompt)


NAMED_TEMPLATES: Mapping[TemplateKind, Mapping[str, str]] = {
    "solution": {
        "default": DEFAULT_SOLUTION,
        "paper": PAPER_SOLUTION,
        "embedded": embedded.SOLUTION_TEMPLATE,
        "embedded:long": embedded_long.SOLUTION_TEMPLATE,
    },
    "meta": {
        "default": DEFAULT_META,
        "paper": PAPER_META,
        "embedded": embedded.META_TEMPLATE,
        "embedded:long": embedded_long.META_TEMPLATE,
    },
}

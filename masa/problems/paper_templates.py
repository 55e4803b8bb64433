"""The templates `paper`: what the paper's prompts ask for (arXiv 2510.03259v2), said in this project's words."""

PAPER_SOLUTION = r"""
{{ problem }}

{% if verifier == "choice" -%}
Work through it one step at a time. End with the letter of your choice inside \boxed{}.
{%- elif verifier == "code" -%}
Work through it one step at a time. End with the whole program in one Python code block that starts with ```python and ends with ```.
{%- else -%}
Work through it one step at a time. End with the final answer inside \boxed{}.
{%- endif %}

{% if hint %}

Notions that may be of use: {{ hint }}
{% endif %}
"""  # noqa: E501 (a line of the template is a line of the prompt)

# Reasoning between the tags, an example of the reasoning for each of the three components, then the JSON object.
PAPER_META = r"""
{% set shortest = 128 if response_limit > 128 else 1 %}
You are shown a problem. Say what will happen when you try to solve it, without solving it.

Problem:
{{ problem }}

Reason between <meta> and </meta> about three things, one after the other:

1. Notions: the mathematical ideas, theorems or methods that a correct solution rests on and that the statement does not mention itself. For example: "the sum runs over all divisors, so multiplicativity should come in, and then a geometric series".
2. Pass rate: of {{ pass_rate_total }} independent attempts of yours, how many would reach the right answer, from 0 to {{ pass_rate_total }}. For example: "the idea is familiar and the cases are easy to mix up, so a few attempts will go wrong; I expect {{ (3 * pass_rate_total) // 4 }}".
3. Solution length: the number of tokens that a correct solution of yours has, from {{ shortest }} to {{ response_limit }}. For example: "two substitutions and a short check, no more than {{ [response_limit // 8, shortest] | max }} tokens".

After </meta> write one JSON object and nothing else:

{"{{ keys.notions }}": [notions as strings], "{{ keys.pass_rate }}": integer, "{{ keys.solution_length }}": integer}
"""  # noqa: E501 (a line of the template is a line of the prompt)

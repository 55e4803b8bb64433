"""The two prompt templates (jinja2) of the long embedded world, as its policy was warm-started on them."""

from __future__ import annotations

SOLUTION_TEMPLATE = "Solve: {{ problem }}{% if hint %} Hint: {{ hint }}.{% endif %}"
META_TEMPLATE = "Predict: {{ problem }}"

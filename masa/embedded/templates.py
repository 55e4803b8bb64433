"""The embedded world's two prompt templates (jinja2), as the shipped policy was warm-started on them.

The chat template of the tokenizer is applied on top; ``corpus.py`` and the configs render these very strings.
"""

from __future__ import annotations

SOLUTION_TEMPLATE = "Solve: {{ problem }}"
META_TEMPLATE = "Predict: {{ problem }}"

"""Imported by the fork server alone: does once what every worker would otherwise do before its first answer.

math-verify compiles its patterns and antlr builds its tables on first use, about a quarter of a second. Workers forked
afterwards have both.
"""

from __future__ import annotations

import gc
import logging

import masa.rewards.verifiers.choice
import masa.rewards.verifiers.code
import masa.rewards.verifiers.exact
import masa.rewards.worker  # noqa: F401 (loaded for the workers)
from masa.rewards.verifiers.mathematics import equal_answers

# math-verify warns that its own timeouts are off: in a worker the kernel keeps the time.
logging.getLogger("math_verify").setLevel(logging.CRITICAL)

# A fraction, a matrix, an interval, an equation and a root reach most of the grammar and of sympy's lazy imports.
for predicted, gold in (
    (r"\frac{1}{2}", "0.5"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}"),
    (r"[1, \infty) \cap \mathbb{Z}", r"(1, \infty)"),
    (r"e^{2i}", r"\sqrt{2} + \sin 3"),
    (r"x^2 + y = 3\sqrt{2}", r"y = 3\sqrt{2} - x^2 + 1"),
    (r"\{1, 2\}", r"\{1, 2, 3\}"),
):
    equal_answers(predicted, gold)

# Kept out of the collector's sight, these objects' pages stay shared between the workers.
gc.collect()
gc.freeze()

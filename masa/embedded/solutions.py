"""Worked solutions as a fallible author writes them: two named methods, remarks, hesitations and slips.

The author's slips are what gives the warm-started policy its partial competence: the policy imitates them at the same
rate, and may learn by reinforcement to leave them out or to prefer the method that has fewer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

LABELS = "abcdefgh"
"""The letters that a problem's numbers carry."""


@dataclass(frozen=True)
class Method:
    """A way to add up, by the name it gives itself; ``slip`` is its chance of a slip per addition.

    ``slip_small`` holds where the numbers have one digit, ``slip_medium`` where any has more. A problem's first
    addition never slips.
    """

    name: str
    slip_small: float
    slip_medium: float


RUNNING_TOTAL = Method("running total", slip_small=0.03, slip_medium=0.08)
ROUNDING = Method("rounding", slip_small=0.35, slip_medium=0.55)
METHODS = (RUNNING_TOTAL, ROUNDING)

REMARK_RATE = 0.3
REMARKS = (" good", " ok so far", " that is fine")
# Nothing, little or much to say: the correct solutions of one problem spread over a range of lengths.
OPENINGS = ("", " One step at a time.", " Let me add them one after the other and with care.")
CLOSINGS = ("", " I checked it.", " That is all of them, and I went over it twice.")
HESITATIONS = ("hm", "wait", "let me see", "not sure", "once more")
ERRORS = (-10, -2, -1, 1, 2, 10)
LUCKY_HESITATION = 0.1


def clean_solution(values: tuple[int, ...]) -> str:
    """The running total without remarks or slips; it ends in the boxed sum."""
    steps, total = [f" {LABELS[0]}={values[0]};"], values[0]
    for label, value in zip(LABELS[1:], values[1:], strict=False):
        steps.append(f" {label}:{total}+{value}={total + value};")
        total += value
    return f"By {RUNNING_TOTAL.name}.{''.join(steps)} Answer: \\boxed{{{total}}}"


def worked_solution(values: tuple[int, ...], method: Method, rng: random.Random) -> str:
    """One solution by ``method``, with the author's remarks and slips; the boxed answer may be wrong."""
    slip_rate = method.slip_medium if max(values) > 9 else method.slip_small
    parts = [f"By {method.name}.", rng.choice(OPENINGS), f" {LABELS[0]}={values[0]};"]
    total = values[0]
    for i, value in enumerate(values[1:], start=1):
        step = f" {LABELS[i]}:{total}+{value}"
        if method is ROUNDING:
            step += f"~{total // 10 * 10}+{value}"
        total += value
        if i > 1 and rng.random() < slip_rate:
            step += "=" + ", ".join(rng.choice(HESITATIONS) for _ in range(rng.randint(1, 3)))
            if rng.random() >= LUCKY_HESITATION:
                total = max(0, total + rng.choice(ERRORS))
        step += f"={total};"
        if rng.random() < REMARK_RATE:
            step += rng.choice(REMARKS) + ";"
        parts.append(step)
    parts.append(rng.choice(CLOSINGS))
    parts.append(f" Answer: \\boxed{{{total}}}")
    return "".join(parts)

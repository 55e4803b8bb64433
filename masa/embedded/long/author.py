"""Worked solutions as a fallible author writes them: an order of the steps, slips, doubts and fresh starts.

The author's habits are what the warm-started policy imitates. How often he takes a kind's right order, and how often he
slips on it, differs from kind to kind; both can be mended by reinforcement. A slip that he notices makes him start
again at once, and so may a pass in the wrong order. Once he has doubted he is confused: he finds the right order less
often and slips more, so solutions that run long are mostly wrong.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from masa.embedded.long.world import KINDS, MODULUS, ORDERS, Chain, apply


@dataclass(frozen=True)
class Habit:
    """How the author fares with a kind: the chance that he takes its right order, and that he slips, a step."""

    right: float
    slip: float


HABITS: Mapping[str, Habit] = {
    "amber": Habit(0.4, 0.03),
    "birch": Habit(0.998, 0.0005),
    "coral": Habit(0.02, 0.005),
    "denim": Habit(0.98, 0.003),
    "ember": Habit(0.02, 0.01),
    "flint": Habit(0.998, 0.0005),
    "grape": Habit(0.35, 0.04),
    "hazel": Habit(0.2, 0.03),
    "ivory": Habit(0.0, 0.005),
    "jade": Habit(0.998, 0.0005),
    "khaki": Habit(0.6, 0.05),
    "lilac": Habit(0.02, 0.01),
    "maple": Habit(0.998, 0.0005),
    "navy": Habit(0.998, 0.0005),
    "ochre": Habit(0.998, 0.0005),
    "pearl": Habit(0.8, 0.03),
    "quartz": Habit(0.998, 0.0005),
    "ruby": Habit(0.8, 0.02),
    "slate": Habit(0.15, 0.03),
    "topaz": Habit(0.02, 0.005),
    "umber": Habit(0.5, 0.02),
    "violet": Habit(0.03, 0.01),
    "walnut": Habit(0.998, 0.0005),
    "zinc": Habit(0.1, 0.02),
}
MAX_PASSES = 4
NOTICES_SLIP = 0.95
NOTICES_ORDER = 0.6
# After a doubt the right order is found less often by this factor, and slips are more frequent: by the other factor,
# and never rarer than the last number says.
CONFUSED_RIGHT = 0.5
CONFUSED_SLIP = 2.0
LEAST_CONFUSED_SLIP = 0.06
SLIPS = (-2, -1, 1, 2, 10)
OPENINGS = ("", "", " Step by step.")
DOUBTS = (" Hm, again by", " Hm, no, wait, again by")
CLOSINGS = ("", "", " Checked twice and sure.")


def clean_solution(chain: Chain) -> str:
    """The right order without slips; it ends in the boxed answer."""
    order = KINDS[chain.kind]
    text, value, _ = _pass(chain, order, 0.0, random.Random(0), doubts=False)
    return f"By {order}.{text} So \\boxed{{{value:02d}}}"


def worked_solution(chain: Chain, rng: random.Random, order: str | None = None) -> str:
    """One solution with the author's habits; the boxed answer may be wrong.

    ``order`` is the order of the first pass, None: as the author is used to.
    """
    habit = HABITS[chain.kind]
    used = order or drawn_order(chain.kind, rng)
    parts = [f"By {used}.", rng.choice(OPENINGS)]
    slip = habit.slip
    for number in range(1, MAX_PASSES + 1):
        text, value, noticed = _pass(chain, used, slip, rng, doubts=number < MAX_PASSES)
        parts.append(text)
        astray = used != KINDS[chain.kind] and rng.random() < NOTICES_ORDER
        if not noticed and not (astray and number < MAX_PASSES):
            break
        used = drawn_order(chain.kind, rng, confused=True)
        slip = max(LEAST_CONFUSED_SLIP, habit.slip * CONFUSED_SLIP)
        parts.append(f"{rng.choice(DOUBTS)} {used}.")
    parts.append(rng.choice(CLOSINGS))
    parts.append(f" So \\boxed{{{value:02d}}}")
    return "".join(parts)


def drawn_order(kind: str, rng: random.Random, *, confused: bool = False) -> str:
    """An order as the author takes it for ``kind``: the right one by habit, else one of the others."""
    right = KINDS[kind]
    chance = HABITS[kind].right * (CONFUSED_RIGHT if confused else 1.0)
    if rng.random() < chance:
        return right
    return rng.choice([order for order in ORDERS if order != right])


def _pass(chain: Chain, order: str, slip: float, rng: random.Random, *, doubts: bool) -> tuple[str, int, bool]:
    """The steps once, in ``order``: text, last value, and whether the pass was broken off at a slip that was noticed.

    Without ``doubts`` no slip is noticed.
    """
    value, parts = chain.start, [f" {chain.start:02d}"]
    for position in ORDERS[order](len(chain.operations)):
        value = apply(chain.operations[position], value)
        slipped = slip > 0 and rng.random() < slip
        if slipped:
            value = (value + rng.choice(SLIPS)) % MODULUS
        parts.append(f" {chain.labels[position]} {chain.operations[position]} {value:02d}")
        if slipped and doubts and rng.random() < NOTICES_SLIP:
            return "".join(parts), value, True
    return "".join(parts), value, False

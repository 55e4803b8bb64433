"""The long problem family: a value below twenty, a chain of labelled steps, and a kind that decides their order.

A statement names its kind, its number of steps, the first value and the steps: ``amber of 03 from 07: a+8 b*3 c+1.``
Each kind has one right order of the steps (forward, backward or alternating), which no statement names. The orders of a
problem give three different answers, so a solution in the wrong order is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from masa.embedded.splits import Split, split_by_hash

LABELS = "abcdefghijklmnop"
SOURCE = "embedded-long"
LARGEST_COUNT: dict[Split, int] = {"train": 4096, "test": 256}
MODULUS = 20
# Each can be undone modulo twenty, so no step makes the steps before it count for nothing.
OPERATIONS = (*(f"+{d}" for d in range(1, 10)), "*3", "*7", "*9")
_ADDITIONS, _MULTIPLICATIONS = OPERATIONS[:9], OPERATIONS[9:]


@dataclass(frozen=True)
class Size:
    """A grade of length: fewest and most steps, and this grade's share of any problem list (per cent)."""

    name: str
    fewest: int
    most: int
    share: int


SIZES = (Size("short", 3, 4, 8), Size("middling", 5, 8, 20), Size("long", 9, 12, 32), Size("very long", 13, 16, 40))


def forward(count: int) -> list[int]:
    """Positions of ``count`` steps from the first to the last."""
    return list(range(count))


def backward(count: int) -> list[int]:
    """Positions from the last to the first."""
    return list(range(count - 1, -1, -1))


def alternating(count: int) -> list[int]:
    """Every other position from the first one on, then those left out: a, c, e, b, d."""
    return [*range(0, count, 2), *range(1, count, 2)]


ORDERS: Mapping[str, Callable[[int], list[int]]] = {
    "forward": forward,
    "backward": backward,
    "alternating": alternating,
}
# The right order of each kind. Which kinds the policy is good at is the warm start's doing (author.py) and stands in
# no statement.
KINDS: Mapping[str, str] = {
    "amber": "alternating",
    "birch": "forward",
    "coral": "backward",
    "denim": "backward",
    "ember": "forward",
    "flint": "alternating",
    "grape": "forward",
    "hazel": "backward",
    "ivory": "alternating",
    "jade": "backward",
    "khaki": "forward",
    "lilac": "alternating",
    "maple": "forward",
    "navy": "backward",
    "ochre": "alternating",
    "pearl": "backward",
    "quartz": "forward",
    "ruby": "alternating",
    "slate": "forward",
    "topaz": "forward",
    "umber": "backward",
    "violet": "backward",
    "walnut": "alternating",
    "zinc": "alternating",
}


@dataclass(frozen=True)
class Chain:
    """One problem: kind, first value (0 to 19) and the operations of its steps, in the order of the statement."""

    kind: str
    start: int
    operations: tuple[str, ...]

    @property
    def labels(self) -> str:
        return LABELS[: len(self.operations)]

    @property
    def statement(self) -> str:
        steps = " ".join(f"{label}{operation}" for label, operation in zip(self.labels, self.operations, strict=True))
        return f"{self.kind} of {len(self.operations):02d} from {self.start:02d}: {steps}."

    @property
    def answer(self) -> int:
        return self.value_by(KINDS[self.kind])

    def value_by(self, order: str) -> int:
        """The last value where the steps go in ``order``."""
        value = self.start
        for position in ORDERS[order](len(self.operations)):
            value = apply(self.operations[position], value)
        return value


def apply(operation: str, value: int) -> int:
    """``+d`` adds and ``*d`` multiplies, modulo twenty."""
    number = int(operation[1:])
    return (value * number if operation[0] == "*" else value + number) % MODULUS


def split_of(chain: Chain) -> Split:
    """The split that owns this problem: a hash decides, so train and test never share one."""
    return split_by_hash(chain.statement)


def draw_chain(kind: str, count: int, rng: random.Random) -> Chain:
    """A random problem of ``count`` steps whose orders give different answers."""
    while True:
        operations = tuple(
            rng.choice(_ADDITIONS) if rng.random() < 0.6 else rng.choice(_MULTIPLICATIONS) for _ in range(count)
        )
        chain = Chain(kind, rng.randrange(MODULUS), operations)
        if len({chain.value_by(order) for order in ORDERS}) == len(ORDERS):
            return chain

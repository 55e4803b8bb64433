"""What the embedded worlds' problem lists have in common: two splits without a shared problem, and shares of grades."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
TEST_FRACTION = 8

Member = TypeVar("Member")


def split_by_hash(text: str) -> Split:
    """The split that owns the problem written as ``text``: a hash decides, so train and test never share one."""
    digest = hashlib.sha256(text.encode()).digest()
    return "test" if digest[0] % TEST_FRACTION == 0 else "train"


def require_count(world: str, split: str, count: int, largest: Mapping[Split, int]) -> None:
    """
    Raises:
        ValueError: an unknown split, or a count outside of what the split of ``world`` holds.
    """
    if split not in SPLITS:
        raise ValueError(f"{world} split is {split!r}, allowed: 'train', 'test'")
    if not 1 <= count <= largest[split]:
        raise ValueError(f"count is {count}, allowed for the {world} {split} split: 1 to {largest[split]}")


def shuffled_by_share(
    members: Sequence[Member], exact: Sequence[float], count: int, rng: random.Random
) -> list[Member]:
    """``count`` in random order, each of ``members`` about ``exact`` times; the largest remainders round up."""
    quota = [int(e) for e in exact]
    by_remainder = sorted(range(len(members)), key=lambda i: quota[i] - exact[i])
    for i in by_remainder[: count - sum(quota)]:
        quota[i] += 1
    order = [member for member, n in zip(members, quota, strict=True) for _ in range(n)]
    rng.shuffle(order)
    return order

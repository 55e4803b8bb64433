"""Hints that no policy has predicted, for studies of what a hint is worth (`controls.own.hint`, docs/studies.md)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from masa.embedded.long.world import ORDERS
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction


def right_order(problem: Problem, predictions: Sequence[MetaPrediction]) -> str | None:
    """The order of the steps that is right for this problem, as an oracle knows it; None outside of the long world."""
    order = problem.metadata.get("order")
    return None if order is None else str(order)


def random_order(problem: Problem, predictions: Sequence[MetaPrediction]) -> str:
    """One of the three orders, right or not: always the same one for the same problem."""
    return random.Random(f"embedded/long/hint/{problem.id}").choice(list(ORDERS))

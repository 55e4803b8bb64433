"""The hints of the long world's studies: an oracle's and a random one."""

from __future__ import annotations

from collections import Counter

from masa.embedded.long import long_problems
from masa.embedded.long.hints import random_order, right_order
from masa.embedded.long.world import KINDS, ORDERS
from masa.problems import Problem


def test_the_oracles_hint_names_the_order_of_the_problems_kind():
    problems = long_problems("test")
    assert [right_order(one, []) for one in problems] == [KINDS[one.metadata["kind"]] for one in problems]
    elsewhere = Problem(id="1", statement="1 + 1", answer="2", source="own")
    assert right_order(elsewhere, []) is None


def test_the_random_hint_is_one_of_the_orders_about_equally_often_and_does_not_change():
    problems = long_problems("test")
    hints = [random_order(one, []) for one in problems]
    assert hints == [random_order(one, []) for one in problems]
    counts = Counter(hints)
    assert set(counts) == set(ORDERS)
    assert min(counts.values()) > len(problems) / 5
    right = sum(hint == right_order(one, []) for hint, one in zip(hints, problems, strict=True))
    assert len(problems) / 5 < right < len(problems) / 2

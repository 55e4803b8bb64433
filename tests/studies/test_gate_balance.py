"""The balance of a gate, with numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from masa.studies.gate_balance import gate_balance
from masa.studies.record import COSTS, Record


def record(*, drawn, gated, metas, solutions, precision, flat):
    totals = dict.fromkeys(COSTS, 0.0) | {
        "tokens": metas + solutions,
        "cost/problems_drawn": drawn,
        "cost/problems_gated": gated,
        "cost/meta_tokens": metas,
        "cost/solution_tokens": solutions,
    }
    course = {"rollout/solved_all": [flat, flat], "rollout/solved_none": [0.1, 0.1]}
    if precision is not None:
        # Before it opens the gate gates nothing, and what is measured of it then says nothing of what it gated.
        course |= {"control/gate_precision": [None, 0.01, precision]}
        course |= {"control/gated_share": [0.0, 0.0, 0.4], "control/gate_open": [0.0, 0.0, 1.0]}
    spent = {cost: [0.0] for cost in COSTS}
    return Record("s", "a", 0, "f", {}, {}, [0], [0.0], spent, totals, 0.0, course)


BASE = record(drawn=100, gated=0, metas=0, solutions=1000, precision=None, flat=0.4)


def test_a_perfect_gate_breaks_even_where_it_gates_as_much_as_its_metas_cost():
    # 100 drawn, 40 gated; 60 solved at 10 tokens, metas of 2 tokens: r = 0.2, q = 0.4, u = 0.5.
    balance = gate_balance([record(drawn=100, gated=40, metas=200, solutions=600, precision=1.0, flat=0.2)], [BASE])
    assert balance.ratio == pytest.approx(0.2)
    assert balance.gated == pytest.approx(0.4)
    assert balance.informative == pytest.approx(0.5)
    assert balance.break_even == pytest.approx(0.2)
    assert balance.saving == pytest.approx(1 / 0.8)  # 50 informative groups for 800 tokens, against 50 for 1,000
    # 60 groups were solved, 0.3 of them flat: 42 informative ones for 800 tokens.
    assert balance.measured == pytest.approx((42 / 800) / (50 / 1000))


def test_a_gate_that_gates_informative_problems_needs_to_gate_more_of_them():
    # A quarter of the 40 gated would have taught: 40 of 50 informative groups are left, for 800 tokens.
    balance = gate_balance([record(drawn=100, gated=40, metas=200, solutions=600, precision=0.75, flat=0.2)], [BASE])
    assert balance.saving == pytest.approx((40 / 800) / (50 / 1000))
    assert balance.break_even == pytest.approx(0.4)
    assert balance.saving == pytest.approx(1.0)


def test_a_gate_no_better_than_chance_never_breaks_even():
    balance = gate_balance([record(drawn=100, gated=40, metas=200, solutions=600, precision=0.5, flat=0.2)], [BASE])
    assert math.isinf(balance.break_even)
    assert balance.saving < 1


def test_several_runs_count_together():
    one = record(drawn=100, gated=40, metas=200, solutions=600, precision=1.0, flat=0.2)
    other = replace(one, totals=one.totals | {"cost/problems_gated": 20, "cost/solution_tokens": 800})
    balance = gate_balance([one, other], [BASE, BASE])
    assert balance.gated == pytest.approx(0.3)
    assert balance.ratio == pytest.approx(0.2)


def test_precision_is_that_of_the_problems_that_were_gated():
    # In the second half 0.5 of the drawn ones are gated, in the first 0.2: four times the problems for each place.
    one = record(drawn=100, gated=40, metas=200, solutions=600, precision=1.0, flat=0.2)
    one.course["control/gate_precision"], one.course["control/gated_share"] = [0.9, 0.4], [0.2, 0.5]
    assert gate_balance([one], [BASE]).precision == pytest.approx((0.25 * 0.9 + 1.0 * 0.4) / 1.25)
    left_out = replace(one, options={"controls.gating.gated": "leave_out"})
    assert gate_balance([left_out], [BASE]).precision == pytest.approx((0.2 * 0.9 + 0.5 * 0.4) / 0.7)


def test_runs_without_a_gate_have_no_balance():
    assert gate_balance([BASE], [BASE]) is None
    ranked = record(drawn=100, gated=40, metas=200, solutions=600, precision=1.0, flat=0.2)
    ranked.course.pop("control/gate_open")
    assert gate_balance([ranked], [BASE]) is None
    unaudited = record(drawn=100, gated=40, metas=200, solutions=600, precision=None, flat=0.2)
    assert gate_balance([unaudited], [BASE]) is None

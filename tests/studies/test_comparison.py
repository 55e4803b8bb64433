"""Comparisons of arms with numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from masa.studies.comparison import accuracy_at, compare, cost_to_reach, final_accuracy, mean_record, oracle_saving
from masa.studies.record import COSTS, Record, RecordError


def record(accuracy, tokens, *, arm="grpo", seed=0, flat=0.0, drawn=0.0, metas=0.0):
    spent = {cost: [float(value) for value in tokens] for cost in COSTS}
    totals = {cost: float(tokens[-1]) for cost in COSTS}
    totals |= {"cost/problems_drawn": drawn, "cost/meta_tokens": metas, "cost/problems_gated": 0.0}
    course = {"rollout/solved_all": [0.1, 0.4], "rollout/solved_none": [0.3, 0.2]}
    environment = {"platform": "a machine", "cpu_count": 2, "packages": {"torch": "2"}}
    return Record(
        "s", arm, seed, "f", {}, environment, list(range(len(accuracy))), list(accuracy), spent, totals, flat, course
    )


def test_the_final_accuracy_is_the_mean_of_the_last_two_evaluations():
    assert final_accuracy(record([0.1, 0.5, 0.7], [0, 10, 20])) == pytest.approx(0.6)
    assert final_accuracy(record([0.4], [0])) == 0.4


def test_the_cost_to_reach_an_accuracy_is_interpolated_on_the_moving_mean():
    one = record([0.2, 0.4, 0.6], [0, 100, 200])  # moving mean 0.2, 0.3, 0.5
    assert cost_to_reach(one, 0.4, "tokens") == pytest.approx(150)
    assert cost_to_reach(one, 0.1, "tokens") == 0
    assert math.isnan(cost_to_reach(one, 0.51, "tokens"))


def test_the_accuracy_at_a_cost_is_interpolated_and_unknown_beyond_the_end():
    one = record([0.2, 0.4, 0.6], [0, 100, 200])
    assert accuracy_at(one, "tokens", 150) == pytest.approx(0.4)
    assert accuracy_at(one, "tokens", 0) == pytest.approx(0.2)
    assert math.isnan(accuracy_at(one, "tokens", 201))


def test_savings_are_geometric_means_of_paired_ratios():
    base = {0: record([0.0, 0.4, 0.4], [0, 100, 200]), 1: record([0.0, 0.4, 0.4], [0, 100, 200])}
    # The moving mean is at 0.4 after 100 tokens in one seed and after 25 in the other.
    quick = {0: record([0.0, 0.4, 0.4], [0, 50, 100]), 1: record([0.0, 0.4, 0.4], [0, 12.5, 25])}
    grpo, arm = compare({"grpo": base, "quick": quick}, "grpo", ["tokens"])
    assert grpo.saving["tokens"].mean == pytest.approx(1)
    assert grpo.gain.mean == 0
    assert arm.reached == {"tokens": 2}
    assert arm.saving["tokens"].mean == pytest.approx(math.sqrt(2 * 8))
    assert arm.strict_saving["tokens"].mean == pytest.approx(math.sqrt(2 * 8))
    half = 12.706204736 * (math.log(8) - math.log(2)) / 2  # t interval of two values: quantile x half their distance
    assert arm.saving["tokens"].low == pytest.approx(math.exp(math.log(4) - half), rel=1e-4)


def test_equal_amounts_are_what_the_thriftiest_arm_of_a_seed_spent():
    base = {0: record([0.0, 0.2, 0.4], [0, 100, 200])}  # moving mean 0, 0.1, 0.3
    short = {0: record([0.0, 0.4], [0, 50])}
    grpo, arm = compare({"grpo": base, "short": short}, "grpo", ["tokens"])
    assert grpo.at_equal["tokens"].mean == pytest.approx(0.05)
    assert arm.at_equal["tokens"].mean == pytest.approx(0.2)
    assert arm.gain_at_equal["tokens"].mean == pytest.approx(0.15)


def test_an_arm_that_never_reaches_the_target_has_no_saving_and_one_without_a_shared_seed_no_row():
    base = {0: record([0.4, 0.4], [0, 100])}
    results = compare(
        {"grpo": base, "low": {0: record([0.1, 0.1], [0, 100])}, "other": {7: base[0]}}, "grpo", ["tokens"]
    )
    assert [one.arm for one in results] == ["grpo", "low"]
    assert results[1].reached == {"tokens": 0}
    assert math.isnan(results[1].saving["tokens"].mean)
    assert results[1].gain.mean == pytest.approx(-0.3)


def test_runs_are_averaged_at_each_evaluation_and_only_where_they_share_them():
    one = mean_record([record([0.2, 0.4], [0, 100]), record([0.4, 0.8], [0, 300], seed=1)])
    assert one.accuracy == pytest.approx([0.3, 0.6])
    assert one.spent["tokens"] == [0, 200]
    with pytest.raises(RecordError, match=r"arm grpo: .*seed 0 at 0 and seed 1 at 0, 1;.*evaluation\.every"):
        mean_record([record([0.2], [0]), record([0.2, 0.4], [0, 1], seed=1)])


def test_the_oracles_saving_by_hand():
    one = record([0.5], [1000], flat=600, drawn=10)
    assert oracle_saving(one, tokens_a_meta=5, num_metas=0) == pytest.approx(1000 / 400)
    assert oracle_saving(one, tokens_a_meta=5, num_metas=8) == pytest.approx(1000 / (400 + 400))
    assert oracle_saving(record([0.5], [1000], flat=1000), tokens_a_meta=5, num_metas=0) == math.inf

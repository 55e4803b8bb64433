"""Selection in whole steps: batches stay full, all methods have the same metrics, and runs resume bit for bit."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from controls_world import World, prediction
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import _config, _rows, _train, _weights

from masa.config import ConfigError, load_config
from masa.controls.batch import ShapedBatch
from masa.controls.measuring import outcome_of

METHODS = ("meta", "combined", "history", "posterior", "markov", "value_head", "oracle")
RATES = {f"p{n:02}": (0.0, 0.5, 1.0)[n % 3] for n in range(60)}


def reads(prompts: Any, passes: int) -> list[list[float]]:
    """A state that shows which third of the problems a prompt is of, behind noise."""
    states = []
    for prompt in prompts:
        draw = random.Random(str(prompt))
        states.append([draw.gauss(0, 1) for _ in range(4)])
    return states


def world(method: str, *overrides: str, rates: dict[str, float] = RATES, predict: Any = None) -> World:
    made = World(
        predict or (lambda problem, draw: prediction(rates[problem], 20)),
        rates,
        "algorithm.num_problems=8",
        "problems.train=embedded:train",
        f"controls.selection.method={method}",
        "controls.gating.start=open",
        "controls.gating.audit_share=0.2",
        *overrides,
    )
    made.controls.read_prompts = reads
    return made


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_audited_by_the_same_metrics(method: str) -> None:
    made = world(method)
    for step in range(1, 30):
        batch, groups, metrics = made.step(step)
        assert len(groups) == 8
    assert metrics["control/gate_audits"] > 0
    for name in ("precision", "recall", "f1"):
        value, low, high = (metrics[f"control/gate_{name}{end}"] for end in ("", "_low", "_high"))
        assert 0 <= low <= value <= high <= 1
    if method in ("meta", "oracle"):
        assert metrics["control/gate_precision"] > 0.95
    assert batch.flagged is not None
    assert {one.problem.id for one in batch.gated} <= batch.flagged
    assert batch.audited <= batch.flagged


@pytest.mark.parametrize("method", ["posterior", "markov", "value_head"])
def test_a_ranking_fills_the_batch_from_one_draw_of_candidates(method: str) -> None:
    made = world(method, "controls.selection.candidates=2.5")
    for step in range(1, 6):
        batch, groups, _ = made.step(step)
        assert (len(groups), len(batch.gated)) == (8, 12)


def test_a_problem_that_is_not_selected_costs_neither_metas_nor_solutions_where_metas_decide_nothing() -> None:
    made = world("posterior")
    batch, groups, _ = made.step(1)
    solved = {one.problem.id for one in groups}
    assert {one.problem_id for one in made.engine.requests} == solved
    assert all(not one.metas for one in batch.gated)
    assert all(len(one.metas) == 4 for one in groups)


def test_selected_problems_may_be_shaped_by_their_metas() -> None:
    made = world("posterior", "controls.cutoff.enabled=true", "controls.hinting.enabled=true")
    batch, groups, _ = made.step(1)
    assert set(batch.plans) == {one.problem.id for one in groups}
    # Whoever measures the selection is not cut.
    assert {id for id, plan in batch.plans.items() if plan.in_full} == batch.audited


def test_the_oracle_leaves_out_flat_groups_alone_and_says_what_it_sampled() -> None:
    made = world("oracle", "controls.gating.audit_share=0.0", "controls.gating.gated=leave_out")
    batch, groups, _ = made.step(1)
    assert batch.uncounted_tokens > 0
    flat = [one.problem.id for one in groups if one.statistics.pass_rate in (0, 1)]
    # At most three quarters may be left out, so some flat ones can be let through.
    assert set(flat) == batch.let_through
    assert all(RATES[one.problem.id] != 0.5 or one.problem.id in batch.flagged for one in batch.gated)


def test_the_oracle_samples_no_solution_twice() -> None:
    made = world("oracle", "controls.gating.audit_share=0.0")
    batch, groups, _ = made.step(1)
    asked = [one.problem_id for one in made.engine.requests if one.path == "solution"]
    assert len(asked) == len(set(asked)) == len(groups) + len(batch.gated)
    assert all(one.statistics.pass_rate not in (0, 1) for one in groups if one.problem.id not in batch.flagged)
    sampled = sum(len(one.token_ids) for one in made.engine.rollouts if one.path == "solution")
    assert batch.uncounted_tokens + sum(len(one.token_ids) for group in groups for one in group.solutions) == sampled


def test_what_differs_by_the_overlong_punishment_alone_teaches_and_is_not_flat() -> None:
    lengths = random.Random(0)
    made = World(
        lambda problem, draw: prediction(1.0, 20),
        dict.fromkeys(RATES, 1.0),
        "problems.train=embedded:train",
        "controls.selection.method=oracle",
        "controls.gating.start=open",
        "algorithm.overlong.punish_tokens=40",
        length=lambda problem, right: lengths.randint(10, 60),
    )
    batch, groups, _ = made.step(1)
    assert all(one.statistics.pass_rate == 1 for one in groups)
    assert not batch.flagged
    assert not batch.gated
    assert not any(outcome_of(group).flat for group in groups)


def test_without_selection_there_are_no_metrics_of_it() -> None:
    made = World(lambda problem, draw: prediction(0.5, 20), RATES, "controls.selection.method=none")
    _, _, metrics = made.step(1)
    assert not metrics


def test_a_value_head_learns_before_the_controls_are_on() -> None:
    made = world("value_head", "controls.stabilised.after_step=2")
    for step in (1, 2):
        batch, groups, metrics = made.step(step)
        assert len(batch.problems) == len(groups) == len(batch.prompts_read) == 8
        assert "control/value_head_error" in metrics
    batch, _, _ = made.step(3)
    assert len(batch.prompts_read) == 16


EVIDENCE = st.one_of(st.floats(), st.floats(-1, 1), st.just(math.nan), st.just(math.inf), st.just(1e308))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(METHODS),
    st.lists(st.lists(EVIDENCE, min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=5),
    st.floats(1, 16),
    st.floats(0, 1),
    st.integers(0, 2**31),
    st.integers(6, 30),
)
def test_no_prediction_starves_or_crashes_a_run(
    method: str,
    states: list[list[float]],
    kinds: list[float],
    candidates: float,
    audit_share: float,
    seed: int,
    size: int,
) -> None:
    rates = {f"p{n:02}": kinds[n % len(kinds)] for n in range(size)}
    made = World(
        lambda problem, draw: prediction(draw.choice((0.0, 1.0)), 20),
        rates,
        "algorithm.num_problems=6",
        "algorithm.num_solutions=3",
        "algorithm.num_metas=2",
        f"controls.selection.method={method}",
        f"controls.selection.candidates={candidates}",
        "controls.gating.start=open",
        f"controls.gating.audit_share={audit_share}",
        f"run.seed={seed}",
    )
    made.controls.read_prompts = lambda prompts, passes: [states[len(one) % len(states)] for one in prompts]
    for step in range(1, 6):
        batch, groups, _ = made.step(step)
        assert 1 <= len(groups) <= 6
        if made.controls.selector is not None and made.controls.selector.ranks:
            assert len(groups) == 6
        assert not {one.id for one in batch.problems} & {one.problem.id for one in batch.gated}
        state = json.loads(json.dumps(made.controls.state_dict(), allow_nan=False))
        made.controls.load_state_dict(state)


@pytest.mark.parametrize("method", METHODS)
def test_a_world_restored_in_the_middle_selects_as_if_nothing_had_happened(method: str) -> None:
    def made() -> World:
        return world(method, predict=lambda problem, draw: prediction(draw.choice((0, 1)), draw.randint(5, 60)))

    whole, resumed = made(), made()
    for step in range(1, 7):
        expected, _, metrics = whole.step(step)
        batch, _, again = resumed.step(step)
        assert (batch.rollouts, batch.gated, str(again)) == (expected.rollouts, expected.gated, str(metrics))
        state = json.loads(json.dumps({"c": resumed.controls.state_dict(), "s": resumed.sampler.state_dict()}))
        resumed = made()
        resumed.controls.load_state_dict(state["c"])
        resumed.sampler.load_state_dict(state["s"])


@pytest.mark.parametrize("method", [pytest.param("history", marks=pytest.mark.slow), "value_head"])
def test_a_run_that_selects_resumes_bit_for_bit(tmp_path: Path, method: str) -> None:
    options = (
        f"controls.selection.method={method}",
        "controls.gating.start=open",
        "controls.gating.max_rounds=1",
        "controls.selection.history.exploration=0.1",
        "algorithm.meta=false",
        "problems.limit=8",
    )
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    _train(_config(whole, *options))
    _train(_config(resumed, *options, "run.steps=2"))
    _train(_config(resumed, *options), resume=True)
    rows = _rows(whole)
    assert _rows(resumed) == rows
    expected, found = _weights(whole), _weights(resumed)
    assert all(found[key].equal(expected[key]) for key in expected)
    assert sum(row["cost/problems_gated"] for row in rows[1:]) > 0
    if method == "value_head":
        assert all(row["cost/selection_flops"] > 0 for row in rows[1:])
        assert all(row["cost/problems_drawn"] == 8 for row in rows[1:])
    assert not (whole / "predictions.jsonl").exists() or not (whole / "predictions.jsonl").read_text()


def test_a_value_head_reads_prompts_for_steps_that_are_sampled_ahead_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    options = (
        "controls.selection.method=value_head",
        "controls.gating.start=open",
        "algorithm.meta=false",
        "rollout.async_steps=1",
        "algorithm.tis_cap=2",
        "problems.limit=8",
    )
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    _train(_config(whole, *options))
    rows = _rows(whole)
    assert [row["rollout/staleness_max"] for row in rows[1:]] == [0, 1, 1, 1]
    assert all(row["cost/problems_drawn"] == 8 for row in rows[1:])
    assert all(row["cost/selection_flops"] > 0 for row in rows[1:])
    _train(_config(resumed, *options))
    (resumed / "checkpoints" / "step_000004").rename(tmp_path / "taken away")
    _train(_config(resumed, *options), resume=True)
    assert _rows(resumed) == rows
    expected, found = _weights(whole), _weights(resumed)
    assert all(found[key].equal(expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["controls.selection.method=meta", "algorithm.meta=false"], ["'meta'", "needs meta-predictions"]),
        (["controls.selection.method=combined", "algorithm.meta=false"], ["'combined'", "needs meta-predictions"]),
        (["controls.selection.combined.discount=1.5"], ["controls.selection.combined.discount", "1.5", "at most 1"]),
        (
            ["controls.selection.method=markov", "algorithm.dynamic_sampling.enabled=true"],
            ["'markov'", "dynamic_sampling", "exclude each other"],
        ),
        (["controls.selection.method=oracle", "problems.train=gsm8k"], ["'gsm8k'", "embedded problems"]),
        (
            ["controls.selection.method=posterior", "controls.gating.enabled=true"],
            ["'posterior'", "gating.enabled", "meta, or null"],
        ),
        (["controls.selection.method=random"], ["controls.selection.method", "random", "posterior"]),
        (["controls.selection.candidates=0.5"], ["controls.selection.candidates", "0.5", "at least 1"]),
        (["controls.selection.markov.prior=.inf"], ["controls.selection.markov.prior", "inf", "a finite number"]),
        (["controls.selection.markov.prior=1.0e+300"], ["controls.selection.markov.prior", "at most 1000000"]),
        (
            ["controls.selection.method=history", "controls.gating.audit_share=0"],
            ["gating.audit_share is 0", "never opens", "more than 0"],
        ),
        (
            ["controls.selection.method=history", "controls.stabilised.metric=r_difficulty", "algorithm.meta=false"],
            ["controls.stabilised.metric is r_difficulty", "algorithm.meta is false", "null"],
        ),
    ],
)
def test_what_does_not_fit_a_method_is_refused(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(None, overrides)
    assert all(part in str(refused.value) for part in parts), str(refused.value)


def test_gating_enabled_is_selection_by_metas() -> None:
    enabled = load_config(None, ["controls.gating.enabled=true"])
    assert enabled.controls.selection_method == "meta"
    assert load_config(None, ["controls.selection.method=meta"]).controls.selection_method == "meta"
    assert load_config(None, []).controls.selection_method == "none"


def test_a_batch_without_decisions_was_judged_by_nobody() -> None:
    assert ShapedBatch([], [], []).flagged is None

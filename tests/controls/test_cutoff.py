"""Early cutoff: budgets, cut solutions, and whether they would have been wrong."""

import json
import random

import pytest
from controls_world import World, prediction
from hypothesis import given
from hypothesis import strategies as st

from masa.config.controls import CutoffSection
from masa.controls.cutoff import CutoffEvidence, EarlyCutoff, token_budget
from masa.flow.rows import training_rows
from masa.policy.objective.parameters import AdvantageParameters


@pytest.mark.parametrize(
    ("aggregate", "budget"),
    [("mean", 800), ("median", 600), ("max", 1400)],  # of 200, 300 and 700, twice
)
def test_the_budget_is_the_factor_times_the_aggregated_prediction(aggregate: str, budget: int) -> None:
    section = CutoffSection.model_validate({"aggregate": aggregate, "factor": 2.0, "floor": 10})
    assert token_budget([200, None, 300, 700], section, 4096) == budget


def test_without_any_predicted_length_there_is_no_cutoff() -> None:
    assert token_budget([None, None], CutoffSection(), 4096) == 4096


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 10**7)), max_size=16),
    st.sampled_from(["mean", "median", "max"]),
    st.floats(1e-3, 1e3),
    st.integers(1, 500),
    st.integers(0, 8000),
)
def test_no_budget_is_outside_of_floor_and_limit(
    lengths: list[int | None], aggregate: str, factor: float, floor: int, more: int
) -> None:
    section = CutoffSection.model_validate({"aggregate": aggregate, "factor": factor, "floor": floor})
    assert floor <= token_budget(lengths, section, floor + more) <= floor + more


def test_precision_recall_f1_and_loss_are_those_of_the_counts() -> None:
    cutoff = EarlyCutoff(CutoffSection())
    cutoff.observe(CutoffEvidence(cut_wrong=6, cut_right=2, kept_wrong=4, kept_right=38))
    reading = cutoff.reading()
    assert reading.audits == 50
    assert reading.precision.value == 6 / 8
    assert reading.recall.value == 6 / 10
    assert reading.f1.value == pytest.approx(2 / 3)
    assert reading.lost.value == 2 / 40


def test_old_evidence_leaves_and_the_window_stays_filled() -> None:
    cutoff = EarlyCutoff(CutoffSection(window=10))
    for right in (9, 8, 7):
        cutoff.observe(CutoffEvidence(0, 0, 0, right))
    assert cutoff.reading().audits == 15  # without the second there would be 7, below the window
    again = EarlyCutoff(CutoffSection(window=10))
    again.load_state_dict(json.loads(json.dumps(cutoff.state_dict())))
    assert again.state_dict() == cutoff.state_dict()


def _world(*overrides: str) -> World:
    # Right solutions take 20 tokens, wrong ones 60; the predicted 20 give a budget of 40.
    rates = {f"p{n}": 0.5 for n in range(64)}
    return World(
        lambda problem, draw: prediction(0.5, 20),
        rates,
        "controls.cutoff.enabled=true",
        *overrides,
        length=lambda problem, right: 20 if right else 60,
    )


def test_cut_solutions_end_at_their_budget_and_count_as_incorrect() -> None:
    world = _world("controls.cutoff.audit_share=0.0")
    _, groups, metrics = world.step(1)
    judged = [pair for group in groups for pair in zip(group.solutions, group.verdicts, strict=True)]
    cut = [(one, verdict) for one, verdict in judged if one.cut]
    assert cut
    assert all(len(one.token_ids) == 40 and not verdict.correct for one, verdict in cut)
    assert all(verdict.correct for one, verdict in judged if not one.cut)
    assert not any(one.truncated for group in groups for one in group.solutions)
    assert metrics["control/cutoff_budget"] == 40
    assert metrics["control/cut_share"] == pytest.approx(len(cut) / (16 * 8))


def test_audited_solutions_run_to_the_limit_and_tell_the_precision() -> None:
    world = _world("controls.cutoff.audit_share=0.5")
    for step in range(1, 4):
        _, groups, metrics = world.step(step)
    lengths = {len(one.token_ids) for group in groups for one in group.solutions}
    assert lengths == {20, 40, 60}
    assert metrics["control/cutoff_precision"] == 1.0
    assert metrics["control/cutoff_recall"] == 1.0
    assert metrics["control/cutoff_lost"] == 0.0


def test_the_audited_share_of_solutions_is_what_was_asked() -> None:
    world = _world("controls.cutoff.audit_share=0.2")
    audited = [flag for step in range(1, 11) for plan in world.step(step)[0].plans.values() for flag in plan.audited]
    assert abs(sum(audited) / len(audited) - 0.2) <= 4 * (0.2 * 0.8 / len(audited)) ** 0.5


def test_before_controls_are_on_every_solution_is_an_audit() -> None:
    world = _world("controls.stabilised.after_step=1")
    batch, _, metrics = world.step(1)
    assert not batch.plans
    assert metrics["control/cutoff_audited"] == 16 * 8
    assert metrics["control/cutoff_precision"] == 1.0
    assert world.step(2)[0].plans


def test_a_solution_that_would_have_been_right_lowers_the_precision() -> None:
    rates = {f"p{n}": 0.5 for n in range(64)}
    world = World(
        lambda problem, draw: prediction(0.5, 10),
        rates,
        "controls.cutoff.enabled=true",
        "controls.cutoff.audit_share=1.0",
        length=lambda problem, right: 30,
    )
    _, groups, metrics = world.step(1)
    right = sum(verdict.correct for group in groups for verdict in group.verdicts) / 128
    assert metrics["control/cutoff_precision"] == pytest.approx(1 - right)
    assert metrics["control/cutoff_lost"] == 1.0


@pytest.mark.parametrize(("length", "lost"), [(40, 0.0), (41, 1.0)])
def test_an_audited_solution_that_stops_at_its_budget_would_have_been_kept(length: int, lost: float) -> None:
    rates = dict.fromkeys(("p0", "p1"), 1.0)
    options = ("controls.cutoff.enabled=true", "controls.cutoff.audit_share=1.0", "algorithm.num_problems=2")
    world = World(lambda problem, draw: prediction(1.0, 20), rates, *options, length=lambda problem, right: length)
    batch, _, metrics = world.step(1)
    assert {plan.budget for plan in batch.plans.values()} == {40}
    assert metrics["control/cutoff_lost"] == lost


@pytest.mark.parametrize("mask", [False, True])
def test_cut_solutions_can_be_left_out_of_the_loss(mask: bool) -> None:
    world = _world("controls.cutoff.audit_share=0.0")
    _, groups, _ = world.step(1)
    (rows,) = training_rows(groups, AdvantageParameters(), world.config.algorithm, mask_cut=mask)
    cut = [row for row in rows if len(row.token_ids) == 40 and row.advantage < 0]
    assert cut
    assert all(row.masked is mask for row in cut)
    assert not any(row.masked for row in rows if len(row.token_ids) == 20)


def test_seeds_of_solutions_are_those_of_the_single_call() -> None:
    world, plain = _world("controls.cutoff.audit_share=0.3"), _world("controls.stabilised.after_step=9")
    shaped, _, _ = world.step(1)
    together, _, _ = plain.step(1)
    expected = {(one.problem_id, one.index): one for group in together.rollouts for one in group if one.path != "meta"}
    for one in (one for group in shaped.rollouts for one in group if one.path == "solution"):
        whole = expected[one.problem_id, one.index].token_ids
        assert one.token_ids == whole[: len(one.token_ids)]
        assert one.cut == (len(one.token_ids) < len(whole))


def test_random_lengths_are_handled() -> None:
    draw = random.Random(0)
    rates = {f"p{n}": draw.random() for n in range(32)}
    world = World(lambda problem, draw: prediction(0.5, draw.randint(1, 64)), rates, "controls.cutoff.enabled=true")
    for step in range(1, 4):
        batch, _, _ = world.step(step)
        assert all(8 <= plan.budget <= 64 for plan in batch.plans.values())


@pytest.mark.parametrize("gate", ["closed", "open"])
def test_solutions_that_measure_the_gate_are_not_cut(gate: str) -> None:
    # All predict that nobody solves it; in truth half are right, but after three times the predicted length.
    world = World(
        lambda problem, draw: prediction(0.0, 10),
        {f"p{n}": 0.5 for n in range(64)},
        "controls.cutoff.enabled=true",
        "controls.cutoff.audit_share=0.0",
        "controls.gating.enabled=true",
        f"controls.gating.start={gate}",
        "controls.gating.audit_share=0.5",
        "controls.gating.max_share=0.2",
        "controls.gating.gated=leave_out",
        length=lambda problem, right: 30,
    )
    batch, groups, metrics = world.step(1)
    let_through = [group for group in groups if group.problem.id in batch.let_through]
    measuring = [group for group in groups if group.problem.id not in batch.let_through]
    assert len(measuring) == metrics["control/gate_measured"] > 0
    assert not any(one.cut for group in measuring for one in group.solutions)
    assert all(one.cut for group in let_through for one in group.solutions)
    assert bool(let_through) == (gate == "open")
    assert metrics["control/gate_precision"] < 0.5, "cut, they would all have been wrong and the flags right"

"""Predictions that cost less: fewer metas once the gate is calibrated, and none where the last prediction holds."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from typing import Any

import pytest
from controls_world import LEAVES_HALF_OUT, World, prediction
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.config import ConfigError, load_config
from masa.controls.reuse import KeptPredictions
from masa.flow.rows import training_rows
from masa.policy.objective.parameters import AdvantageParameters
from masa.rewards.meta_prediction import MetaPrediction
from masa.tracking.groups import group_predictions, record_groups
from masa.tracking.metrics import StepMetrics

FEWER = "algorithm.num_metas={at_first: 4, when_calibrated: 2}"
GATE = ("controls.gating.enabled=true", "controls.gating.start=open", "controls.gating.audit_share=0.3")
RATES = {f"p{n:02}": (0.0, 0.5, 1.0)[n % 3] for n in range(30)}


def metas_of(world: World) -> dict[str, int]:
    """How many metas each problem was asked for since the last time."""
    asked: Counter[str] = Counter()
    for request in world.engine.requests:
        if request.path == "meta":
            asked[request.problem_id] += len(request.seeds)
    world.engine.requests.clear()
    return dict(asked)


# --- fewer metas once the gate is calibrated ---


def test_metas_become_fewer_once_audits_have_shown_the_precision_and_more_when_it_is_lost() -> None:
    honest = True

    def predict(problem: str, draw: random.Random) -> str:
        return prediction(RATES[problem] if honest else 1.0, 20)

    world = World(predict, RATES, *GATE, FEWER, "controls.gating.min_audits=6", "controls.gating.window=12")
    before = []
    for step in range(1, 9):
        calibrated = world.controls.gate is not None and world.controls.gate.is_calibrated
        _, _, metrics = world.step(step)
        assert set(metas_of(world).values()) == {2 if calibrated else 4}
        assert metrics["control/num_metas"] == (2 if calibrated else 4)
        before.append(calibrated)
    assert before[0] is False
    assert before[-1] is True
    honest = False
    for step in range(9, 30):
        _, _, metrics = world.step(step)
        if metrics["control/gate_precision"] < 0.8:
            break
    metas_of(world)
    world.step(30)
    assert set(metas_of(world).values()) == {4}


def test_metas_stay_as_many_before_the_controls_are_on_and_under_a_closed_gate() -> None:
    world = World(
        lambda problem, draw: prediction(RATES[problem], 20),
        RATES,
        *GATE,
        FEWER,
        "controls.gating.min_audits=1",
        "controls.stabilised.after_step=3",
    )
    for step in range(1, 4):
        world.step(step)
        assert set(metas_of(world).values()) == {4}
    world.step(4)
    assert set(metas_of(world).values()) == {2}
    closed = World(lambda problem, draw: prediction(1.0, 20), {f"p{n}": 0.5 for n in range(20)}, GATE[0], FEWER)
    for step in range(1, 5):
        closed.step(step)
        assert set(metas_of(closed).values()) == {4}


def test_a_mapping_is_short_for_both_numbers_of_metas() -> None:
    config = load_config(None, [FEWER, GATE[0]])
    assert (config.algorithm.num_metas, config.algorithm.num_metas_when_calibrated) == (4, 2)
    assert load_config(None, {"algorithm.num_metas": 4}).algorithm.num_metas_when_calibrated is None


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ([FEWER], ["num_metas_when_calibrated is 2", "controls.gating.enabled", "'none'"]),
        ([FEWER, "controls.selection.method=posterior"], ["num_metas_when_calibrated is 2", "'posterior'"]),
        (["algorithm.num_metas={at_first: 4}"], ["a mapping with at_first,", "at_first and when_calibrated"]),
        (["algorithm.num_metas={}"], ["a mapping with nothing", "at_first and when_calibrated"]),
        (["algorithm.num_metas={at_first: 1, when_calibrated: 1}"], ["num_metas", "1", "at least 2"]),
        (["algorithm.num_metas={at_first: 4, when_calibrated: 8}"], ["is 8", "at most num_metas (4)"]),
        ([FEWER, "algorithm.num_metas_when_calibrated=3"], ["num_metas_when_calibrated is 3", "null"]),
        (["controls.selection.keep_predictions=5"], ["keep_predictions is 5", "'none'"]),
        (["controls.selection.keep_predictions=-1"], ["keep_predictions", "-1", "at least 0"]),
        (
            ["controls.selection.keep_predictions=5", "controls.selection.method=markov"],
            ["keep_predictions is 5", "meta or combined", "'markov'"],
        ),
    ],
)
def test_what_cannot_spare_metas_is_refused(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(None, overrides)
    assert all(part in str(refused.value) for part in parts), str(refused.value)


# --- no metas where the last prediction holds ---

PREDICTED = (MetaPrediction(("x",), 0.5, 20), MetaPrediction(None, None, None))


@given(
    st.lists(st.none() | st.tuples(st.booleans(), st.booleans()), max_size=20),
    st.integers(1, 6),
)
def test_a_prediction_is_used_while_it_is_young_and_was_right_the_last_time(
    history: list[tuple[bool, bool] | None], max_age: int
) -> None:
    """Of each step: nothing, or whether there were new metas, and whether the judgement was right."""
    kept = KeptPredictions(max_age, lengths=True, notions=True)
    made, right = None, False
    for step, event in enumerate(history, 1):
        if event is not None and event[0]:
            made = step
        if event is not None:
            right = event[1]
            kept.observe(step, [("a", right, PREDICTED if event[0] else ())])
        else:
            kept.observe(step, [("b", True, ())])
        young = made is not None and step + 1 - made < max_age
        assert kept(step + 1, "a") == (PREDICTED if young and right else ())
        if not young:
            made = None
        assert kept(step + 1, "b") == ()
        again = KeptPredictions(max_age, lengths=True, notions=True)
        again.load_state_dict(json.loads(json.dumps(kept.state_dict())))
        assert again.state_dict() == kept.state_dict()
        kept = again


def test_only_what_the_controls_use_is_kept() -> None:
    kept = KeptPredictions(3, lengths=False, notions=False)
    kept.observe(1, [("a", True, PREDICTED)])
    assert kept(2, "a") == (MetaPrediction(pass_rate=0.5), MetaPrediction())


def small(*overrides: str, predict: Any = None, rates: dict[str, float] | None = None) -> World:
    """Every problem is in every step."""
    rates = rates or {f"p{n}": (0.0, 0.5, 1.0)[n % 3] for n in range(12)}
    return World(
        predict or (lambda problem, draw: prediction(rates[problem], 20, ["right"])),
        rates,
        "algorithm.num_problems=12",
        "controls.gating.gated=leave_out",
        "controls.selection.keep_predictions=3",
        *GATE,
        *overrides,
    )


def test_a_problem_gets_no_metas_while_its_last_measured_prediction_is_young_and_was_right() -> None:
    world = small()
    made: dict[str, int] = {}
    right: set[str] = set()
    for step in range(1, 12):
        batch, groups, metrics = world.step(step)
        spared = {id for id in right if step - made[id] < 3}
        assert set(metas_of(world)) == set(world.engine._rates) - spared
        assert metrics["control/predictions_kept_share"] == pytest.approx(len(spared) / 12)
        assert {one.problem.id for one in groups if not one.metas} <= spared
        assert {one.problem.id for one in batch.gated if not one.metas} <= spared
        # Whoever was spared is judged as before.
        assert {id for id in spared if world.engine._rates[id] != 0.5} <= (batch.flagged or set())
        for group in groups:
            id, flat = group.problem.id, len({one.reward for one in group.verdicts}) == 1
            if group.metas:
                made[id] = step
            if (id in (batch.flagged or ())) == flat:
                right.add(id)
            else:
                right.discard(id)
    assert made


def test_predictions_that_were_wrong_are_made_anew() -> None:
    world = small(
        "controls.gating.audit_share=1.0",
        predict=lambda problem, draw: prediction(1.0, 20),
        rates={f"p{n}": 0.5 for n in range(12)},
    )
    for step in range(1, 4):
        _, groups, _ = world.step(step)
        flat = {one.problem.id for one in groups if one.statistics.pass_rate in (0, 1)}
        assert len(metas_of(world)) >= 12 - 1
        assert len(flat) <= 1


def test_kept_predictions_shape_solutions_as_their_metas_did_and_bring_no_rows_of_metas() -> None:
    world = small(
        "controls.gating.audit_share=1.0",
        "controls.cutoff.enabled=true",
        "controls.hinting.enabled=true",
        rates={f"p{n}": 1.0 for n in range(12)},
    )
    first, groups, _ = world.step(1)
    assert all(group.metas for group in groups)
    second, groups, _ = world.step(2)
    assert not any(group.metas for group in groups)
    assert [(one.budget, one.hint, one.hinted) for _, one in sorted(second.plans.items())] == [
        (one.budget, one.hint, one.hinted) for _, one in sorted(first.plans.items())
    ]
    assert all(one.hint == "right" for one in second.plans.values())
    (rows,) = training_rows(groups, AdvantageParameters(), world.config.algorithm)
    assert len(rows) == 12 * 8


def test_kept_predictions_are_neither_counted_nor_written_again() -> None:
    world = small()
    for step in range(1, 4):
        batch, groups, _ = world.step(step)
        metrics = StepMetrics()
        record_groups(metrics, groups, batch.gated)
        written = group_predictions(step, groups, batch.gated)
        assert {one.problem for one in written} == set(metas_of(world))
        assert "meta/parse_rate" not in metrics.flatten() or written


# --- both, with any predictions ---


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(["meta", "combined"]),
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=5),
    st.integers(0, 6),
    st.integers(2, 4),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.floats(0, 50),
    st.integers(0, 2**31),
    st.integers(6, 20),
)
def test_no_prediction_starves_or_crashes_a_run_that_spares_metas(
    method: str,
    kinds: list[float],
    keep: int,
    fewer: int,
    audit_share: float,
    target: float,
    shapes: bool,
    price: float,
    seed: int,
    size: int,
) -> None:
    rates = {f"p{n:02}": kinds[n % len(kinds)] for n in range(size)}

    def made() -> World:
        return World(
            lambda problem, draw: draw.choice(("", "{", prediction(0.0, 9), prediction(1.0, 60), prediction(0.5, 20))),
            rates,
            "algorithm.num_problems=6",
            "algorithm.num_solutions=3",
            f"algorithm.num_metas={{at_first: 4, when_calibrated: {fewer}}}",
            f"controls.selection.method={method}",
            f"controls.selection.keep_predictions={keep}",
            f"controls.gating.audit_share={audit_share}",
            f"controls.gating.target_precision={target}",
            "controls.gating.start=open",
            "controls.gating.min_audits=1",
            "controls.gating.min_parsed=0.2",
            "controls.gating.max_std=0.6",
            "controls.gating.gated_metas=history",
            f"rewards.meta_length_price={{price: {price}, free_tokens: 4}}",
            f"controls.cutoff.enabled={str(shapes).lower()}",
            f"controls.hinting.enabled={str(shapes).lower()}",
            f"run.seed={seed}",
        )

    world, resumed = made(), made()
    for step in range(1, 6):
        batch, groups, metrics = world.step(step)
        other, _, again = resumed.step(step)
        assert (other.rollouts, other.gated, str(again)) == (batch.rollouts, batch.gated, str(metrics))
        state = json.loads(
            json.dumps({"c": resumed.controls.state_dict(), "s": resumed.sampler.state_dict()}, allow_nan=False)
        )
        resumed = made()
        resumed.controls.load_state_dict(state["c"])
        resumed.sampler.load_state_dict(state["s"])
        # A small data set has no replacements for all that is gated.
        assert 1 <= len(groups) <= 6
        assert not {one.id for one in batch.problems} & {one.problem.id for one in batch.gated}
        assert all(len(group.metas) in ((0, 4, fewer) if keep else (4, fewer)) for group in groups)
        record_groups(StepMetrics(), groups, batch.gated)
        gated = world.controls.reward_gated(step + 1, batch.gated)
        (rows,) = training_rows(groups, AdvantageParameters(), world.config.algorithm, gated=gated)
        trained = sum(len(group.solutions) + len(group.metas) for group in groups)
        assert len(rows) == trained + sum(len(one.rewards) for one in gated)
        assert all(math.isfinite(row.advantage) for row in rows)


def test_a_flag_that_a_cut_has_made_come_true_does_not_count_as_right() -> None:
    rates = {f"p{n:02}": 1.0 for n in range(8)}
    world = World(
        lambda problem, draw: prediction(0.0, 4),  # as wrong as can be, and so short that every solution is cut
        rates,
        "algorithm.num_problems=8",
        *LEAVES_HALF_OUT,
        "controls.cutoff.enabled=true",
        "controls.cutoff.audit_share=0",
        "controls.selection.keep_predictions=50",
        length=lambda problem, right: 30,
    )
    for step in range(1, 4):
        batch, groups, metrics = world.step(step)
        assert len(batch.let_through) == 4
        assert not any(verdict.correct for group in groups for verdict in group.verdicts)
        assert metrics["control/predictions_kept_share"] == 0

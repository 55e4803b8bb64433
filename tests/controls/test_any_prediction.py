"""Whatever a model predicts, a step completes within its bounds."""

import json
import random

import pytest
from controls_world import World, prediction
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.flow.rows import training_rows
from masa.policy.objective.parameters import AdvantageParameters
from masa.rollout.stream import RoundStream

ALL_CONTROLS = (
    "algorithm.num_problems=6",
    "algorithm.num_solutions=4",
    "controls.gating.enabled=true",
    "controls.gating.start=open",
    "controls.gating.audit_share=0.2",
    "controls.cutoff.enabled=true",
    "controls.hinting.enabled=true",
    "controls.expert.enabled=true",
    "controls.expert.batch_size=4",
)
NUMBERS = st.one_of(
    st.integers(-3, 10).map(str),
    st.integers(0, 10**30).map(str),
    st.sampled_from(["null", "NaN", "-1", "1e400", "8/8", "100%", '"8"', "[]", "{}", "0.5", ""]),
)
NOTIONS = st.lists(st.text(max_size=20), max_size=8)
METAS = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["", "{", '{"pass_rate": 8}', "<|end|>", '{"notions": "<|end|>,{{ x }}"}']),
    st.builds(
        lambda notions, rate, length: (
            f'<meta>{{}}</meta>{{"notions": {json.dumps(notions)}, "pass_rate": {rate}, "solution_length": {length}}}'
        ),
        NOTIONS,
        NUMBERS,
        NUMBERS,
    ),
    # What passes every threshold.
    st.builds(prediction, st.sampled_from([0.0, 1.0]), st.integers(1, 64), st.just(["right", "wrong"])),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(METAS, min_size=1, max_size=4),
    st.sampled_from(["replace", "leave_out"]),
    st.sampled_from(["mean", "median", "max"]),
    st.integers(0, 2**31),
    st.floats(0, 0.99),
)
def test_the_step_completes_with_a_batch_and_with_budgets_in_range(
    metas: list[str], gated: str, aggregate: str, seed: int, max_share: float
) -> None:
    rates = {f"p{n}": (0.0, 0.5, 1.0)[n % 3] for n in range(24)}
    world = World(
        lambda problem, draw: metas[draw.randrange(len(metas))],
        rates,
        *ALL_CONTROLS,
        f"controls.gating.gated={gated}",
        f"controls.gating.max_share={max_share}",
        f"controls.cutoff.aggregate={aggregate}",
        f"run.seed={seed}",
    )
    for step in range(1, 4):
        batch, groups, metrics = world.step(step)
        assert 1 <= len(groups) <= 6
        assert gated == "leave_out" or len(groups) == 6
        assert len(batch.gated) <= max_share * (len(groups) + len(batch.gated))
        solved, withheld = {one.id for one in batch.problems}, {one.problem.id for one in batch.gated}
        assert len(solved) == len(batch.problems)
        assert not solved & withheld
        assert all(8 <= plan.budget <= 64 for plan in batch.plans.values())
        for group in groups:
            assert len(group.solutions) == 4
            assert [one.index for one in group.solutions] == [0, 1, 2, 3]
            assert len(group.metas) == len(group.predictions) == 4
        requests = [one for one in world.engine.requests if one.path == "solution"]
        assert all(8 <= one.max_new_tokens <= 64 for one in requests)
        (rows,) = training_rows(groups, AdvantageParameters(), world.config.algorithm)
        assert len(rows) == 8 * len(groups)
        prompts_of_gated = {meta.prompt_ids for one in batch.gated for meta in one.metas}
        assert not prompts_of_gated & {row.prompt_ids for row in rows}
        world.controls.experts_to_clone(step)
        assert json.loads(json.dumps(world.controls.state_dict())) == world.controls.state_dict()
        assert all(isinstance(value, float) for value in metrics.values())


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_share_of_flagged_problems_that_is_audited_is_what_was_asked(share: float) -> None:
    rates = {f"p{n}": 1.0 for n in range(2000)}
    world = World(
        lambda problem, draw: prediction(1.0, 20),
        rates,
        "algorithm.num_problems=100",
        "algorithm.num_solutions=2",
        "algorithm.num_metas=2",
        "controls.gating.enabled=true",
        "controls.gating.start=open",
        "controls.gating.max_share=0.999",
        "controls.gating.gated=leave_out",
        f"controls.gating.audit_share={share}",
    )
    audited = gated = 0
    for step in range(1, 16):
        batch, _, _ = world.step(step)
        audited += len(batch.audited)
        gated += len(batch.gated) + len(batch.let_through)
    total = audited + gated
    assert total == 1500
    assert abs(audited / total - share) <= 4 * (share * (1 - share) / total) ** 0.5


def test_a_small_data_set_is_never_asked_for_more_problems_than_it_has() -> None:
    rates = {f"p{n}": 1.0 for n in range(18)}
    world = World(
        lambda problem, draw: prediction(1.0, 20),
        rates,
        "controls.gating.enabled=true",
        "controls.gating.start=open",
        "controls.gating.max_share=0.9",
        "controls.gating.audit_share=0.0",
    )
    seen: list[str] = []
    for step in range(1, 10):
        batch, _, _ = world.step(step)
        drawn = [one.id for one in batch.problems] + [one.problem.id for one in batch.gated]
        assert len(set(drawn)) == len(drawn) == 18
        seen += drawn
    assert {seen.count(id) for id in rates} == {9}


def test_all_controls_restored_in_the_middle_decide_as_if_nothing_had_happened() -> None:
    rates = {f"p{n}": (0.0, 0.5, 1.0)[n % 3] for n in range(40)}

    def world() -> World:
        return World(
            lambda problem, draw: prediction(random.Random(problem).choice((0, 1)), draw.randint(5, 60), ["right"]),
            rates,
            *ALL_CONTROLS,
            "controls.gating.min_audits=2",
        )

    whole, resumed = world(), world()
    for step in range(1, 9):
        expected, _, metrics = whole.step(step)
        batch, _, again = resumed.step(step)
        assert [one.id for one in batch.problems] == [one.id for one in expected.problems]
        assert batch.rollouts == expected.rollouts
        assert str(again) == str(metrics)  # NaN equals NaN as text
        state = json.loads(json.dumps({"c": resumed.controls.state_dict(), "s": resumed.sampler.state_dict()}))
        resumed = world()
        resumed.controls.load_state_dict(state["c"])
        resumed.sampler.load_state_dict(state["s"])


def test_a_process_without_problems_takes_from_its_engine_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that share a tensor-parallel engine wait for one another in it."""
    world = World(lambda problem, draw: prediction(0.5, 20), {f"p{n}": 0.5 for n in range(16)})
    asked: list[bool] = []

    def is_left(waits: bool) -> bool:
        asked.append(waits)
        return waits

    monkeypatch.setattr(world, "share", lambda slots: [])
    monkeypatch.setattr(world.engine, "stream", lambda: RoundStream(world.engine.generate, is_left))
    batch, _, _ = world.step(1)
    assert asked == [False]
    assert len(batch.problems) == 16
    assert batch.rollouts == []

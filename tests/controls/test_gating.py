"""Predictive gating: who is flagged, who is gated, and a gate that knows how good it is."""

import json
import math
import random
import time
from fractions import Fraction
from typing import Any

import pytest
from controls_world import LEAVES_HALF_OUT, World, prediction, tokenizer_of_the_world
from hypothesis import given
from hypothesis import strategies as st

from masa.config.controls import GatingSection
from masa.controls.gating import GateEvidence, Judgement, PredictiveGate, decide, gatings, is_drawn, judge
from masa.flow.ahead import RolloutsAhead
from masa.flow.step import StepFlow
from masa.rewards import Verdict
from masa.rewards.grading import Grader

SECTION = GatingSection(enabled=True)
RATES = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=16)


@pytest.mark.parametrize(
    ("rates", "outlook"),
    [
        ([1.0, 1.0, 1.0, 0.875], "trivial"),  # mean 0.969, std 0.054
        ([0.0, 0.0, 0.125, 0.0], "unsolvable"),
        ([0.5, 0.5, 0.5, 0.5], "open"),  # they agree that it is worth solving
        ([1.0, 1.0, 1.0, 0.0], "open"),  # they do not agree
        ([1.0, 1.0, None, None], "trivial"),  # half of them can be read
        ([1.0, 1.0, None, None, None], "open"),
        ([1.0, None], "open"),  # one alone agrees with nobody
        ([None, None], "open"),
        ([], "open"),
    ],
)
def test_a_problem_is_flagged_where_predictions_agree_on_an_extreme(rates: list[float | None], outlook: str) -> None:
    assert judge(rates, SECTION).outlook == outlook


@given(RATES)
def test_without_a_threshold_for_unsolvable_trivial_problems_alone_are_flagged(rates: list[float | None]) -> None:
    section = SECTION.model_copy(update={"unsolvable": None})
    before, after = judge(rates, SECTION).outlook, judge(rates, section).outlook
    assert after == ("open" if before == "unsolvable" else before)


@given(RATES)
def test_every_flag_meets_its_definition(rates: list[float | None]) -> None:
    judgement = judge(rates, SECTION)
    parsed = [rate for rate in rates if rate is not None]
    if judgement.flagged:
        mean = sum(parsed) / len(parsed)
        assert len(parsed) >= max(2, len(rates) / 2)
        assert mean >= SECTION.trivial - 1e-9 or mean <= SECTION.unsolvable + 1e-9


@given(
    st.lists(st.sampled_from(["open", "trivial", "unsolvable"]), min_size=1, max_size=40),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_the_gate_never_takes_a_whole_draw_and_never_more_than_its_share(
    outlooks: list[str], max_share: float, audit_share: float, seed: int
) -> None:
    section = GatingSection(max_share=max_share, audit_share=audit_share)
    judgements = {f"p{n}": Judgement(one, (n / 10, 0.0)) for n, one in enumerate(outlooks)}  # type: ignore[arg-type]
    decision = decide(judgements, section, seed, 1, is_open=True)
    assert len(decision.gated) <= max_share * len(outlooks)
    assert len(decision.gated) < len(outlooks)
    flagged = {id for id, judgement in judgements.items() if judgement.flagged}
    assert sorted((*decision.gated, *decision.audited, *decision.let_through)) == sorted(flagged)


def test_of_too_many_the_surest_are_gated() -> None:
    doubts = {"a": (0.09, 0.0), "b": (0.0, 0.02), "c": (0.0, 0.01), "d": (0.05, 0.0)}
    judgements = {id: Judgement("trivial", doubt) for id, doubt in doubts.items()}
    section = GatingSection(max_share=0.5, audit_share=0.0)
    decision = decide(judgements, section, 0, 1, is_open=True)
    assert decision.gated == ("b", "c")
    assert decision.let_through == ("a", "d")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_audited_share_is_what_was_asked(share: float) -> None:
    section = GatingSection(audit_share=share)
    count = 4000
    judgements = {f"p{n}": Judgement("trivial") for n in range(count)}
    audited = len(decide(judgements, section, 7, 3, is_open=True).audited)
    # Four standard deviations of a binomial share.
    assert abs(audited / count - share) <= 4 * (share * (1 - share) / count) ** 0.5


def test_an_audit_depends_on_run_step_and_problem() -> None:
    keys = [(run, step, id) for run in (0, 1) for step in range(8) for id in "ab"]
    draws = [is_drawn(0.5, *key, "gate audit") for key in keys]
    assert set(draws) == {True, False}
    assert draws == [is_drawn(0.5, *key, "gate audit") for key in keys]


def test_precision_recall_and_f1_follow_from_the_audits() -> None:
    gate = PredictiveGate(GatingSection(min_audits=1))
    # 40 flagged, 10 of them audited, 8 of these flat: 32 hits, 8 false alarms. 30 unflagged, 8 of them flat: misses.
    gate.observe(GateEvidence(flagged=40, audited=10, audited_flat=8, unflagged=30, unflagged_flat=8))
    reading = gate.reading()
    assert reading.precision.value == 0.8
    assert reading.recall.value == pytest.approx(32 / 40)
    assert reading.f1.value == pytest.approx(0.8)
    assert reading.recall.low < 0.8 < reading.recall.high
    assert reading.precision.low == pytest.approx(0.54, abs=0.02)


def test_a_closed_gate_opens_on_good_evidence_and_not_on_too_little() -> None:
    gate = PredictiveGate(GatingSection(min_audits=16, target_precision=0.8))
    gate.observe(GateEvidence(8, 8, 8, 8, 0))
    assert not gate.is_open
    gate.observe(GateEvidence(8, 8, 8, 8, 0))
    assert gate.is_open


def test_an_open_gate_closes_when_it_is_surely_below_its_target_and_opens_again() -> None:
    gate = PredictiveGate(GatingSection(start="open", min_audits=10, window=20, target_precision=0.8, confidence=0.9))
    gate.observe(GateEvidence(20, 20, 15, 0, 0))  # 0.75, interval up to 0.87: not sure enough
    assert gate.is_open
    gate.observe(GateEvidence(20, 20, 8, 0, 0))  # the first is forgotten: 0.4, up to 0.58
    assert not gate.is_open
    gate.observe(GateEvidence(20, 20, 18, 0, 0))
    assert gate.is_open


def test_without_audits_the_gate_stays_as_it_is() -> None:
    gate = PredictiveGate(GatingSection(start="open", audit_share=0.0))
    for _ in range(50):
        gate.observe(GateEvidence(10, 0, 0, 5, 5))
        gate.observe(GateEvidence(10, 8, 0, 5, 5))  # of steps before it acts, when all are sampled
    assert gate.is_open


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_the_gates_state_goes_through_json_without_a_trace(counts: list[tuple[int, int, int]]) -> None:
    section = GatingSection(min_audits=4, window=12)
    whole, resumed = PredictiveGate(section), PredictiveGate(section)
    for audited, flat, missed in counts:
        evidence = GateEvidence(audited + 3, audited, min(flat, audited), 9, missed)
        whole.observe(evidence)
        resumed.observe(evidence)
        again = PredictiveGate(section)
        again.load_state_dict(json.loads(json.dumps(resumed.state_dict())))
        resumed = again
    assert resumed.state_dict() == whole.state_dict()


def test_problems_let_through_for_their_doubt_are_no_audits() -> None:
    rates = {f"p{n}": 1.0 for n in range(4)}
    options = ("gated=leave_out", "start=open", "audit_share=0.0", "max_share=0.75")
    world = World(
        lambda problem, draw: prediction(rates[problem], 20),
        rates,
        "algorithm.num_problems=4",
        "controls.gating.enabled=true",
        *(f"controls.gating.{option}" for option in options),
    )
    batch, groups, metrics = world.step(1)
    assert [group.problem.id for group in groups] == list(batch.let_through)
    assert metrics["control/gate_let_through"] == 1
    assert metrics["control/gate_audits"] == metrics["control/gate_measured"] == 0


def _rates(count: int, flat_share: float) -> dict[str, float]:
    draw = random.Random(5)
    return {f"p{n}": draw.choice((0.0, 1.0)) if draw.random() < flat_share else 0.5 for n in range(count)}


@pytest.mark.parametrize("gated", ["leave_out", "replace"])
def test_with_perfect_predictions_zero_variance_problems_are_skipped_and_no_others(gated: str) -> None:
    rates = _rates(800, 0.37)
    world = World(
        lambda problem, draw: prediction(rates[problem], 20),
        rates,
        "controls.gating.enabled=true",
        f"controls.gating.gated={gated}",
    )
    skipped = {True: 0, False: 0}
    total = {True: 0, False: 0}
    for step in range(1, 41):
        was_open = world.controls.metas_first
        batch, groups, _ = world.step(step)
        if not was_open:
            assert step <= 5, "the gate must open within a few steps"
            continue
        assert gated == "leave_out" or len(batch.problems) == 16
        for group in groups:
            total[group.statistics.pass_rate in (0, 1)] += 1
        for one in batch.gated:
            flat = rates[one.problem.id] != 0.5
            total[flat] += 1
            skipped[flat] += 1
    assert skipped[True] / total[True] >= 0.9
    assert skipped[False] / total[False] < 0.02


def test_with_random_predictions_the_gate_closes_itself() -> None:
    rates = _rates(800, 0.3)

    def noise(problem: str, draw: random.Random) -> str:
        # All M predictions of a problem agree on something that has nothing to do with it.
        return prediction(random.Random(f"{problem}/noise").choice((0.0, 0.5, 1.0)), 20)

    world = World(
        noise,
        rates,
        "controls.gating.enabled=true",
        "controls.gating.start=open",
        "controls.gating.audit_share=0.2",
        "controls.gating.gated=leave_out",
    )
    was_open = []
    for step in range(1, 41):
        was_open.append(world.controls.metas_first)
        batch, _, metrics = world.step(step)
        assert batch.problems
    assert was_open[0]
    assert not was_open[-1]
    assert metrics["control/gate_precision"] < 0.5
    closed = was_open.index(False)
    assert not any(was_open[closed:]), "and stays closed as long as they are random"


def test_a_problem_whose_solutions_are_partly_right_in_different_parts_is_not_flat() -> None:
    class Parts:
        def verify(self, items: list[dict[str, str]]) -> list[Verdict]:
            return [Verdict(correct=False, status="incorrect", score=n % 3 / 4) for n in range(len(items))]

    world = World(
        lambda problem, draw: prediction(0.0, 20), {f"p{n}": 0.5 for n in range(64)}, "controls.gating.enabled=true"
    )
    world.grader = Grader(world.config, tokenizer_of_the_world(), Parts())
    _, _, metrics = world.step(1)
    assert metrics["control/gate_measured"] == 16
    assert metrics["control/gate_precision"] == 0.0


@pytest.mark.parametrize(
    ("share", "slots", "total"), [(0.7, 3, 7), (0.6, 4, 6), (0.75, 8, 24), (0.5, 5, 5), (0.0, 4, 0), (0.29, 100, 40)]
)
def test_all_slots_together_may_gate_what_the_formula_says(share: float, slots: int, total: int) -> None:
    section = SECTION.model_copy(update={"max_share": share, "max_rounds": 100})
    exact = Fraction(str(share))
    assert sum(gatings(section, slots, 0, 1)) == math.floor(slots * exact / (1 - exact)) == total


@pytest.mark.parametrize(("share", "problems", "most"), [(0.29, 100, 29), (0.57, 100, 57), (0.58, 100, 58)])
def test_rounding_lets_no_more_problems_through_than_the_share_says(share: float, problems: int, most: int) -> None:
    section = SECTION.model_copy(update={"max_share": share, "audit_share": 0.0})
    judged = {f"p{n}": Judgement("trivial") for n in range(problems)}
    assert len(decide(judged, section, 0, 1, is_open=True).gated) == most


@pytest.mark.parametrize(("share", "parsed", "of"), [(0.28, 7, 25), (0.07, 7, 100), (0.56, 14, 25)])
def test_exactly_the_share_of_predictions_that_must_be_read_is_enough(share: float, parsed: int, of: int) -> None:
    section = SECTION.model_copy(update={"min_parsed": share})
    assert judge([1.0] * parsed + [None] * (of - parsed), section).outlook == "trivial"
    assert judge([1.0] * (parsed - 1) + [None] * (of - parsed + 1), section).outlook == "open"


def test_the_controls_are_said_to_act_as_they_were_when_a_step_that_was_sampled_ahead_began() -> None:
    rates = {f"p{n:03}": (0.0, 0.5, 1.0)[n % 3] for n in range(300)}
    world = World(
        lambda problem, draw: prediction(rates[problem], 20),
        rates,
        "problems.train=embedded:train",
        "controls.gating.enabled=true",
        "controls.gating.audit_share=0.2",
        "controls.stabilised.after_step=3",
    )
    processes: Any = world
    flow = StepFlow(world.sampler, processes, world.prepared.builder, world.config, steps_ahead=True)
    ahead = RolloutsAhead(flow.sample, 1, 6, begin=flow.begin, finish=flow.finish)
    shown = []
    for step in range(1, 7):
        batch = ahead.take(step)
        groups = batch.grade(world.grader)
        ahead.wait()
        metrics = world.controls.observe(step, batch, groups).flatten()
        shown.append((metrics["control/on"], metrics["control/gate_open"], len(batch.gated) > 0))
    ahead.close()
    # The gate has seen enough after two steps, the controls are on after three; step N + 1 is begun before N ends.
    assert shown == [(0, 0, False), (0, 0, False), (0, 0, False), (0, 1, False), (1, 1, True), (1, 1, True)]


def test_solutions_of_problems_that_are_let_through_take_time_like_any_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {f"p{n:02}": 1.0 for n in range(16)}
    world = World(
        lambda problem, draw: prediction(1.0, 20),
        rates,
        *LEAVES_HALF_OUT,
    )
    generate = world.engine.generate

    def late(requests: Any) -> Any:
        if any(request.path == "solution" for request in requests):
            time.sleep(0.2)
        return generate(requests)

    monkeypatch.setattr(world.engine, "generate", late)
    batch, _, _ = world.step(1)
    # All are flagged, so nothing is solved until all are judged.
    assert len(batch.let_through) == len(batch.problems) == 8
    assert batch.seconds["time/solution_rollout"] >= 0.2

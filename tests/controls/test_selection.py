"""Each selection method against a slow reference, on hostile streams of outcomes, and through JSON."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from masa.config.controls import GatingSection
from masa.config.selection import HistorySection, MarkovSection, ValueHeadSection
from masa.controls.gating import Judgement, decide, is_drawn
from masa.controls.plan import PredictedProblem
from masa.controls.selection.combined import CombinedSelector
from masa.controls.selection.history import HistorySelector
from masa.controls.selection.markov import MarkovSelector, transitions
from masa.controls.selection.meta import MetaSelector
from masa.controls.selection.oracle import OracleSelector
from masa.controls.selection.posterior import PRIOR, PosteriorSelector, updated
from masa.controls.selection.ranking import keep_nearest
from masa.controls.selection.selector import Outcome, Selector
from masa.controls.selection.value_head import ValueHead, ValueHeadSelector
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction

SEED = 3
MAKE: dict[str, Callable[[], Selector]] = {
    "meta": lambda: MetaSelector(GatingSection()),
    "combined": lambda: CombinedSelector(0.9, GatingSection()),
    "history": lambda: HistorySelector(HistorySection(), SEED),
    "posterior": lambda: PosteriorSelector(0.5, 0.5, SEED),
    "markov": lambda: MarkovSelector(MarkovSection()),
    "value_head": lambda: ValueHeadSelector(ValueHeadSection(), 0.5),
    "oracle": lambda: OracleSelector(),
}


def candidates(ids: Sequence[str], rates: Mapping[str, float] | None = None) -> list[PredictedProblem]:
    """Problems with four equal predictions of the pass rate that ``rates`` gives, or without predictions."""
    told = {} if rates is None else {id: (MetaPrediction((), rates[id], None),) * 4 for id in ids}
    return [PredictedProblem(Problem(id, f"Problem {id}", "1"), (), told.get(id, ())) for id in ids]


def outcome(id: str, correct: int, total: int = 8, predicted: float | None = None) -> Outcome:
    return Outcome(id, correct, total, correct in (0, total), () if predicted is None else (predicted,) * 4)


def features(id: str) -> list[float]:
    """Noise, and nothing of the problem's pass rate."""
    return np.random.default_rng(abs(hash_of(id))).normal(size=6).tolist()


def hash_of(id: str) -> int:
    return int.from_bytes(id.encode(), "big")


# --- GRESO ---


def test_a_problem_with_z_flat_groups_in_a_row_is_skipped_with_probability_one_minus_p_to_the_z() -> None:
    ids = [f"p{n}" for n in range(3000)]
    for length in (1, 2, 4):
        selector = HistorySelector(HistorySection(adjustment=0.0, exploration=0.6), SEED)
        for step in range(1, length + 1):
            selector.observe(step, [outcome(id, 8) for id in ids], {})
        found = selector.judge(9, candidates(ids), {})
        skipped = sum(one.flagged for one in found.values()) / len(ids)
        expected = 1 - 0.6**length
        assert abs(skipped - expected) <= 4 * math.sqrt(expected * (1 - expected) / len(ids))
        assert {one.outlook for one in found.values() if one.flagged} == {"trivial"}


def slow_streak(history: Sequence[int]) -> tuple[str | None, int]:
    """The last run of equal flat groups, read from the end; 8 solutions each."""
    kinds = ["trivial" if one == 8 else "unsolvable" if one == 0 else None for one in history]
    if not kinds or kinds[-1] is None:
        return None, 0
    length = next((n for n, kind in enumerate(reversed(kinds)) if kind != kinds[-1]), len(kinds))
    return kinds[-1], length


@given(st.lists(st.sampled_from([0, 3, 8]), max_size=12))
def test_the_streak_is_the_last_run_of_one_kind(history: list[int]) -> None:
    selector = HistorySelector(HistorySection(adjustment=0.0), SEED)
    for step, correct in enumerate(history, 1):
        selector.observe(step, [outcome("a", correct)], {})
    kind, length = slow_streak(history)
    skipped = [selector.judge(step, candidates("a"), {})["a"] for step in range(100, 140)]
    expected = [
        kind is not None and is_drawn(1 - 0.5**length, SEED, step, "a", "selection by history")
        for step in range(100, 140)
    ]
    assert [one.flagged for one in skipped] == expected
    assert {one.outlook for one in skipped if one.flagged} <= {kind}


def test_exploration_falls_while_flat_groups_are_more_than_wanted_and_never_ends() -> None:
    selector = HistorySelector(HistorySection(adjustment=0.05), SEED)
    values = []
    for step in range(1, 40):
        metrics = selector.observe(step, [outcome(f"p{n}", 0) for n in range(4)], {})
        values.append(metrics["control/history_unsolvable_exploration"])
    assert values[0] == pytest.approx(0.45)
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.05)
    assert metrics["control/history_trivial_exploration"] == 1.0


# --- MoPPS ---


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=10), st.floats(0, 1))
def test_the_posterior_is_the_prior_and_a_discounted_sum_of_all_solutions(
    groups: list[tuple[int, int]], discount: float
) -> None:
    posterior = PRIOR
    for right, wrong in groups:
        posterior = updated(posterior, right, right + wrong, discount)
    ages = range(len(groups) - 1, -1, -1)
    alpha = 1 + sum(discount**age * right for age, (right, _) in zip(ages, groups, strict=True))
    beta = 1 + sum(discount**age * wrong for age, (_, wrong) in zip(ages, groups, strict=True))
    assert posterior == (pytest.approx(alpha), pytest.approx(beta))


def test_draws_follow_the_posterior_and_repeat_themselves() -> None:
    selector = PosteriorSelector(1.0, 0.0, SEED)
    selector.observe(1, [outcome("a", 6)], {})
    draws = [selector.judge(step, candidates("a"), {})["a"].doubt[0] for step in range(2, 1500)]
    # With a target of 0 the distance is the draw itself.
    assert stats.kstest(draws, stats.beta(7, 3).cdf).pvalue > 0.001
    assert draws[:5] == [selector.judge(step, candidates("a"), {})["a"].doubt[0] for step in range(2, 7)]


# --- DPS ---


def slow_markov(section: MarkovSection, observed: dict[int, int], until: int) -> np.ndarray:
    """The prediction for step ``until`` by matrices, step after step."""
    prior = np.full((3, 3), section.prior)
    counts, now, ahead = prior, np.full(3, 1 / 3), np.full(3, 1 / 3)
    first = min(observed, default=until)
    for step in range(first, until):
        decayed = section.decay * counts + (1 - section.decay) * prior
        if step in observed:
            state = np.eye(3)[observed[step]]
            joint = np.outer(state, now) * (counts / counts.sum(axis=0))
            counts, now = decayed + joint / joint.sum(), state
        else:
            counts, now = decayed, ahead
        ahead = counts / counts.sum(axis=0) @ now
    return ahead


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(1, 20), st.integers(0, 2), max_size=8),
    st.floats(0, 1),
    st.floats(0.01, 10),
    st.integers(21, 26),
)
def test_the_chain_predicts_what_matrices_say(observed: dict[int, int], decay: float, prior: float, until: int) -> None:
    section = MarkovSection(decay=decay, prior=prior)
    selector = MarkovSelector(section)
    for step in sorted(observed):
        selector.observe(step, [outcome("a", (0, 3, 8)[observed[step]])], {})
    distance = selector.judge(until, candidates("a"), {})["a"].doubt[0]
    assert distance == pytest.approx(1 - slow_markov(section, observed, until)[1])


def test_columns_of_the_transition_matrix_are_distributions() -> None:
    matrix = np.array(transitions([[1, 2, 3], [4, 5, 6], [7, 8, 9.5]]))
    assert matrix.sum(axis=0) == pytest.approx(1)
    assert matrix[0, 0] == pytest.approx(1 / 12)


# --- PCL ---


def test_the_head_takes_adams_steps_down_the_cross_entropy() -> None:
    torch = pytest.importorskip("torch", reason="torch is a dependency; the import is as slow as the test")
    section = ValueHeadSection(updates=3, learning_rate=0.05)
    draw = np.random.default_rng(0)
    head, seen = ValueHead(section), []
    weights = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.05)
    for _ in range(4):
        states, rates = draw.normal(size=(6, 4)), draw.random(6)
        seen.append(states)
        head.learn(states, rates)
        centred = states - np.concatenate(seen).mean(axis=0)
        inputs = torch.tensor(np.c_[centred / np.linalg.norm(centred, axis=1, keepdims=True), np.ones(6)])
        for _ in range(3):
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weights, torch.tensor(rates))
            loss.backward()
            optimizer.step()
        expected = torch.sigmoid(inputs @ weights).detach().numpy()
        assert head(states) == pytest.approx(expected, rel=1e-9)


def test_the_head_learns_a_pass_rate_that_the_state_shows() -> None:
    draw = np.random.default_rng(1)
    direction = draw.normal(size=16)
    selector = ValueHeadSelector(ValueHeadSection(), 0.5)
    errors = []
    for step in range(1, 120):
        states = {f"p{n}": draw.normal(size=16) + 5 for n in range(16)}
        rates = {id: 1 / (1 + math.exp(-float((one - 5) @ direction))) for id, one in states.items()}
        outcomes = [outcome(id, round(8 * rates[id])) for id in states]
        metrics = selector.observe(step, outcomes, {id: one.tolist() for id, one in states.items()})
        errors.append(metrics["control/value_head_error"])
    assert sum(errors[-20:]) < 0.5 * sum(errors[:20])


# --- ranking ---


@given(
    st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=40),
    st.integers(1, 50),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_a_ranking_solves_exactly_the_places_and_prefers_the_nearest(
    distances: list[float], places: int, audit_share: float, seed: int
) -> None:
    judgements = {f"p{n}": Judgement("open", (one, 0.0)) for n, one in enumerate(distances)}
    decision = keep_nearest(judgements, places, audit_share, seed, 1)
    solved = [id for id in judgements if id not in decision.gated]
    assert len(solved) == min(places, len(distances))
    assert set(decision.audited) <= set(solved)
    assert decision.let_through == ()

    def far(id: str) -> float:
        value = judgements[id].doubt[0]
        return math.inf if math.isnan(value) else value

    kept = [far(id) for id in solved if id not in decision.audited]
    assert max(kept, default=0.0) <= min((far(id) for id in decision.gated), default=math.inf)


def test_the_audited_share_of_what_is_ranked_last_is_what_was_asked() -> None:
    judgements = {f"p{n}": Judgement("open", (n / 400, 0.0)) for n in range(400)}
    audited = gated = 0
    for step in range(1, 31):
        decision = keep_nearest(judgements, 200, 0.1, SEED, step)
        audited, gated = audited + len(decision.audited), gated + len(decision.gated)
    share = audited / (audited + gated)
    assert abs(share - 0.1) <= 4 * math.sqrt(0.1 * 0.9 / (audited + gated))


# --- hostile streams, for all of them ---


def _trivial(step: int, index: int) -> int:
    return 8


def _unsolvable(step: int, index: int) -> int:
    return 0


def _drifting(step: int, index: int) -> int:
    """Every problem goes from unsolved to solved and back, each at its own pace."""
    return round(4 - 4 * math.cos(step / 5 + index))


STREAMS = {"all trivial": _trivial, "all unsolvable": _unsolvable, "drifting": _drifting}
# What predictions say of a measured pass rate.
PREDICTIONS: dict[str, Callable[[float], float]] = {
    "right": lambda rate: rate,
    "opposite": lambda rate: 1 - rate,
    "always solved": lambda rate: 1.0,
    "never solved": lambda rate: 0.0,
}


def play(
    selector: Selector, stream: Callable[[int, int], int], steps: int, predict: Callable[[float], float]
) -> tuple[list[list[str]], int]:
    """The ids solved in each step where 12 candidates compete for 4 places, or are flagged; audits at 5 %.

    And how many candidates were flagged in all steps.
    """
    ids = [f"p{n}" for n in range(24)]
    solved, flagged = [], 0
    for step in range(1, steps + 1):
        drawn = random.Random(step).sample(ids, 12)
        right = {id: stream(step, ids.index(id)) for id in drawn}
        told = {id: predict(right[id] / 8) for id in drawn}
        known = {id: features(id) for id in drawn} if selector.needs == "prompts" else {}
        if selector.needs == "solutions":
            known = {id: [float(n < right[id]) for n in range(8)] for id in drawn}
        judgements = selector.judge(step, candidates(drawn, told), known)
        assert list(judgements) == drawn
        flagged += sum(one.flagged for one in judgements.values())
        if selector.ranks:
            gated = keep_nearest(judgements, 4, 0.05, SEED, step).gated
            assert len(gated) == 8
        else:
            gated = decide(judgements, GatingSection(), SEED, step, is_open=True).gated
            assert len(gated) <= 9
        mine = [id for id in drawn if id not in gated]
        assert all(math.isfinite(one.doubt[0]) for one in judgements.values())
        metrics = selector.observe(step, [outcome(id, right[id], predicted=told[id]) for id in mine], known)
        assert all(math.isfinite(value) for value in metrics.values())
        solved.append(mine)
    return solved, flagged


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("name", "predictions"),
    [(name, said) for name in MAKE for said in PREDICTIONS if said == "right" or MAKE[name]().needs == "metas"],
)
def test_a_method_stands_a_hostile_stream_and_gives_up_no_problem(name: str, predictions: str, stream: str) -> None:
    # A problem is drawn in every other step, and audited in one of twenty of these at least.
    solved, flagged = play(MAKE[name](), STREAMS[stream], 320, PREDICTIONS[predictions])
    late = {id for step in solved[40:] for id in step}
    assert len(late) == 24
    assert flagged > 0 or MAKE[name]().ranks


@pytest.mark.parametrize("name", MAKE)
def test_a_method_restored_from_json_goes_on_as_if_nothing_had_happened(name: str) -> None:
    whole, resumed = MAKE[name](), MAKE[name]()
    for step in range(1, 30):
        for selector in (whole, resumed):
            play_one(selector, step)
        again = MAKE[name]()
        again.load_state_dict(json.loads(json.dumps(resumed.state_dict())))
        resumed = again
    assert resumed.state_dict() == whole.state_dict()
    evidence = evidence_of(whole, 30)
    drawn = candidates([f"p{n}" for n in range(12)], {f"p{n}": n / 11 for n in range(12)})
    assert resumed.judge(30, drawn, evidence) == whole.judge(30, drawn, evidence)


def evidence_of(selector: Selector, step: int) -> dict[str, list[float]]:
    ids = [f"p{n}" for n in range(12)]
    if selector.needs == "prompts":
        return {id: features(id) for id in ids}
    if selector.needs == "solutions":
        return {id: [float(n < _drifting(step, index)) for n in range(8)] for index, id in enumerate(ids)}
    return {}


def play_one(selector: Selector, step: int) -> None:
    drawn = random.Random(step).sample(range(12), 5)
    outcomes = [outcome(f"p{n}", _drifting(step, n), predicted=n / 11) for n in drawn]
    selector.observe(step, outcomes, evidence_of(selector, step))


def test_history_and_posterior_and_chain_follow_a_problem_that_changes() -> None:
    """First unsolved, later solved half of the time: it comes back to the front."""
    for name in ("posterior", "markov"):
        selector = MAKE[name]()
        for step in range(1, 13):
            selector.observe(step, [outcome("a", 0), outcome("b", 4)], {})

        def nearer(selector: Selector = selector) -> float:
            judged = [selector.judge(step, candidates("ab"), {}) for step in range(25, 65)]
            return sum(one["a"].doubt < one["b"].doubt for one in judged) / len(judged)

        before = nearer()
        for step in range(13, 25):
            selector.observe(step, [outcome("a", 4), outcome("b", 0)], {})
        assert before < 0.3 < 0.7 < nearer(), name
    selector = MAKE["history"]()
    for step in range(1, 13):
        selector.observe(step, [outcome("a", 0)], {})
    assert selector.judge(13, candidates("a"), {})["a"].flagged
    selector.observe(13, [outcome("a", 4)], {})
    assert not any(selector.judge(step, candidates("a"), {})["a"].flagged for step in range(14, 60))

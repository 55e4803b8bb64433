"""Stragglers: a step ends with enough whole problems, the others go on in the next; a run resumes bit for bit."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from masa import MASATrainer, load_config
from masa.checkpointing.checkpoint import read_state
from masa.config import Config, ConfigError
from masa.flow.ahead import require_correction
from masa.flow.partial import Begun, PutAside, Quota
from masa.problems import Problem
from masa.rollout.engine import FinishReason, Rollout, RolloutRequest
from masa.rollout.waiting import Waiting, rollout_arrays, rollouts_of
from masa.tokens.exchange import Place
from masa.tracking.keys import is_timing

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
PROBLEMS = [Problem(f"p{number}", f"{number}?", str(number)) for number in range(12)]


def _sample(index: int, reason: FinishReason = "stop", tokens: int = 3) -> Rollout:
    return Rollout("p0", "solution", index, (5,), (7,) * tokens, (-0.5,) * tokens, reason, 0, 0.0)


def _begun(number: int, step: int, *reasons: FinishReason | None) -> Begun:
    samples = tuple(
        None if reason is None else replace(_sample(index, reason), problem_id=f"p{number}")
        for index, reason in enumerate(reasons)
    )
    return Begun(step, PROBLEMS[number], samples, ())


def test_what_is_missing_of_a_problem_has_its_own_seeds_and_goes_on_where_it_was() -> None:
    begun = _begun(0, 3, "stop", "aside", None, "aside")
    whole = RolloutRequest("p0", "solution", (5,), (10, 11, 12, 13), 8)
    (missing,) = begun.missing([whole])
    assert missing.seeds == (11, 12, 13)
    assert [None if one is None else len(one.token_ids) for one in missing.begun] == [3, None, 3]
    found = [replace(_sample(0), finish_reason="length"), None, _sample(2, "aside", 5)]
    after = begun.with_requests([missing], [found])
    assert [None if one is None else (one.index, one.finish_reason) for one in after.solutions] == [
        (0, "stop"),
        (1, "length"),
        None,
        (3, "aside"),
    ]
    assert not after.is_whole
    ended = after.with_requests(after.missing([whole]), [[_sample(0), _sample(1)]])
    assert ended.is_whole
    assert ended.missing([whole]) == []


@pytest.mark.parametrize(
    ("wanted", "share", "count"), [(128, 0.9, 143), (4, 0.9, 5), (9, 0.9, 10), (4, 0.5, 8), (3, 0.6, 5)]
)
def test_the_share_says_how_many_problems_are_in_flight(wanted: int, share: float, count: int) -> None:
    assert PutAside(share, 2).in_flight(wanted) == count


def test_a_step_waits_for_what_may_wait_no_longer_and_trains_on_the_oldest_first() -> None:
    aside = PutAside(0.5, 2)
    aside.waiting = [_begun(0, 3, "aside"), _begun(1, 4, "aside")]
    quota = aside.quota(5, 2)
    assert quota == Quota(2, frozenset({"p0"}))
    assert not quota.is_met(["p0"])
    assert not quota.is_met(["p1", "p2", "p3"])
    assert quota.is_met(["p0", "p2"])
    whole = [_begun(3, 5, "stop"), _begun(1, 4, "stop"), _begun(0, 3, "stop")]
    assert [one.problem.id for one in quota.chosen(whole)] == ["p0", "p1"]
    assert len(Quota(1, frozenset({"p0", "p1"})).chosen(whole)) == 2


def _dealt(waiting: Sequence[Sequence[int]], left: int = 99) -> tuple[list[list[tuple[int, str]]], list[str]]:
    """What each process has in flight where these problems wait in each: its slots."""
    parts = [PutAside(0.5, 2) for _ in waiting]
    for part, numbers in zip(parts, waiting, strict=True):
        part.waiting = [_begun(number, 1, "aside") for number in numbers]
    beside: list[str] = []

    def draw(count: int, ids: Sequence[str]) -> list[Problem]:
        beside[:] = ids
        return [one for one in PROBLEMS if one.id not in ids][: min(count, left)]

    needs: list[Any] = [([one.problem.id for one in part.waiting], 4 - len(part.waiting)) for part in parts]
    found = []
    for process, part in enumerate(parts):
        dealt = part.deal(2, draw, lambda own, process=process: needs, Place(process, len(parts)))  # type: ignore[misc]
        found.append([(slot, one.problem.id if isinstance(one, Begun) else one.id) for slot, one in dealt])
    return found, beside


def test_fresh_problems_fill_up_what_each_process_has_in_flight() -> None:
    found, beside = _dealt([[0, 1, 2], [3]])
    assert beside == ["p0", "p1", "p2", "p3"]
    assert found == [[(0, "p0"), (1, "p1"), (2, "p2"), (3, "p4")], [(4, "p3"), (5, "p5"), (6, "p6"), (7, "p7")]]
    slots = [slot for theirs in _dealt([[0], [1], []], left=2)[0] for slot, _ in theirs]
    assert slots == list(range(4))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_was_put_aside_survives_a_checkpoint(processes: int) -> None:
    waiting = [_begun(number, 3 + number, "stop", None, "aside") for number in range(4)]
    gone_on = replace(waiting[1].solutions[2], went_on=((1, 4), (2, 6)))  # type: ignore[type-var]
    waiting[1] = replace(waiting[1], solutions=(*waiting[1].solutions[:2], gone_on))
    before = [PutAside(0.9, 2), PutAside(0.9, 2)]
    before[0].waiting, before[1].waiting = waiting[:1], waiting[1:]
    states = []
    for one in before:
        state = one.state()
        layout = json.loads(json.dumps(state.layout))
        states.append(Waiting(layout, rollouts_of(rollout_arrays(state.rollouts))))
    after = [PutAside(0.9, 2) for _ in range(processes)]
    for process, one in enumerate(after):
        one.restore(states, PROBLEMS, Place(process, processes))
    assert sorted(one.problem.id for part in after for one in part.waiting) == ["p0", "p1", "p2", "p3"]
    assert {one.problem.id: one for part in after for one in part.waiting} == {one.problem.id: one for one in waiting}
    if processes == 2:
        assert [part.waiting for part in after] == [part.waiting for part in before]


PARTIAL = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=3",
    "algorithm.num_metas=2",
    "algorithm.tis_cap=2",
    "problems.limit=64",
    "problems.eval=null",
    "rollout.partial=true",
    "rollout.partial_share=0.6",
    "rollout.max_solution_tokens=64",
    "rollout.max_meta_tokens=56",
    "rollout.check_at_start=false",
    "rewards.verifier_workers=1",
    "checkpoint.every=1",
    "checkpoint.keep=9",
    "optimizer.learning_rate=1.0e-3",
    "tracking.figures=false",
    "run.steps=6",
    "run.threads=1",
)


def _config(folder: Path, *overrides: str) -> Config:
    return load_config(QUICKSTART, [*PARTIAL, f"run.dir={folder}", *overrides])


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


def _weights(folder: Path, step: int) -> dict[str, Any]:
    return load_file(folder / "checkpoints" / f"step_{step:06d}" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    MASATrainer(_config(folder)).train()
    return folder


def test_every_step_trains_on_a_full_batch_and_puts_the_rest_aside(whole: Path) -> None:
    rows = _rows(whole)[1:]
    assert len(rows) == 6
    assert {row["cost/problems_rolled_out"] for row in rows} == {4}
    # Seven problems are in flight: four end the step.
    assert {row["rollout/put_aside"] for row in rows} == {3}
    assert [row["rollout/went_on"] for row in rows] == [0, *[3] * 5]
    assert all(row["rollout/put_aside_tokens"] > 0 for row in rows)
    assert rows[0]["rollout/staleness_max"] == 0
    assert max(row["rollout/staleness_max"] for row in rows) in (1, 2)
    assert any(0 < row["rollout/staleness"] < 1 for row in rows)


def test_what_is_put_aside_lies_in_a_checkpoint_with_the_weights_that_drew_it(whole: Path) -> None:
    checkpoint = whole / "checkpoints" / "step_000003"
    state = read_state(checkpoint)
    (layout,) = state["put_aside"]
    rollouts = rollouts_of(load_file(checkpoint / "training" / "put_aside-00000.safetensors"))
    assert len(layout) == 3
    assert len(rollouts) == sum(sum(one["solutions"]) + sum(one["metas"]) for one in layout)
    assert {one.finish_reason for one in rollouts} >= {"aside"}
    begun = {one["problem"]: one["step"] for one in layout}
    for one in rollouts:
        versions = [version for version, _ in one.pieces()]
        assert versions == sorted(set(versions))
        assert begun[one.problem_id] - 1 <= versions[0]
        assert versions[-1] <= 2


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(whole: Path, tmp_path: Path, stop: int) -> None:
    folder = tmp_path / "run"
    MASATrainer(_config(folder, f"run.steps={stop}")).train()
    MASATrainer(_config(folder)).train(resume=True)
    assert _rows(folder) == _rows(whole)
    expected, found = _weights(whole, 6), _weights(folder, 6)
    assert all(found[key].equal(expected[key]) for key in expected)


def test_a_run_a_step_ahead_resumes_as_well(tmp_path: Path) -> None:
    ahead = ("rollout.async_steps=1", "run.steps=4")
    whole, folder = tmp_path / "whole", tmp_path / "run"
    MASATrainer(_config(whole, *ahead)).train()
    MASATrainer(_config(folder, *ahead, "run.callbacks=[]")).train()
    assert _rows(folder) == _rows(whole)
    for later in (3, 4):
        (folder / "checkpoints" / f"step_{later:06d}").rename(tmp_path / str(later))
    MASATrainer(_config(folder, *ahead)).train(resume=True)
    assert _rows(folder) == _rows(whole)
    assert all(row["rollout/staleness_max"] <= 3 for row in _rows(whole)[1:])


def test_without_importance_weights_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rollout\.partial: found true, .* set algorithm\.tis_cap"):
        require_correction(0, False, partial=True)
    require_correction(0, True, partial=True)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("rollout.engine=vllm_server", "partial needs an engine in this process"),
        ("rollout.servers=[http://127.0.0.1:8000]", "partial needs an engine in this process"),
        ("rollout.tensor_parallel_size=2", "partial needs tensor_parallel_size=1, found 2"),
        ("algorithm.dynamic_sampling.enabled=true", "rollout.partial and algorithm.dynamic_sampling.enabled exclude"),
        ("controls.gating.enabled=true", "rollout.partial and controls.gating.enabled exclude each other"),
        ("controls.selection.method=posterior", "rollout.partial and controls.selection.method 'posterior' exclude"),
        ("rollout.partial_share=0.4", "partial_share: found 0.4, allowed: at least 0.5"),
        ("rollout.partial_max_age=0", "partial_max_age: found 0, allowed"),
    ],
)
def test_what_it_cannot_be_combined_with_is_said(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(QUICKSTART, ["rollout.partial=true", option])

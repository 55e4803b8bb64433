"""Sampling steps ahead: which weights a batch is made with, and what a checkpoint keeps of it."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from masa.config import ConfigError, load_config
from masa.controls.batch import StepBatch
from masa.flow.ahead import RolloutsAhead, require_correction
from masa.problems import Problem
from masa.rollout import Rollout
from masa.session import Session

PROBLEMS = [Problem(id=f"q{number}", statement=f"{number}?", answer=str(number)) for number in range(8)]


class Loop:
    """A training loop without training: its engine's weights are a version."""

    def __init__(self, steps_ahead: int, last_step: int = 6, share: slice = slice(None)) -> None:
        self.version = 0
        self.share = share
        self.ahead = RolloutsAhead(self.sample, steps_ahead, last_step)

    def sample(self, step: int) -> StepBatch:
        problems = [PROBLEMS[step % 8], PROBLEMS[(step + 1) % 8]]
        mine = problems[self.share]
        groups = [[self.rollout(problem, path)] for path in ("solution", "meta") for problem in mine]
        return StepBatch(problems, mine, groups)

    def rollout(self, problem: Problem, path: Any) -> Rollout:
        return Rollout(problem.id, path, 0, (1, 2), (3,), (-0.25,), "length", self.version, 0.5)

    def step(self, step: int) -> StepBatch:
        batch = self.ahead.take(step)
        self.ahead.wait()
        self.version = step
        return batch


def _versions(batch: StepBatch) -> set[int]:
    return {rollout.weight_version for group in batch.rollouts for rollout in group}


@pytest.mark.parametrize("steps_ahead", [0, 1, 3])
def test_a_batch_is_exactly_so_many_updates_old(steps_ahead: int) -> None:
    loop = Loop(steps_ahead)
    for step in range(1, 7):
        assert _versions(loop.step(step)) == {max(0, step - 1 - steps_ahead)}
    loop.ahead.close()


def test_the_next_batch_is_sampled_while_this_one_is_learned_from() -> None:
    sampling, go_on = threading.Event(), threading.Event()

    def sample(step: int) -> StepBatch:
        if step == 2:
            sampling.set()
            assert go_on.wait(10)
        return StepBatch([], [], [])

    ahead = RolloutsAhead(sample, 1, 5)
    ahead.take(1)
    assert sampling.wait(10), "step 2 is sampled while step 1 has only been taken"
    go_on.set()
    ahead.wait()
    ahead.close()


def test_later_batches_are_sampled_on_this_processs_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[tuple[int, str]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: devices.append((device, threading.current_thread().name))
    )
    loop = Loop(1)
    loop.step(1)
    assert devices == [(3, "masa-rollouts_0")]
    loop.ahead.close()


def test_weights_change_only_when_no_process_samples_any_more() -> None:
    order: list[str] = []
    session: Any = SimpleNamespace(
        rollouts=SimpleNamespace(wait=lambda: order.append("own batches are sampled")),
        accelerator=SimpleNamespace(wait_for_everyone=lambda: order.append("all processes are here")),
        engine=SimpleNamespace(statistics=dict, update_weights=lambda *_, **__: order.append("update")),
        model=None,
        _config=load_config(None, []),
    )
    Session.synchronise(session, 1)
    assert order == ["own batches are sampled", "all processes are here", "update"]


def test_nothing_is_sampled_for_steps_after_the_last() -> None:
    loop = Loop(3, last_step=2)
    loop.step(1)
    assert [one["step"] for one in loop.ahead.state().layout] == [2]
    loop.ahead.close()


@pytest.mark.parametrize("shares", [1, 2])
def test_batches_ahead_survive_a_checkpoint_with_another_number_of_processes(shares: int) -> None:
    before = [Loop(1, share=slice(number, None, 2)) for number in range(2)]
    whole = Loop(1)
    for loop in [*before, whole]:
        loop.step(1)
        loop.step(2)
    states = [loop.ahead.state() for loop in before]
    expected = whole.ahead.take(3)
    after = [Loop(1, share=slice(number, None, shares)) for number in range(shares)]
    for loop in after:
        loop.ahead.restore(states, PROBLEMS, lambda problems, loop=loop: list(problems)[loop.share])
    batches = [loop.ahead.take(3) for loop in after]
    assert all(batch.problems == expected.problems for batch in batches)
    assert sorted((one[0].path, one[0].problem_id) for batch in batches for one in batch.rollouts) == sorted(
        (one[0].path, one[0].problem_id) for one in expected.rollouts
    )
    if shares == 1:
        assert batches[0] == expected
    for loop in [*before, whole, *after]:
        loop.ahead.close()


def test_an_error_while_sampling_ahead_is_raised_where_the_batch_is_needed() -> None:
    def sample(step: int) -> StepBatch:
        if step == 2:
            raise RuntimeError("no engine")
        return StepBatch([], [], [])

    ahead = RolloutsAhead(sample, 1, 5)
    ahead.take(1)
    with pytest.raises(RuntimeError, match="no engine"):
        ahead.wait()
    ahead.close()


def test_older_rollouts_without_importance_weights_are_refused() -> None:
    require_correction(0, False)
    require_correction(2, True)
    with pytest.raises(ConfigError, match=r"rollout\.async_steps: found 1, .* set algorithm\.tis_cap"):
        require_correction(1, False)


@pytest.mark.parametrize("engine", ["vllm", "auto"])
def test_processes_that_share_an_engine_cannot_sample_ahead(engine: str) -> None:
    shared = ["rollout.async_steps=1", "rollout.tensor_parallel_size=2", f"rollout.engine={engine}"]
    with pytest.raises(ConfigError, match="async_steps needs engine=vllm_server"):
        load_config(None, shared)
    servers = "rollout.servers=[http://127.0.0.1:8000]"
    if engine == "auto":
        assert load_config(None, [*shared, servers]).rollout.async_steps == 1


def test_an_engine_that_samples_cannot_sleep() -> None:
    with pytest.raises(ConfigError, match="async_steps and sleep_level exclude each other"):
        load_config(None, ["rollout.async_steps=1", "rollout.sleep_level=1"])

"""What vLLM gives back as rollouts, and what is left of an engine that failed; vLLM is a stand-in."""

import threading
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest

from masa.rollout import Rollout, RolloutRequest
from masa.rollout.engine import Finished, RolloutError
from masa.rollout.statistics import EngineStatistics
from masa.rollout.vllm.sampling import finished_rollout
from masa.rollout.vllm.stream import Engine, VllmStream

REQUEST = RolloutRequest("p7", "solution", (2, 3), (1,), 4)


def _output(finish_reason: str) -> Any:
    logprobs = [{token: SimpleNamespace(logprob=-0.5 * token)} for token in (5, 1)]
    completion = SimpleNamespace(token_ids=[5, 1], logprobs=logprobs, finish_reason=finish_reason)
    return SimpleNamespace(outputs=[completion])


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_a_finished_sample_is_a_rollout_with_the_log_probs_of_its_own_tokens(finish_reason: str) -> None:
    rollout = finished_rollout(REQUEST, 0, _output(finish_reason), 3, 0.0)
    assert (rollout.token_ids, rollout.logprobs) == ((5, 1), (-2.5, -0.5))
    assert (rollout.finish_reason, rollout.weight_version) == (finish_reason, 3)


def test_flat_log_probs_are_those_of_a_mapping_a_position() -> None:
    output = _output("stop")
    # The second position also has the log-prob of a token that was not drawn.
    output.outputs[0].logprobs = SimpleNamespace(start_indices=[0, 1], token_ids=[5, 1, 7], logprobs=[-2.5, -0.5, -0.1])
    assert finished_rollout(REQUEST, 0, output, 3, 0.0) == replace(
        finished_rollout(REQUEST, 0, _output("stop"), 3, 0.0), seconds=ANY
    )


def test_vllms_own_flat_log_probs_are_read_without_a_mapping_a_position() -> None:
    logprobs = pytest.importorskip("vllm.logprobs")
    flat = logprobs.FlatLogprobs()
    for token in (5, 1):
        flat.append_fast([token], [-0.5 * token], iter([1]), [None])
    output = _output("stop")
    output.outputs[0].logprobs = flat
    assert finished_rollout(REQUEST, 0, output, 3, 0.0).logprobs == (-2.5, -0.5)


@pytest.mark.parametrize("finish_reason", ["abort", "error", "repetition"])
def test_a_sample_that_vllm_gave_up_is_an_error_and_no_long_answer(finish_reason: str) -> None:
    with pytest.raises(RolloutError, match=f"'p7': vLLM ended a sample as '{finish_reason}'"):
        finished_rollout(REQUEST, 0, _output(finish_reason), 3, 0.0)


class _Memory:
    """Stands for what a failed engine holds."""


class _Batch:
    """Each call of `advance` ends the oldest sample, or the youngest; ``fails_at`` is the call that fails."""

    def __init__(self, memory: _Memory, fails_at: int | None, *, youngest_first: bool = False) -> None:
        self.memory = memory
        self._next = -1 if youngest_first else 0
        self.calls: list[list[str]] = []
        self._fails_at = fails_at
        self._waiting: list[tuple[int, RolloutRequest, int]] = []
        self._requests = 0

    def advance(self, requests: Sequence[RolloutRequest]) -> list[Finished]:
        memory = self.memory
        self.calls.append([one.problem_id for one in requests])
        for request in requests:
            self._waiting += [(self._requests, request, index) for index in range(len(request.seeds))]
            self._requests += 1
        if len(self.calls) == self._fails_at:
            raise RuntimeError(f"the kernel failed in {type(memory).__name__}")
        if not self._waiting:
            return []
        number, request, index = self._waiting.pop(self._next)
        seed = request.seeds[index]
        rollout = Rollout(request.problem_id, request.path, index, request.prompt_ids, (seed,), (-1.0,), "stop", 0, 0.0)
        return [Finished(number, request, rollout)]

    def abort(self) -> None:
        self._waiting = []


class _Fails:
    """An engine whose first batches fail at these calls."""

    def __init__(self, *fails_at: int, differs_when_built_again: bool = False) -> None:
        self.memory = _Memory()
        self._differs = differs_when_built_again
        self.held: weakref.ref[_Memory] = weakref.ref(self.memory)
        self.fails_at = list(fails_at)
        self.batches: list[list[list[str]]] = []
        self.rebuilt, self.is_lost = 0, False

    def begin(self) -> _Batch:
        fails_at = self.fails_at.pop(0) if self.fails_at else None
        batch = _Batch(self.memory, fails_at, youngest_first=self._differs and self.rebuilt > 0)
        self.batches.append(batch.calls)
        return batch

    def rebuild(self) -> None:
        del self.memory
        assert self.held() is None, "the error keeps the old engine's memory while the new one is built"
        self.memory = _Memory()
        self.held = weakref.ref(self.memory)
        self.rebuilt += 1

    def lose(self) -> None:
        self.is_lost = True

    def stream(self) -> VllmStream:
        parts = Engine(
            self.begin, self.rebuild, self.lose, lambda _: None, nullcontext, threading.RLock(), threading.Event()
        )
        return VllmStream(parts, EngineStatistics())


def _request(name: str) -> RolloutRequest:
    return RolloutRequest(name, "solution", (2, 3), (7, 8), 4)


def _tokens_of_a_chain(engine: _Fails) -> list[tuple[str, int]]:
    """Two requests, and another one when the second sample has ended."""
    found: list[Finished] = []
    later = [_request("c")]
    with engine.stream() as stream:
        stream.submit([_request("a"), _request("b")])
        while ended := stream.take():
            found += ended
            if len(found) >= 2 and later:
                stream.submit([later.pop()])
    return [(one.request.problem_id, one.rollout.token_ids[0]) for one in found]


def test_an_engine_that_failed_does_again_what_it_has_done_and_gives_nothing_twice() -> None:
    whole, failing = _Fails(), _Fails(4)
    assert _tokens_of_a_chain(failing) == _tokens_of_a_chain(whole)
    assert failing.rebuilt == 1
    assert failing.batches == [[["a", "b"], [], ["c"], []], whole.batches[0]]
    assert not failing.is_lost


@pytest.mark.parametrize("fails_at", [2, 3, 4, 5])
def test_an_engine_that_does_it_again_in_another_order_loses_nothing_and_gives_nothing_twice(fails_at: int) -> None:
    failing = _Fails(fails_at, differs_when_built_again=True)
    assert sorted(_tokens_of_a_chain(failing)) == sorted(_tokens_of_a_chain(_Fails()))
    assert failing.rebuilt == 1


def test_the_memory_of_an_engine_that_failed_is_free_when_the_new_one_is_built() -> None:
    engine = _Fails(1)
    assert len(_tokens_of_a_chain(engine)) == 6
    assert engine.rebuilt == 1


@pytest.mark.parametrize("second", [1, 5])
def test_an_engine_that_fails_again_in_the_same_stream_is_given_up(second: int) -> None:
    engine = _Fails(3, second)
    with pytest.raises(RolloutError, match=r"failed \(RuntimeError: .*, was built again, and failed again"):
        _tokens_of_a_chain(engine)
    assert engine.is_lost

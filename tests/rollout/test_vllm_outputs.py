"""What vLLM gives back as rollouts, and what is left of an engine that failed; vLLM is a stand-in."""

import threading
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest

from masa.rollout import RolloutRequest
from masa.rollout.engine import RolloutError
from masa.rollout.vllm.engine import VllmEngine
from masa.rollout.vllm.sampling import finished_rollout

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


class _FailsOnce:
    def __init__(self) -> None:
        self._closing = threading.Event()
        self.memory = _Memory()
        self.held: weakref.ref[_Memory] = weakref.ref(self.memory)
        self.rebuilt = 0

    def _generate(self, requests: object) -> list[str]:
        memory = self.memory
        if not self.rebuilt:
            raise RuntimeError(f"the kernel failed in {type(memory).__name__}")
        return ["samples"]

    def _rebuild(self) -> None:
        del self.memory
        assert self.held() is None, "the error keeps the old engine's memory while the new one is built"
        self.memory = _Memory()
        self.rebuilt += 1


def test_the_memory_of_an_engine_that_failed_is_free_when_the_new_one_is_built() -> None:
    engine: Any = _FailsOnce()
    assert VllmEngine._generate_or_rebuild(engine, []) == ["samples"]
    assert engine.rebuilt == 1

"""Engines in two processes, against one in one process: the same samples, the policy's weights however it is shared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from two_processes import run_on_two_processes
from vllm_runs import make_vllm_engine

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")
pytest.importorskip("peft", reason="needs peft (the extra lora)")
# Importing vLLM takes many times longer on a machine that is busy.
pytestmark = pytest.mark.timeout(900)

SHAPES = ("ddp", "lora", "zero1", "zero2", "zero3", "zero3 lora")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes wrote."""
    folder = tmp_path_factory.mktemp("two_engines")
    run_on_two_processes(Path(__file__).with_name("vllm_ranks.py"), str(folder), timeout=800)
    found: dict[str, Any] = torch.load(folder / "outcomes.pt")
    return found


@pytest.fixture(scope="module")
def alone(make_policy: Callable[..., Any]) -> dict[Any, Any]:
    """What one engine in one process samples."""
    from vllm_ranks import REQUESTS, values_of

    engine = make_vllm_engine(make_policy(), 1)
    try:
        return values_of(engine.generate(REQUESTS))
    finally:
        engine.close()


def _assert_same_samples(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    """The same tokens and ends; log-probs may differ in their last bits, as long prompts meet in another order."""
    assert found.keys() == expected.keys()
    for key, (tokens, logprobs, reason) in expected.items():
        assert (found[key][0], found[key][2]) == (tokens, reason)
        assert torch.allclose(torch.tensor(found[key][1]), torch.tensor(logprobs), rtol=0, atol=2e-6)


def test_two_processes_sample_what_one_does(outcomes: dict[str, Any], alone: dict[Any, Any]) -> None:
    assert len(alone) == 30
    _assert_same_samples(outcomes["engines"]["start"]["values"], alone)


def test_an_engine_that_fails_in_one_process_is_built_again_there_alone(outcomes: dict[str, Any]) -> None:
    engines = outcomes["engines"]
    assert engines["one of them built anew"]["values"] == engines["start"]["values"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_engine_of_each_process_has_the_weights_however_the_policy_is_shared(
    outcomes: dict[str, Any], alone: dict[Any, Any], shape: str
) -> None:
    found = outcomes["engines"][shape]
    assert found["weights_equal"] is True
    assert found["difference"] <= 1e-5
    assert found["values"] != alone, "it has learned nothing"
    assert found["values"].keys() == alone.keys()


def test_an_engine_that_is_tensor_parallel_over_two_processes_samples_from_the_policy(
    outcomes: dict[str, Any], alone: dict[Any, Any]
) -> None:
    found = outcomes["tensor_parallel"]
    _assert_same_samples(found["start"]["values"], alone)
    assert found["updated"]["difference"] <= 1e-5
    assert found["updated"]["values"] != found["start"]["values"]


def test_gathering_a_sharded_policy_holds_one_bucket_at_a_time(outcomes: dict[str, Any]) -> None:
    found = outcomes["gathering"]
    assert found["in_one_piece"] > 0.9 * found["bytes"], found
    assert found["in_buckets"] < 0.1 * found["bytes"], found

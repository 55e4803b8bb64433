"""The vLLM engine in this process when it fails."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from vllm_runs import make_vllm_engine

from masa.rollout import RolloutRequest
from masa.rollout.engine import RolloutError

REQUESTS = [RolloutRequest(f"p{number}", "solution", (5, 6, 7 + number), (1, 2, 3), 20) for number in range(4)]


def _tokens(rollouts: list[list[Any]]) -> list[list[tuple[int, ...]]]:
    return [[rollout.token_ids for rollout in group] for group in rollouts]


def test_a_failing_engine_is_built_again_once_with_the_weights_it_had(
    make_policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(seed=3)
    engine = make_vllm_engine(policy, 1)
    try:
        expected = _tokens(engine.generate(REQUESTS))
        runner = type(engine._engine.model_executor.driver_worker.worker.model_runner)
        execute, failures = runner.execute_model, iter([False, False, True, False] + [False] * 1000)

        def fail_once(self: Any, *arguments: Any, **options: Any) -> Any:
            if next(failures):
                raise RuntimeError("injected")
            return execute(self, *arguments, **options)

        monkeypatch.setattr(runner, "execute_model", fail_once)
        with torch.no_grad():
            policy.lm_head.weight.zero_()  # the policy may be learning already
        assert _tokens(engine.generate(REQUESTS)) == expected

        def fail(self: Any, *arguments: Any, **options: Any) -> Any:
            raise RuntimeError("injected")

        monkeypatch.setattr(runner, "execute_model", fail)
        with pytest.raises(RolloutError, match=r"failed \(RuntimeError: injected\), was built again, and failed again"):
            engine.generate(REQUESTS)
    finally:
        engine.close()
    assert not torch.distributed.is_initialized()

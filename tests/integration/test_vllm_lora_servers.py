"""A vLLM server that samples with LoRA's adapters, and has them again after it was killed."""

import os
import signal
import time
from typing import Any

import psutil
import pytest
import torch

from masa.config import load_config
from masa.model.loading import load_policy, load_tokenizer
from masa.rollout.factory import make_engine
from masa.rollout.weights.agreement import check_agreement

pytest.importorskip("peft", reason="needs peft (the extra lora)")
# A server takes half a minute to start, and longer on a machine that is busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _learn(policy: Any) -> None:
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.02 * torch.randn(parameter.shape))


def test_a_server_samples_with_each_versions_adapter_and_after_a_restart_too() -> None:
    options = (
        "model.lora.rank=4",
        "rollout.engine=vllm_server",
        "rollout.kv_cache_gb=0.2",
        "rollout.max_batch_size=16",
        "rollout.max_model_len=512",
        "rollout.server_wait=600",
    )
    config = load_config(None, list(options))
    policy = load_policy(config.model)
    engine: Any = make_engine(config.rollout, policy, stop_ids=[1], tokenizer=load_tokenizer(config.model))
    try:
        for version in (1, 2):
            _learn(policy)
            engine.update_weights(policy, version)
            assert engine.samples_with_adapter
            agreement = check_agreement(engine, policy, stop_ids=[1])
            assert agreement.weights_equal is True
            assert agreement.difference < 1e-4
        _learn(policy)
        assert check_agreement(engine, policy, stop_ids=[1]).weights_equal is False
        engine.update_weights(policy, 3)

        guardians = [one for one in psutil.Process().children() if any("guardian" in part for part in one.cmdline())]
        (server,) = [child for guardian in guardians for child in guardian.children()]
        os.kill(server.pid, signal.SIGKILL)
        _until(lambda: not engine._fleet.working())
        _until(lambda: bool(engine._fleet.working()))
        agreement = check_agreement(engine, policy, stop_ids=[1])
        assert agreement.weights_equal is True
        assert agreement.difference < 1e-4
    finally:
        engine.close()


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)

"""The check at the start of a run with vLLM: it passes where all is right, and ends the run where the engine is not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm_runs import make_policy, make_vllm_engine, said, train

from masa.config import ConfigError, load_config
from masa.embedded import load_embedded_policy, load_embedded_tokenizer
from masa.policy.forward.policy_module import PolicyModule
from masa.rollout.engine import RolloutRequest, Sampling
from masa.rollout.factory import make_engine
from masa.start_check import Places, check_start

pytest.importorskip("vllm", reason="vLLM is not installed")

_PROMPTS = [tuple(range(3, 3 + length)) for length in (5, 40)]
_REQUESTS = [RolloutRequest(f"{len(one)}", "solution", one, (len(one),), 8, Sampling()) for one in _PROMPTS]
_SERVERS = (
    "rollout.engine=vllm_server",
    "rollout.kv_cache_gb=0.2",
    "rollout.max_batch_size=16",
    "rollout.max_model_len=512",
    "rollout.server_wait=600",
)


def _check(policy: Any, engine: Any) -> dict[str, str]:
    module = PolicyModule(policy, temperature=1.0)
    places = Places(
        model=policy,
        forward=lambda batch: module(batch, False)[0],
        engine=engine,
        layouts=("packed", "shared"),
    )
    return check_start(places, _REQUESTS, 1.0)


def _require_right_and_then_stale(policy: Any, engine: Any) -> None:
    """With the policy's weights the check passes; with those of a policy that has gone on, it does not."""
    assert _check(policy, engine) == {}
    with torch.no_grad():
        policy.model.layers[0].self_attn.v_proj.weight.mul_(1.5)
    with pytest.raises(ConfigError, match=r"the engine's log-probs of its own samples are up to .* nats from"):
        _check(policy, engine)
    engine.update_weights(policy, version=1)
    assert _check(policy, engine) == {}


def test_stale_weights_in_the_engine_are_found() -> None:
    policy = make_policy(tied=False)
    engine = make_vllm_engine(policy, 1)
    try:
        _require_right_and_then_stale(policy, engine)
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.timeout(1500)  # a server takes half a minute to start, and longer on a machine that is busy
def test_stale_weights_in_a_server_of_the_run_are_found() -> None:
    policy = load_embedded_policy()
    config = load_config(None, list(_SERVERS))
    engine = make_engine(config.rollout, policy, stop_ids=[1], tokenizer=load_embedded_tokenizer())
    try:
        _require_right_and_then_stale(policy, engine)
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_with_servers_of_its_own_is_checked_before_its_first_step(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, "rollout.engine=vllm_server", "rollout.server_wait=600", "run.steps=1", "problems.eval=null")
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert first["step"] == 1
    assert first["time/start_check"] > 0, said(folder)

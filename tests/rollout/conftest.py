"""A policy small enough for unit tests."""

from typing import Any

import pytest
from small_policies import small_qwen3


@pytest.fixture
def tiny_policy() -> Any:
    return small_qwen3(hidden_size=32, intermediate_size=48, head_dim=16)

"""A policy small enough for unit tests, and stand-in servers."""

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import Fakes
from small_policies import small_qwen3


@pytest.fixture
def tiny_policy() -> Any:
    return small_qwen3(hidden_size=32, intermediate_size=48, head_dim=16)


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    fakes = Fakes()
    yield fakes
    fakes.close()

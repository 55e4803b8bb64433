"""Shared by the tests of rewards: one pool for all items that behave, and the real data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from masa.rewards import VerifierPool
from masa.rewards.sandbox.isolation import SandboxUnavailableError, check_sandbox

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(workers=2, time_limit=20.0) as started:
        yield started


def shared_file(name: str) -> Path:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    return path


@pytest.fixture(scope="session")
def math_train() -> Path:
    return shared_file("math_train.parquet")


@pytest.fixture(scope="session")
def mbpp_test() -> Path:
    return shared_file("mbpp_test.jsonl")


@pytest.fixture(scope="session")
def sandbox() -> None:
    try:
        check_sandbox()
    except SandboxUnavailableError as error:
        pytest.skip(str(error))

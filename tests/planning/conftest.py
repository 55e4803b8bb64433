"""What tests of plans that were measured need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def accelerate_forgets() -> Iterator[None]:
    """The next test makes an `Accelerator` of its own kind."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(True)

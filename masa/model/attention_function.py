"""Which attention function a model computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def attention_function(model: Any, name: str) -> Iterator[None]:
    """Within the block the model computes attention with the function that `AttentionInterface` knows as ``name``."""
    used = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = used

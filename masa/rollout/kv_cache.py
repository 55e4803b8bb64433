"""A key-value cache with room to grow and rows that can be dropped.

`transformers`' dynamic cache copies every key and value at each new token. These layers write into a buffer with spare
room instead, and give the room of finished sequences back.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_GROWTH = 64


class GrowingLayer(DynamicLayer):
    """One layer's keys and values, ``[batch, heads, length, head_dim]`` views of a buffer that grows by blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        end = self.length + key_states.shape[-2]
        if not self.is_initialized:
            self.keys = _with_room(key_states, end)
            self.values = _with_room(value_states, end)
            self.is_initialized = True
        else:
            if end > self.keys.shape[-2]:
                self.keys = _with_room(self.keys[:, :, : self.length], end)
                self.values = _with_room(self.values[:, :, : self.length], end)
            self.keys[:, :, self.length : end] = key_states
            self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.length

    def select(self, rows: Tensor) -> None:
        """Keep ``rows`` (indices, repeats allowed) of the batch, in that order."""
        self.keys = _with_room(self.keys[:, :, : self.length].index_select(0, rows), self.length + 1)
        self.values = _with_room(self.values[:, :, : self.length].index_select(0, rows), self.length + 1)


class GrowingCache(Cache):
    """The layers' caches of one batch of sequences."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=GrowingLayer)

    def select(self, rows: Tensor) -> None:
        for layer in self.layers:
            assert isinstance(layer, GrowingLayer)
            layer.select(rows)


def _with_room(states: Tensor, length: int) -> Tensor:
    batch, heads, filled, width = states.shape
    capacity = (length // _GROWTH + 1) * _GROWTH
    buffer = states.new_empty((batch, heads, capacity, width))
    buffer[:, :, :filled] = states
    return buffer

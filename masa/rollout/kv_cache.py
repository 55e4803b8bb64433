"""A key-value cache with room to grow and rows that can be dropped.

`transformers`' dynamic cache copies every key and value at each new token. These layers write into a buffer with spare
room instead, and give the room of finished sequences back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

GROWTH = 64


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

    def give_out(self, rows: Tensor) -> None:
        """Make a batch of ``rows`` (indices, repeats allowed), in that order."""
        self.keys = _with_room(self.keys[:, :, : self.length].index_select(0, rows), self.length + 1)
        self.values = _with_room(self.values[:, :, : self.length].index_select(0, rows), self.length + 1)

    def shrink(self, count: int, holes: Tensor, movers: Tensor) -> None:
        """Keep ``count`` rows: the rows ``movers`` go into the places ``holes``, and what lies behind is dropped."""
        for states in (self.keys, self.values):
            states[holes, :, : self.length] = states[movers, :, : self.length]
        self.keys, self.values = self.keys[:count], self.values[:count]


class GrowingCache(Cache):
    """The layers' caches of one batch of sequences."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=GrowingLayer)

    def give_out(self, rows: Tensor) -> None:
        """Make a batch of ``rows`` (indices, repeats allowed), in that order."""
        for layer in self.layers:
            assert isinstance(layer, GrowingLayer)
            layer.give_out(rows)

    def keep(self, kept: Tensor) -> Tensor:
        """Drop all rows but ``kept`` (bool ``[batch]``); the indices of those that remain, in their new order.

        The last rows fill the places of those that go, so that little is copied.
        """
        count = int(kept.sum())
        holes = (~kept[:count]).nonzero().squeeze(1)
        movers = kept[count:].nonzero().squeeze(1) + count
        for layer in self.layers:
            assert isinstance(layer, GrowingLayer)
            layer.shrink(count, holes, movers)
        order = torch.arange(count, device=kept.device)
        order[holes] = movers
        return order


def _with_room(states: Tensor, length: int) -> Tensor:
    batch, heads, filled, width = states.shape
    capacity = (length // GROWTH + 1) * GROWTH
    buffer = states.new_empty((batch, heads, capacity, width))
    buffer[:, :, :filled] = states
    return buffer

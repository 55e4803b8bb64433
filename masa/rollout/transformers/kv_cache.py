"""A key-value cache with room to grow and rows that can be dropped or given to other sequences.

`transformers`' dynamic cache copies every key and value at each new token. These layers write into a buffer with spare
room instead, and give the room of finished sequences back. All rows end at the same column, so a sequence that takes
over a row stands to the right in it, behind columns that nothing attends to; columns that no row needs any more leave
when the buffer is full.
"""

from __future__ import annotations

from typing import Any, cast

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

    def add_rows(self, count: int) -> None:
        """Put so many empty rows behind the last one."""
        self.keys, self.values = (
            torch.nn.functional.pad(states, (0, 0, 0, 0, 0, 0, 0, count)) for states in (self.keys, self.values)
        )

    @property
    def is_full(self) -> bool:
        """Whether the next token needs a larger buffer."""
        return bool(self.length == self.keys.shape[-2])

    def widen(self, columns: int) -> None:
        """Put so many empty columns before the first one."""
        # Zeros: what nothing attends to has a weight of 0, and 0 times what memory happens to hold may be no number.
        self.keys, self.values = (
            torch.nn.functional.pad(states[:, :, : self.length], (0, 0, columns, GROWTH))
            for states in (self.keys, self.values)
        )
        self.length += columns

    def tidy(self, order: Tensor, unused: int) -> None:
        """Put the rows into ``order`` and drop the first ``unused`` columns."""
        columns = slice(unused, self.length)
        self.length -= unused
        self.keys = _with_room(self.keys[:, :, columns].index_select(0, order), self.length + 1)
        self.values = _with_room(self.values[:, :, columns].index_select(0, order), self.length + 1)

    def refill(self, rows: Tensor, source: GrowingLayer, taken: Tensor, columns: slice) -> None:
        """Put ``columns`` of the rows ``taken`` of ``source`` to the end of ``rows``."""
        start = self.length - (columns.stop - columns.start)
        self.keys[rows, :, start : self.length] = source.keys[taken, :, columns]
        self.values[rows, :, start : self.length] = source.values[taken, :, columns]

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
        for layer in self._growing:
            layer.give_out(rows)

    def add_rows(self, count: int) -> None:
        """Put so many empty rows behind the last one."""
        for layer in self._growing:
            layer.add_rows(count)

    @property
    def is_full(self) -> bool:
        """Whether the next token needs larger buffers."""
        return self._growing[0].is_full

    def widen(self, columns: int) -> None:
        """Put so many empty columns before the first one."""
        for layer in self._growing:
            layer.widen(columns)

    def tidy(self, order: Tensor, unused: int) -> None:
        """Put the rows into ``order`` and drop the first ``unused`` columns."""
        for layer in self._growing:
            layer.tidy(order, unused)

    def refill(self, rows: Tensor, source: GrowingCache, taken: Tensor, columns: slice) -> None:
        """Put ``columns`` of the rows ``taken`` of ``source`` to the end of ``rows``."""
        for layer, other in zip(self._growing, source._growing, strict=True):
            layer.refill(rows, other, taken, columns)

    def keep(self, kept: Tensor) -> Tensor:
        """Drop all rows but ``kept`` (bool ``[batch]``); the indices of those that remain, in their new order.

        The last rows fill the places of those that go, so that little is copied.
        """
        count = int(kept.sum())
        holes = (~kept[:count]).nonzero().squeeze(1)
        movers = kept[count:].nonzero().squeeze(1) + count
        for layer in self._growing:
            layer.shrink(count, holes, movers)
        order = torch.arange(count, device=kept.device)
        order[holes] = movers
        return order

    @property
    def _growing(self) -> list[GrowingLayer]:
        return cast("list[GrowingLayer]", self.layers)


def _with_room(states: Tensor, length: int) -> Tensor:
    batch, heads, filled, width = states.shape
    capacity = (length // GROWTH + 1) * GROWTH
    buffer = states.new_empty((batch, heads, capacity, width))
    buffer[:, :, :filled] = states
    return buffer

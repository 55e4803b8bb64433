"""The simulated engine of `step_events.py` whose rows are padded, as those of masa's engine ``transformers`` are."""

from __future__ import annotations

import torch
from step_events import Clock, Engine, Machine, Row

from masa.rollout.transformers.decode_attention import Block, blocks_of
from masa.rollout.transformers.kv_cache import GROWTH


class PaddedEngine(Engine):
    """All sequences read as much of the cache as the longest one of them, or of its block of rows.

    There are blocks, as `masa.rollout.transformers.decode_attention.blocks_of` finds them, where samples go on behind
    what was drawn of them before. Long rows come first then, and again whenever the cache has grown, and the last row
    takes the place of one that ends. Not meant for more sequences than there are rows.
    """

    def __init__(self, clock: Clock, machine: Machine) -> None:
        super().__init__(clock, machine)
        self._order: list[Row] = []
        self._width = 0.0  # columns of the cache, and the count of tokens at which it had them
        self._width_at = 0.0
        self._room = 0.0
        self._in_blocks = False

    def began(self, row: Row) -> None:
        self._order.append(row)
        self._in_blocks |= row.goes_on
        self._sort()

    def ended(self, row: Row) -> None:
        place = next(number for number, one in enumerate(self._order) if one is row)
        last = self._order.pop()
        if last is not row:
            self._order[place] = last

    def cache_read(self) -> float:
        width = self._width + self._made - self._width_at
        if self._in_blocks and width >= self._room:
            self._sort()
            width = self._width
        blocks: tuple[Block, ...] = ()
        if self._in_blocks:
            lengths = torch.tensor([round(row.length_at(self._made)) for row in self._order])
            blocks = blocks_of(lengths, round(width))
        if not blocks:
            return len(self._order) * width
        return sum((one.rows.stop - one.rows.start) * (width - one.first) for one in blocks)

    def _sort(self) -> None:
        """Long rows first, and no column that none of them uses."""
        self._order.sort(key=lambda row: -row.length_at(self._made))
        self._width, self._width_at = self._order[0].length_at(self._made), self._made
        self._room = (self._width // GROWTH + 1) * GROWTH

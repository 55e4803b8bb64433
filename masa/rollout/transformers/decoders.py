"""Ways to decode a batch of sequences with a model of `transformers`, one token a row at a time.

`GrowingDecoder` keeps keys and values in a cache of its own: fast, for models all of whose layers are attention.
`OwnCacheDecoder` uses the cache that the model makes for itself, for layers with another memory: linear attention,
convolutions, state spaces, chunks. Which one is right for a model is found by numbers
(`masa.rollout.transformers.decode_probe`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from masa.model.routers import configs_with_router_losses
from masa.rollout.transformers.decode_attention import Block, blocks_of, decoding
from masa.rollout.transformers.kv_cache import GrowingCache

# What models call their cache in what they take and give, the newest name first.
_CACHE_NAMES = ("cache", "past_key_values", "cache_params")


@dataclass
class Batch:
    """The sequences being decoded: next-token logits, cache, which cached positions are no padding, lengths."""

    logits: Tensor
    cache: Any
    attended: Tensor
    lengths: Tensor
    blocks: tuple[Block, ...] = ()
    """Where rows were given away, or samples go on beside others that begin: rows of like lengths."""

    def give_out(self, rows: Tensor) -> None:
        """Make a batch of ``rows`` (indices, repeats allowed), in that order."""
        if isinstance(self.cache, GrowingCache):
            self.cache.give_out(rows)
        else:
            self.cache.reorder_cache(rows)
        self._take(rows)

    def keep(self, kept: Tensor) -> Tensor:
        """Drop all sequences but ``kept`` (bool); the indices of those that remain, in their new order."""
        if isinstance(self.cache, GrowingCache):
            order = self.cache.keep(kept)
            if self.blocks:
                self.blocks = blocks_of(self.lengths[order], self.attended.shape[1])
        else:
            order = kept.nonzero().squeeze(1)
            self.cache.reorder_cache(order)
        self._take(order)
        return order

    def add_rows(self, count: int) -> None:
        """Put so many rows behind the last one, which are to be given away before the next pass."""
        assert isinstance(self.cache, GrowingCache)
        self.cache.add_rows(count)
        self.logits = pad(self.logits, (0, 0, 0, count))
        self.attended = pad(self.attended, (0, 0, 0, count))
        self.lengths = pad(self.lengths, (0, count))

    def refill(self, rows: Tensor, prompts: Batch, taken: Tensor) -> None:
        """Give ``rows`` to the prompts in the rows ``taken`` of another batch, all but the last token of each.

        That token is for the next `Decoder.advance` to feed; until then these rows have no logits.
        """
        assert isinstance(self.cache, GrowingCache)
        assert isinstance(prompts.cache, GrowingCache)
        lengths = prompts.lengths[taken] - 1
        width = int(lengths.max())
        missing = width - self.attended.shape[1]
        if missing > 0:
            self.cache.widen(missing)
            self.attended = pad(self.attended, (missing, 0))
        end = prompts.attended.shape[1] - 1
        columns = slice(end - width, end)
        self.cache.refill(rows, prompts.cache, taken, columns)
        self.attended[rows] = False
        self.attended[rows, self.attended.shape[1] - width :] = prompts.attended[taken, columns]
        self.lengths[rows] = lengths
        self.find_blocks()

    def find_blocks(self) -> None:
        """Rows of like lengths, as they stand; for a cache whose rows can be given away."""
        if isinstance(self.cache, GrowingCache):
            self.blocks = blocks_of(self.lengths, self.attended.shape[1])

    def tidy(self) -> Tensor | None:
        """Where the cache is full: long sequences first, and no column that none of them uses.

        Returns:
            the indices of the rows in their new order; None where nothing was done.
        """
        if not isinstance(self.cache, GrowingCache) or not self.cache.is_full:
            return None
        order = torch.argsort(self.lengths, descending=True, stable=True)
        unused = self.attended.shape[1] - int(self.lengths.max())
        self.cache.tidy(order, unused)
        self.attended = self.attended[:, unused:]
        self._take(order)
        self.find_blocks()
        return order

    def _take(self, rows: Tensor) -> None:
        self.logits = self.logits[rows]
        self.attended = self.attended[rows]
        self.lengths = self.lengths[rows]


class Decoder(Protocol):
    """One way to decode."""

    model: PreTrainedModel
    equal_lengths: bool
    """Whether the prompts of a batch must be of one length."""
    refills: bool
    """Whether a row of a batch can be given to another prompt (`Batch.refill`)."""

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Batch:
        """Run each prompt; a batch of one row a prompt."""
        ...

    def advance(self, batch: Batch, drawn: Tensor) -> None:
        """Feed one token a row ``[batch]`` and take the logits of the next ones."""
        ...


class GrowingDecoder:
    """Left-padded prompts, and keys and values of all positions in a `GrowingCache`.

    Args:
        model: the causal language model.
        four_dimensional: give the model the mask of a new token, ``[batch, 1, 1, length]``, which is all that full
            attention needs; else a mask of what is padding, from which models make those of their layers.
    """

    equal_lengths = False
    refills = True

    def __init__(self, model: PreTrainedModel, *, four_dimensional: bool) -> None:
        self.model = model
        self.four_dimensional = four_dimensional
        self._call = _Call(model)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Batch:
        input_ids, attended = left_padded(prompts, self.model.device)
        cache = GrowingCache()
        outputs = self._call(input_ids, attended.long(), (attended.cumsum(dim=1) - 1).clamp(min=0), cache)
        return Batch(outputs.logits[:, -1], cache, attended, attended.sum(dim=1))

    def advance(self, batch: Batch, drawn: Tensor) -> None:
        batch.attended = torch.cat([batch.attended, batch.attended.new_ones((len(drawn), 1))], dim=1)
        mask = self._attention_mask(batch.attended)
        with decoding(self.model, batch.blocks) if self.four_dimensional else nullcontext():
            outputs = self._call(drawn.unsqueeze(1), mask, batch.lengths.unsqueeze(1), batch.cache)
        batch.logits = outputs.logits[:, -1]
        batch.lengths = batch.lengths + 1

    def _attention_mask(self, attended: Tensor) -> Tensor:
        if not self.four_dimensional:
            return attended.long()
        blocked = torch.finfo(self.model.dtype).min
        mask = torch.zeros(attended.shape, dtype=self.model.dtype, device=attended.device)
        return mask.masked_fill_(~attended, blocked)[:, None, None, :]


class OwnCacheDecoder:
    """The cache that the model itself makes, as `generate` uses it; ``padded``: prompts of any length, left-padded."""

    refills = False

    def __init__(self, model: PreTrainedModel, *, padded: bool) -> None:
        self.model = model
        self.equal_lengths = not padded
        self._call = _Call(model)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Batch:
        input_ids, attended = left_padded(prompts, self.model.device)
        positions = (attended.cumsum(dim=1) - 1).clamp(min=0)
        outputs = self._call(input_ids, None if self.equal_lengths else attended.long(), positions, None)
        return Batch(outputs.logits[:, -1], _cache_of(outputs), attended, attended.sum(dim=1))

    def advance(self, batch: Batch, drawn: Tensor) -> None:
        batch.attended = torch.cat([batch.attended, batch.attended.new_ones((len(drawn), 1))], dim=1)
        mask = None if self.equal_lengths else batch.attended.long()
        outputs = self._call(drawn.unsqueeze(1), mask, batch.lengths.unsqueeze(1), batch.cache)
        batch.logits, batch.cache = outputs.logits[:, -1], _cache_of(outputs)
        batch.lengths = batch.lengths + 1


class _Call:
    """A forward pass with the arguments that the model, and the installed `transformers`, know by these names."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._known = inspect.signature(model.forward).parameters
        self._cache_name = next((name for name in _CACHE_NAMES if name in self._known), "past_key_values")

    def __call__(self, input_ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Any) -> Any:
        arguments: dict[str, Any] = {"input_ids": input_ids, "use_cache": True}
        if mask is not None:
            arguments["attention_mask"] = mask
        if cache is not None:
            arguments[self._cache_name] = cache
        filled = 0 if mask is None else mask.shape[-1] - input_ids.shape[1]
        if mask is None and cache is not None:
            filled = int(positions[0, 0])
        optional = {
            "position_ids": positions,
            "cache_position": torch.arange(filled, filled + input_ids.shape[1], device=input_ids.device),
            "logits_to_keep": 1,
        }
        arguments |= {name: value for name, value in optional.items() if name in self._known}
        return self._model(**arguments)


def _cache_of(outputs: Any) -> Any:
    for name in _CACHE_NAMES:
        cache = getattr(outputs, name, None)
        if cache is not None:
            return cache
    raise ValueError("the model gives back no cache")


def left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and which of them are no padding (bool), both ``[prompts, longest]``."""
    longest = max(map(len, prompts))
    input_ids = torch.zeros((len(prompts), longest), dtype=torch.long, device=device)
    attended = torch.zeros((len(prompts), longest), dtype=torch.bool, device=device)
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt) :] = torch.tensor([*prompt], device=device)
        attended[row, longest - len(prompt) :] = True
    return input_ids, attended


@contextmanager
def sampling_alone(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model is in evaluation mode and computes no auxiliary losses of routers."""
    training = model.training
    routed = configs_with_router_losses(model)
    model.eval()
    for config in routed:
        config.output_router_logits = False
    try:
        yield
    finally:
        model.train(training)
        for config in routed:
            config.output_router_logits = True

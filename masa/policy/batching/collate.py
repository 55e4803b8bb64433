"""From token ids to the tensors of one micro-batch: padded, packed into one sequence, or behind shared prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masa.tokens.arrays import TokenIds


@dataclass(frozen=True)
class TokenRow:
    """A prompt and its continuation, as token ids.

    ``counted`` says which response tokens are trained on; ``None`` for all of them.
    """

    prompt_ids: Sequence[int]
    token_ids: Sequence[int]
    counted: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        if not self.prompt_ids or not self.token_ids:
            raise ValueError(
                f"a row has {len(self.prompt_ids)} prompt and {len(self.token_ids)} response tokens; "
                "at least one of each needed"
            )
        if self.counted is not None and len(self.counted) != len(self.token_ids):
            raise ValueError(f"a row has {len(self.counted)} counted flags for {len(self.token_ids)} response tokens")

    @property
    def computed_length(self) -> int:
        """Tokens the model reads: the last response token is predicted but never read."""
        return len(self.prompt_ids) + len(self.token_ids) - 1


@dataclass(frozen=True)
class SharedPromptLayout:
    """Where the P different prompts and the R responses of a micro-batch stand among its T tokens.

    ``prompt_tokens`` [P, S] and ``row_tokens`` [R, W] are places of tokens, padded on the right with 0; ``lengths`` [P]
    are those of the prompts, ``of_row`` [R] says which prompt each response follows. ``padded_place`` [T] is each
    token's place in the flattened prompts and responses, [P * S + R * W].
    """

    prompt_tokens: Tensor
    row_tokens: Tensor
    lengths: Tensor
    of_row: Tensor
    padded_place: Tensor

    def to(self, device: torch.device | str) -> SharedPromptLayout:
        """The same layout on another device."""
        return SharedPromptLayout(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class TokenBatch:
    """One micro-batch of R rows with up to L response tokens, N of them counted.

    ``input_ids`` and ``position_ids`` are [B, S]: B = R rows padded on the right, or B = 1 where rows are packed one
    behind another and positions start at 0 with each. ``attention_mask`` is [B, S] and ``None`` when packed. With
    causal attention and padding on the right, real tokens never see padding, so a decoder needs no mask for either.

    ``response_mask`` is [R, L], aligned with the responses: column t is response token t, 1.0 where it counts.
    ``hidden_index`` [N] points into the flattened [B * S] hidden states at those that predict a counted token,
    ``target_ids`` [N] are these tokens, ``response_index`` [N] their places in the flattened [R * L].

    With ``shared_prompts`` B is 1 too: each different prompt once, then the responses, none of them padded.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    response_mask: Tensor
    hidden_index: Tensor
    target_ids: Tensor
    response_index: Tensor
    shared_prompts: SharedPromptLayout | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on another device."""
        values: Any = [getattr(self, field.name) for field in fields(self)]
        moved: Any = [None if value is None else value.to(device) for value in values]
        return TokenBatch(*moved)

    def counted_hidden(self, hidden: Tensor) -> Tensor:
        """The hidden states [N, H], out of [B, S, H], that predict counted tokens."""
        return hidden.reshape(-1, hidden.shape[-1]).index_select(0, self.hidden_index)

    def to_rows(self, values: Tensor) -> Tensor:
        """[N] values of counted tokens as [R, L], 0 elsewhere; gradients flow back."""
        flat = values.new_zeros(self.response_mask.numel())
        return flat.index_copy(0, self.response_index, values).reshape(self.response_mask.shape)

    def align(self, rows: Sequence[Sequence[float]]) -> Tensor:
        """One float a response token, such as the engine's log-probs, as [R, L], float32, 0 elsewhere."""
        if len(rows) != self.response_mask.shape[0]:
            raise ValueError(f"{len(rows)} rows of values for a batch of {self.response_mask.shape[0]}")
        aligned = torch.zeros(self.response_mask.shape)
        for row, values in enumerate(rows):
            if len(values) > aligned.shape[1]:
                raise ValueError(f"row {row} has {len(values)} values for at most {aligned.shape[1]} response tokens")
            aligned[row, : len(values)] = torch.from_numpy(np.array(values, dtype=np.float32))
        return aligned.to(self.response_mask.device)


def collate(rows: Sequence[TokenRow], pad_token_id: int = 0) -> TokenBatch:
    """Rows padded on the right to the longest."""
    _require_rows(rows)
    width = max(row.computed_length for row in rows)
    input_ids = torch.full((len(rows), width), pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        input_ids[index, : row.computed_length] = _read_ids(row)
        attention_mask[index, : row.computed_length] = 1
    position_ids = torch.arange(width).expand(len(rows), width).contiguous()
    starts = [index * width for index in range(len(rows))]
    return TokenBatch(input_ids, position_ids, attention_mask, *_counted_places(rows, starts))


def pack(rows: Sequence[TokenRow]) -> TokenBatch:
    """Rows one behind another in a single sequence, positions starting at 0 with each row.

    ``transformers`` reads the row borders from the positions when it is given no attention mask, and keeps attention
    within rows. Only a variable-length attention kernel (flash attention) also skips the work between rows; ``sdpa``
    is right as well but computes the full square of the packed length.
    """
    _require_rows(rows)
    lengths = [row.computed_length for row in rows]
    starts = [sum(lengths[:index]) for index in range(len(rows))]
    input_ids = torch.cat([_read_ids(row) for row in rows])[None]
    position_ids = torch.cat([torch.arange(length) for length in lengths])[None]
    return TokenBatch(input_ids, position_ids, None, *_counted_places(rows, starts))


def collate_behind_prompts(rows: Sequence[TokenRow]) -> TokenBatch:
    """Each different prompt once, then the responses, one behind another; positions go on where a prompt ends.

    The last token of a response is predicted and never read, so a response of one token adds nothing.
    """
    _require_rows(rows)
    of_row, prompts = numbered_prompts(rows)
    lengths = [*map(len, prompts), *(len(row.token_ids) - 1 for row in rows)]
    starts = [0, *accumulate(lengths)][:-1]
    positions = [torch.arange(len(prompt)) for prompt in prompts]
    hidden_index = []
    for index, row in enumerate(rows):
        prompt, start = of_row[index], starts[len(prompts) + index]
        positions.append(torch.arange(len(row.token_ids) - 1) + len(row.prompt_ids))
        # The last state of the prompt predicts the first response token, the response's own states the others.
        states = torch.arange(len(row.token_ids)) + start - 1
        states[0] = starts[prompt] + len(row.prompt_ids) - 1
        hidden_index.append(states if row.counted is None else states[torch.tensor(row.counted)])
    mask, _, target_ids, response_index = _counted_places(rows, [0] * len(rows))
    return TokenBatch(
        _joined_ids([*prompts, *(row.token_ids[:-1] for row in rows)])[None],
        torch.cat(positions)[None],
        None,
        mask,
        torch.cat(hidden_index),
        target_ids,
        response_index,
        _layout(starts, lengths, of_row, len(prompts)),
    )


def _layout(starts: Sequence[int], lengths: Sequence[int], of_row: Sequence[int], prompts: int) -> SharedPromptLayout:
    """Pieces of ``lengths`` tokens from ``starts``: the prompts, then the responses."""
    tables: list[Tensor] = []
    padded_place: list[Tensor] = []
    before = 0
    for part in (slice(0, prompts), slice(prompts, None)):
        width = max([1, *lengths[part]])
        table = torch.zeros((len(lengths[part]), width), dtype=torch.long)
        for index, (start, length) in enumerate(zip(starts[part], lengths[part], strict=True)):
            table[index, :length] = torch.arange(start, start + length)
            padded_place.append(torch.arange(length) + before + index * width)
        tables.append(table)
        before += table.numel()
    prompt_tokens, row_tokens = tables
    return SharedPromptLayout(
        prompt_tokens, row_tokens, torch.tensor(lengths[:prompts]), torch.tensor(of_row), torch.cat(padded_place)
    )


def numbered_prompts(rows: Sequence[TokenRow]) -> tuple[list[int], list[Sequence[int]]]:
    """The number of each row's prompt, and the different prompts in the order of their numbers."""
    numbers: dict[Sequence[int], int] = {}
    # Token ids as arrays compare and hash as tuples do.
    keys = (row.prompt_ids if isinstance(row.prompt_ids, TokenIds) else tuple(row.prompt_ids) for row in rows)
    of_row = [numbers.setdefault(key, len(numbers)) for key in keys]
    return of_row, list(numbers)


def _read_ids(row: TokenRow) -> Tensor:
    return _joined_ids([row.prompt_ids, row.token_ids[:-1]])


def _joined_ids(parts: Sequence[Sequence[int]]) -> Tensor:
    return torch.from_numpy(np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]))


def _counted_places(rows: Sequence[TokenRow], starts: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Response mask, hidden index, target ids and response index of rows that begin at ``starts``."""
    width = max(len(row.token_ids) for row in rows)
    mask = torch.zeros(len(rows), width)
    hidden_index, target_ids = [], []
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        counted = torch.ones(len(row.token_ids), dtype=torch.bool) if row.counted is None else torch.tensor(row.counted)
        mask[index, : len(row.token_ids)] = counted.float()
        places = counted.nonzero()[:, 0]
        # The state at the last prompt token predicts response token 0.
        hidden_index.append(places + start + len(row.prompt_ids) - 1)
        target_ids.append(_joined_ids([row.token_ids])[places])
    return mask, torch.cat(hidden_index), torch.cat(target_ids), mask.flatten().nonzero()[:, 0]


def _require_rows(rows: Sequence[TokenRow]) -> None:
    if not rows:
        raise ValueError("a micro-batch needs at least one row")

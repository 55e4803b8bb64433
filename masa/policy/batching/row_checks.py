"""Log-probs of the same rows by different ways, to be compared: the model's own, and each layout of a micro-batch.

A layout is right where rows of it never mix. Two numbers tell: the distance of its log-probs from those of padded rows,
and by how much one row's log-probs move when only another row's tokens change. The second needs no tolerance for the
rounding of half precision, and sees what a model's memory of far tokens hides from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from masa.policy.batching.collate import TokenBatch, TokenRow, collate

Collate = Callable[[Sequence[TokenRow]], TokenBatch]
Forward = Callable[[TokenBatch], Tensor]
"""[R, L] log-probs of a micro-batch, as `PolicyModule` gives them."""

# What another row's tokens may move a row's log-probs by, in nats. Measured were 0 where rows stay apart, and 0.31 at
# the least where they mix (tests/models/tolerances.py); what is allowed is left for kernels that sum in another order.
LEAK_TOLERANCES = {torch.float64: 1e-8, torch.float32: 2e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_SHORT_PROMPT = 3


@torch.no_grad()
def own_logits(model: Any, row: TokenRow, temperature: float) -> Tensor:
    """[L, V] logits of a row's response by the model itself, in float32 or wider; nothing padded or packed."""
    ids = torch.tensor([[*row.prompt_ids, *row.token_ids]], device=model.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, len(row.prompt_ids) - 1 : -1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature


def own_logprobs(model: Any, row: TokenRow, temperature: float) -> Tensor:
    """[L] log-probs of a row's response by the model's own logits."""
    return chosen_logprobs(own_logits(model, row, temperature), row)


def chosen_logprobs(logits: Tensor, row: TokenRow) -> Tensor:
    """[L] log-probs of a row's response, of its ``logits`` [L, V]."""
    chosen = torch.tensor([*row.token_ids], device=logits.device)[:, None]
    return logits.log_softmax(-1).gather(1, chosen)[:, 0].cpu()


@torch.no_grad()
def batch_logprobs(forward: Forward, rows: Sequence[TokenRow], layout: Collate, device: Any) -> list[Tensor]:
    """[L] of each row, as a micro-batch in a layout."""
    values = forward(layout(rows).to(device)).cpu()
    return [values[index, : len(row.token_ids)] for index, row in enumerate(rows)]


def distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The largest, in nats; infinity where a number is not finite."""
    differences = torch.cat([(a.double() - b.double()).abs() for a, b in zip(one, other, strict=True)])
    return float(torch.nan_to_num(differences, nan=torch.inf).max())


def layout_distance(forward: Forward, rows: Sequence[TokenRow], layout: Collate, device: Any) -> float:
    """Of a layout's log-probs from those of padded rows."""
    padded = batch_logprobs(forward, rows, collate, device)
    return distance(batch_logprobs(forward, rows, layout, device), padded)


def leak(forward: Forward, rows: Sequence[TokenRow], layout: Collate, vocabulary: int, device: Any) -> float:
    """By how much other rows' log-probs move when only the tokens of the first prompt and of its rows change.

    Prompts are cut to their last tokens, so that what is counted stands near to the border between rows.
    """
    short = [replace(row, prompt_ids=tuple(row.prompt_ids)[-_SHORT_PROMPT:]) for row in rows]
    first = tuple(short[0].prompt_ids)
    changed = [_shifted(row, vocabulary) if tuple(row.prompt_ids) == first else row for row in short]
    others = [index for index, row in enumerate(short) if tuple(row.prompt_ids) != first]
    if not others:
        return 0.0
    before, after = (batch_logprobs(forward, one, layout, device) for one in (short, changed))
    return distance([before[index] for index in others], [after[index] for index in others])


def _shifted(row: TokenRow, vocabulary: int) -> TokenRow:
    def shift(ids: Sequence[int]) -> tuple[int, ...]:
        return tuple((one + 1 + vocabulary // 3) % vocabulary for one in ids)

    return replace(row, prompt_ids=shift(row.prompt_ids), token_ids=shift(row.token_ids))

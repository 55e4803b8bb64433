"""The states of rows that share prompts: each prompt is computed once, and its rows attend to its keys and values.

The G solutions of a problem follow one prompt, and so do its M metas. A row computed whole computes it again; here the
prompts of a micro-batch go through the decoder first, and the responses after them with the prompts' keys and values
in front of their own. Gradients flow back through both, so that log-probs and gradients are the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from masa.policy.collate import TokenBatch


def can_share_prompts(model: Any) -> bool:
    """Whether the model's attention can be given a mask and keys from before, and positions are all it needs beside.

    That is rotary positions, full attention in every layer and `sdpa` kernels. Recomputing activations (gradient
    checkpointing) would forget the prompts' keys.
    """
    config = model.config
    return (
        hasattr(model.get_decoder(), "rotary_emb")
        and config._attn_implementation == "sdpa"
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and getattr(config, "sliding_window", None) is None
        and not model.is_gradient_checkpointing
    )


def states_behind_prompts(decoder: nn.Module, batch: TokenBatch) -> Tensor:
    """Hidden states of the prompts followed by those of the rows, [P * S + R * W, H].

    Raises:
        ValueError: a batch without ``prompts``.
    """
    if batch.prompts is None:
        raise ValueError("the rows of this batch hold their own prompts")
    new_layer: Any = partial(_PromptLayer, batch.prompts.of_row)
    cache = Cache(layer_class_to_replicate=new_layer)
    prompts = decoder(input_ids=batch.prompts.input_ids, past_key_values=cache, use_cache=True).last_hidden_state
    rows = decoder(
        input_ids=batch.input_ids,
        attention_mask=_attended(batch),
        position_ids=batch.position_ids,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return torch.cat([prompts.flatten(0, 1), rows.flatten(0, 1)])


def _attended(batch: TokenBatch) -> Tensor:
    """[R, 1, W, S + W], true where a response token sees a key: its own prompt's, and the response's up to itself."""
    assert batch.prompts is not None
    device, width = batch.input_ids.device, batch.input_ids.shape[1]
    lengths = batch.prompts.lengths[batch.prompts.of_row]
    to_prompt = torch.arange(batch.prompts.input_ids.shape[1], device=device) < lengths[:, None]
    to_response = torch.ones((width, width), dtype=torch.bool, device=device).tril()
    rows = len(lengths)
    return torch.cat(
        [to_prompt[:, None].expand(rows, width, -1), to_response[None].expand(rows, -1, -1)], dim=2
    ).unsqueeze(1)


class _PromptLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values of the prompts, given out to the rows that follow them."""

    def __init__(self, of_row: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor
        self.values: Tensor
        self._of_row = of_row

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.keys, self.values, self.is_initialized = key_states, value_states, True
            return key_states, value_states
        keys = torch.cat([self.keys.index_select(0, self._of_row), key_states], dim=2)
        values = torch.cat([self.values.index_select(0, self._of_row), value_states], dim=2)
        return keys, values

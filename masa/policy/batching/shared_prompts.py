"""The states of rows that share prompts: each prompt is computed once, and its rows attend to its keys and values.

The G solutions of a problem follow one prompt, and so do its M metas. A row computed whole computes it again. Here the
different prompts of a micro-batch and its responses stand one behind another without padding, and attention alone puts
them side by side: prompts attend to themselves, responses to their prompt and themselves. Log-probs and gradients are
the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from masa.model.attention_function import attention_function
from masa.policy.batching.collate import SharedPromptLayout, TokenBatch
from masa.policy.forward.head import decoder_of

_NAME = "masa_shared_prompts"
# What models ask of their attention that this one does not do.
_UNKNOWN = ("sliding_window", "softcap", "s_aux", "position_bias")


def can_share_prompts(model: Any) -> bool:
    """Whether the model's attention can be replaced, and positions are all that it needs beside.

    That is rotary positions, full attention in every layer and `sdpa` kernels. Gradient checkpointing computes layers
    again when the attention is back to the usual one. What attention does beside (own attention classes, sinks) shows
    when rows are compared before the first step (`masa.start_check`).
    """
    config = model.config.get_text_config()
    return (
        hasattr(decoder_of(model), "rotary_emb")
        and config._attn_implementation == "sdpa"
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and attention_window(config) is None
        and not _recomputes_activations(model)
    )


def _recomputes_activations(model: Any) -> bool:
    """Whether gradient checkpointing is on, by the name that the installed `transformers` has for it."""
    newer = getattr(model, "is_activation_checkpointing", None)
    return bool(model.is_gradient_checkpointing if newer is None else newer)


def states_behind_prompts(decoder: nn.Module, batch: TokenBatch) -> Tensor:
    """Hidden states [1, T, H] of the prompts followed by those of the responses.

    Raises:
        ValueError: a batch without ``shared_prompts``.
    """
    layout = batch.shared_prompts
    if layout is None:
        raise ValueError("the rows of this batch hold their own prompts")
    with attention_function(decoder, _NAME):
        states: Tensor = decoder(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            use_cache=False,
            layout=layout,
            key_tokens=torch.cat([layout.prompt_tokens[layout.of_row], layout.row_tokens], dim=1),
            attended=attended(layout),
        ).last_hidden_state
    return states


def attended(layout: SharedPromptLayout) -> Tensor:
    """[R, 1, W, S + W], true where a response token sees a key: its own prompt's, and the response's up to itself."""
    rows, width = layout.row_tokens.shape
    device = layout.row_tokens.device
    lengths = layout.lengths[layout.of_row]
    to_prompt = torch.arange(layout.prompt_tokens.shape[1], device=device) < lengths[:, None]
    to_response = torch.ones((width, width), dtype=torch.bool, device=device).tril()
    return torch.cat(
        [to_prompt[:, None].expand(rows, width, -1), to_response[None].expand(rows, -1, -1)], dim=2
    ).unsqueeze(1)


def attention_window(config: Any) -> int | None:
    """The widest window or chunk of attention that a text model's configuration names, in tokens; None: none."""
    named = [
        value
        for name, value in config.to_dict().items()
        if name == "attention_chunk_size" or ("window" in name and "layers" not in name)
    ]
    widths = [value for value in named if isinstance(value, int) and not isinstance(value, bool) and value > 1]
    return max(widths, default=None)


def shared_prompt_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: SharedPromptLayout,
    key_tokens: Tensor,
    attended: Tensor,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function of `transformers` over the T tokens of a layout: query [1, heads, T, D], keys of maybe
    fewer heads; [1, T, heads, D]. ``key_tokens`` [R, S + W] are the places of each response's keys, its prompt's first.
    """
    unknown = [name for name in _UNKNOWN if others.get(name) is not None]
    if unknown:
        raise ValueError(f"{type(module).__name__} asks its attention for {', '.join(unknown)}")
    groups = query.shape[1] // key.shape[1]

    def attention(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        key_heads, value_heads = (
            _side_by_side(states, keys).repeat_interleave(groups, dim=1) for states in (key, value)
        )
        return scaled_dot_product_attention(
            _side_by_side(query, queries), key_heads, value_heads, mask, is_causal=mask is None, scale=scaling
        )

    prompts = attention(layout.prompt_tokens, layout.prompt_tokens, None)
    responses = attention(layout.row_tokens, key_tokens, attended)
    padded = torch.cat([one.transpose(1, 2).flatten(0, 1) for one in (prompts, responses)])
    return padded.index_select(0, layout.padded_place).unsqueeze(0), None


def _side_by_side(states: Tensor, places: Tensor) -> Tensor:
    """[B, heads, L, D] of [1, heads, T, D], for places [B, L]."""
    _, heads, _, width = states.shape
    return states[0].index_select(1, places.flatten()).view(heads, *places.shape, width).transpose(0, 1)


AttentionInterface.register(_NAME, shared_prompt_attention)

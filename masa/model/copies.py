"""Models beside the policy in training: whole ones to sample from, frozen ones to compare with."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from masa.model.lora import has_adapters
from masa.model.sharded import is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def plain_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A whole, frozen model of the same architecture, type and device, without adapters.

    Its parameters are those of ``model`` only where ``model`` is plain itself; else they wait to be filled from
    `masa.model.weights.policy_weights`.
    """
    if not is_sharded(model) and not has_adapters(model):
        return copy.deepcopy(model).requires_grad_(False)
    untyped: Any = model
    fresh: Any = type(untyped)(copy.deepcopy(untyped.config))
    fresh.generation_config = copy.deepcopy(untyped.generation_config)
    whole: PreTrainedModel = fresh.to(device=untyped.device, dtype=untyped.dtype).eval().requires_grad_(False)
    return whole

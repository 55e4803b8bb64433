"""The shape of a causal language model: what every formula of this room is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from masa.tracking.cost import ModelShape, attention_heads

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class DecoderShape:
    """A decoder with RMS norms, rotary positions, grouped-query attention and a gated MLP.

    Parameters are counted, not computed: ``parameters`` are all, ``trained`` those that the update changes (adapters
    only, under LoRA), ``table`` those of the input embedding, ``largest_layer`` those of the largest decoder layer.
    ``intermediate`` is the width of the MLP that one token passes: of all its chosen experts together in a mixture.
    ``active`` are the parameters that one token is multiplied with: all but the table and the experts not chosen.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    intermediate: int
    vocabulary: int
    tied: bool
    query_key_norms: bool
    parameters: int
    trained: int
    table: int
    largest_layer: int
    active: int

    @property
    def query_width(self) -> int:
        """A: heads times head width."""
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        """K: key-value heads times head width."""
        return self.kv_heads * self.head_width

    @property
    def trains_everything(self) -> bool:
        return self.trained == self.parameters

    def flops(self) -> ModelShape:
        """What the FLOP formulas of `masa.tracking.cost` take."""
        return ModelShape(parameters=self.active, attention_width=self.layers * self.query_width)


def shape_of(model: Any) -> DecoderShape:
    """The shape of a causal language model of `transformers`; its parameters may be on the meta device."""
    config = model.config.get_text_config()
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    parameters = sum(one.numel() for one in model.parameters())
    layers = list(model.get_decoder().layers)
    idle, width = _experts(config, layers)
    heads, head_width = attention_heads(config)
    return DecoderShape(
        layers=len(layers),
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_width=head_width,
        intermediate=width,
        vocabulary=head.shape[0],
        tied=head is table,
        query_key_norms=any(name.endswith("q_norm") for name, _ in model.named_modules()),
        parameters=parameters,
        trained=sum(one.numel() for one in model.parameters() if one.requires_grad),
        table=table.numel(),
        largest_layer=max(sum(one.numel() for one in layer.parameters()) for layer in layers),
        active=parameters - idle - (0 if head is table else table.numel()),
    )


def _experts(config: Any, layers: list[Any]) -> tuple[int, int]:
    """Parameters of experts that a token does not pass, and the width of the MLP that it does, at its widest layer."""
    count = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None) or 0
    chosen = getattr(config, "num_experts_per_tok", None) or 0
    dense = int(getattr(config, "intermediate_size", 0) or 4 * config.hidden_size)
    if not count or not chosen:
        return 0, dense
    in_experts = sum(
        one.numel() for layer in layers for name, one in layer.named_parameters() if ".experts." in f".{name}"
    )
    width = int(getattr(config, "moe_intermediate_size", None) or dense) * chosen
    width += int(getattr(config, "shared_expert_intermediate_size", None) or 0)
    return in_experts - in_experts * chosen // count, width

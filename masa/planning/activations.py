"""Memory of one micro-batch's forward and backward pass, above parameters, gradients and optimiser states.

Counted for the modules of `transformers` (Qwen3's, which Llama's and others share) as autograd keeps their tensors, and
for this project's head, `masa.policy.forward.logprobs`. With b bytes an element, hidden size H, A = heads * head width,
K = key-value heads * head width and MLP width I, one token leaves behind in one layer:

- each of two RMS norms, computed in float32: its input as float32 (4 H), the normed states (b H) and what the next
  matrix reads (b H); in float32 the input is the residual stream itself and nothing is copied;
- queries and keys: as projected (in float32 for their norm: 4 A + 4 K), normed (b A + b K), turned (b A + b K); values
  b K; attention's output b A; without norms of their own only turned and values;
- a gated MLP: gate, activated gate, up and their product, 4 b I.

Attention itself keeps one number a head and token (flash and memory-efficient kernels). With gradient checkpointing a
layer leaves its input (b H), and one layer at a time is computed again.

`tests/planning/test_memory_model.py` compares all of it with the peaks of torch's allocator.
"""

from __future__ import annotations

from dataclasses import dataclass

from masa.planning.shapes import BYTES, DecoderShape
from masa.policy.forward.logprobs import block_shape, keeps_matrix

_FLOAT = 4


@dataclass(frozen=True)
class MicroBatch:
    """``tokens`` that the model reads, padding included, and how many of them predict a token that counts."""

    tokens: int
    counted: int


@dataclass(frozen=True)
class PassMemory:
    """Bytes alive at the two moments at which a pass may peak; ``layers`` is kept for the backward pass at both.

    ``head`` is what log-probs over the vocabulary add, ``recomputed`` one layer's own tensors (computed again under
    gradient checkpointing, its gradients in any case).
    """

    layers: int
    head: int
    recomputed: int

    @property
    def peak(self) -> int:
        return self.layers + max(self.head, self.recomputed)


def pass_memory(
    shape: DecoderShape,
    batch: MicroBatch,
    *,
    dtype: str,
    checkpointing: bool,
    autocast: bool = False,
    device: str = "cuda",
) -> PassMemory:
    """Activations of one micro-batch.

    Args:
        dtype: the parameters' type.
        autocast: matrix products in bfloat16 over float32 parameters (accelerate's ``mixed_precision: bf16``).
        device: ``cuda`` or ``cpu``, whose blocks of the vocabulary differ.
    """
    size = BYTES[dtype]
    layer = layer_bytes(shape, dtype=dtype, autocast=autocast)
    computed = 2 if autocast else size
    stream = size * shape.hidden
    # The weight's gradient before it is added, and two gradients of the MLP's width more than saved tensors given back.
    gradients = batch.tokens * (2 * computed * shape.intermediate + 2 * stream)
    weight_gradient = size * shape.hidden * shape.intermediate if shape.trains_everything else 0
    if checkpointing:
        # Embedded tokens and each layer's output; in float32 the first norm keeps the layer's input, not a copy.
        kept = batch.tokens * stream * (shape.layers + 1)
        own = layer - (stream if size == _FLOAT else 0)
        recomputed = batch.tokens * own + gradients + weight_gradient
    else:
        kept = batch.tokens * (layer * shape.layers + stream)
        recomputed = gradients + weight_gradient
    final_norm = batch.tokens * (_FLOAT + (0 if size == _FLOAT else size) + size) * shape.hidden
    return PassMemory(kept, final_norm + head_bytes(shape, batch, dtype=dtype, device=device), recomputed)


def layer_bytes(shape: DecoderShape, *, dtype: str, autocast: bool = False) -> int:
    """Bytes a token that one decoder layer keeps for its backward pass."""
    size = BYTES[dtype]
    computed = 2 if autocast else size
    attention = shape.query_width + shape.key_width
    # Normed states are kept for the gradient of the norm's own weight, which LoRA freezes.
    normed = 0 if not shape.trains_everything else _FLOAT if size == _FLOAT else size
    norms = 2 * (_FLOAT + normed + computed) * shape.hidden
    if shape.query_key_norms:
        norms += (_FLOAT + min(normed, computed)) * attention
    turned_values_and_output = 2 * computed * attention
    kept = norms + turned_values_and_output + 4 * computed * shape.intermediate + _FLOAT * shape.heads
    if not shape.trains_everything and size < _FLOAT:
        # Adapters are float32, and each keeps the input of its matrix as that.
        kept += _FLOAT * (5 * shape.hidden + shape.query_width + shape.intermediate)
    return kept


def head_bytes(shape: DecoderShape, batch: MicroBatch, *, dtype: str, device: str) -> int:
    """What `chunked_logprobs` holds at its largest, beside what the layers keep.

    Forward: scores, their exponentials and the product of both for the entropy. Backward: scores and their gradient (of
    one block while the next is made), float32 gradients of the states and of the words at hand, and the gradient of
    the whole head. Scores are the whole [tokens, vocabulary] matrix where it is kept, else a block of it.
    """
    size = BYTES[dtype]
    product = size if device != "cpu" else _FLOAT
    states = batch.counted * shape.hidden
    if keeps_matrix(batch.counted, shape.vocabulary, _FLOAT, device):
        words, scores, alive = shape.vocabulary, batch.counted * shape.vocabulary, 2
    else:
        tokens, words = block_shape(batch.counted, shape.vocabulary, _FLOAT, device)
        scores, alive = tokens * words, 3
    copies = words * shape.hidden * product if product != size else 0
    weight_gradient = (shape.vocabulary * size + words * _FLOAT) * shape.hidden if shape.trains_everything else 0
    forward = 3 * _FLOAT * scores
    backward = alive * _FLOAT * scores + _FLOAT * states + weight_gradient
    return size * states + copies + max(forward, backward)

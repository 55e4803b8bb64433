"""Memory of what training keeps from step to step, in one process: weights, gradients, float32 copies, Adam's moments.

N parameters of b bytes, P processes. Without DeepSpeed each process holds all of it: b N of weights, b N of gradients,
2 b N of moments, and DDP's buckets, which are a second copy of the gradients. Under ZeRO (Rajbhandari et al., 2020,
arXiv 1910.02054, section 3; what is held in practice is read off ``stage_1_and_2.py`` and ``stage3.py`` of DeepSpeed
0.19):

| | weights | gradients | float32 copy | moments |
| --- | --- | --- | --- | --- |
| stage 1 | b N | b N, and N of the accumulation type where that is wider | 4 N / P | 8 N / P |
| stage 2 | b N | N / P of the accumulation type | 4 N / P | 8 N / P |
| stage 3 | b N / P | N / P of the accumulation type | 4 N / P, none if b = 4 | 8 N / P |

Under LoRA, N of gradients, copies and moments are the adapters, which are float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from masa.planning.shapes import BYTES, DecoderShape

_FLOAT = 4


@dataclass(frozen=True)
class Sharding:
    """How processes share an update. Buckets and limits are in elements, as DeepSpeed's keys give them.

    ``stage`` is ZeRO's, 0 without DeepSpeed; ``gradient_bytes`` are those of an accumulated gradient's element;
    ``autocast`` is accelerate's ``mixed_precision: bf16`` over float32 parameters.
    """

    processes: int = 1
    stage: int = 0
    gradient_bytes: int = _FLOAT
    autocast: bool = False
    offload_optimizer: bool = False
    offload_parameters: bool = False
    overlap: bool = False
    reduce_bucket: int = 0
    live_parameters: int = 0
    sub_group: int = 0


@dataclass(frozen=True)
class TrainingState:
    """Bytes of one process by part: on its device, and on the host where they are offloaded.

    ``weights`` to ``moments`` stay between updates, but for gradients below stage 3. ``buffers`` live while gradients
    are computed, ``step`` while the optimiser steps.
    """

    weights: int
    gradients: int
    float32_copies: int
    moments: int
    buffers: int
    step: int
    on_host: int
    keeps_gradients: bool

    @property
    def between_updates(self) -> int:
        """What is still there while rollouts are sampled."""
        return self.weights + self.float32_copies + self.moments + (self.gradients if self.keeps_gradients else 0)

    @property
    def in_update(self) -> int:
        """What is there beside activations, once there are gradients."""
        return self.weights + self.gradients + self.float32_copies + self.moments + self.buffers

    @property
    def in_step(self) -> int:
        """What is there while the optimiser steps."""
        return self.weights + self.gradients + self.float32_copies + self.moments + self.step

    def peak(self, activations: int, *, micro_batches: int) -> int:
        """The most an update needs whose passes hold ``activations``; the first pass finds no gradients yet."""
        gradients = 0 if self.keeps_gradients or micro_batches > 1 else self.gradients
        return max(self.in_update - gradients + activations, self.in_update, self.in_step)


def training_state(shape: DecoderShape, dtype: str, sharding: Sharding, *, on_gpu: bool) -> TrainingState:
    """The parts of one process."""
    size, everything = BYTES[dtype], shape.trains_everything
    frozen = 0 if everything else (shape.parameters - shape.trained) * size
    trained_size = size if everything else _FLOAT
    if sharding.stage == 0:
        return _whole(shape, frozen, trained_size, sharding, on_gpu)
    return _sharded(shape, frozen, trained_size, sharding, on_gpu)


def _whole(shape: DecoderShape, frozen: int, size: int, sharding: Sharding, on_gpu: bool) -> TrainingState:
    trained = shape.trained * size
    head = 0 if shape.tied else shape.table
    # Autocast keeps each matrix it has cast until the backward pass is over; table and head are not cast.
    cast = 2 * (shape.parameters - shape.table - head) if sharding.autocast else 0
    buckets = trained if sharding.processes > 1 else 0
    return TrainingState(
        weights=frozen + trained,
        gradients=trained,
        float32_copies=0,
        moments=2 * trained,
        buffers=cast + buckets,
        # torch's AdamW: square roots of all second moments at once on a GPU, of the largest tensor elsewhere.
        step=buckets + (trained if on_gpu else 2 * _largest_tensor(shape) * size),
        on_host=0,
        keeps_gradients=False,
    )


def _sharded(shape: DecoderShape, frozen: int, size: int, sharding: Sharding, on_gpu: bool) -> TrainingState:
    own = -(-shape.trained // sharding.processes)
    stage3 = sharding.stage == 3
    weights = (frozen + shape.trained * size) // (sharding.processes if stage3 else 1)
    copies = 0 if stage3 and size == _FLOAT else _FLOAT * own
    moments = 2 * _FLOAT * own
    gradients = own * sharding.gradient_bytes
    if sharding.stage == 1:
        wider = sharding.gradient_bytes if sharding.gradient_bytes != size else 0
        gradients = shape.trained * (size + wider)
    bucket = min(sharding.reduce_bucket, max(shape.trained, 1)) * size
    buffers = bucket * (2 if sharding.overlap else 1)
    if stage3:
        buffers += min(shape.parameters, sharding.live_parameters) * size
    stepped = min(own, sharding.sub_group) if stage3 and sharding.sub_group else own
    step = _FLOAT * stepped * (2 if on_gpu else 1)
    host = 0
    if sharding.offload_optimizer:
        # DeepSpeed's CPU Adam steps on float32 gradients there.
        host += copies + moments + _FLOAT * own
        copies = moments = step = 0
        gradients = gradients if sharding.stage == 1 else 0
    if sharding.offload_parameters and stage3:
        host, weights = host + weights, 0
    return TrainingState(weights, gradients, copies, moments, buffers, step, host, keeps_gradients=stage3)


def _largest_tensor(shape: DecoderShape) -> int:
    return max(shape.table, shape.hidden * shape.intermediate) if shape.trains_everything else 0

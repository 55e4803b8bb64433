"""What checkpoints cost on disk, by arithmetic.

N parameters of b bytes, all trained: b N of weights, and in ``training/`` two moments of each, b N each without
DeepSpeed; DeepSpeed keeps moments in float32 (8 N), and float32 copies (4 N) where b < 4. In bfloat16 under ZeRO that
is 14 bytes a parameter. Under LoRA the weights are the base model's, adapters merged, and each of the T parameters of
the adapters, which are float32, lies there four times: in ``adapter/``, and in ``training/`` as a value and two
moments. Tokenizer and ``state.json`` are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOAT = 4

Contents = Literal["all", "model"]


@dataclass(frozen=True)
class CheckpointSize:
    """Bytes of one checkpoint: ``model`` as `transformers` loads it, adapters beside it, and what training keeps."""

    model: int
    adapter: int
    training: int

    @property
    def total(self) -> int:
        return self.model + self.adapter + self.training


def checkpoint_size(
    parameters: int, trained: int, dtype: str, *, sharded: bool, contents: Contents = "all"
) -> CheckpointSize:
    """The size of a checkpoint after the first update.

    Args:
        parameters: all parameters of the policy, adapters included; tied ones count once.
        trained: those that are trained: fewer than ``parameters`` are taken for LoRA's adapters.
        dtype: the type of the policy's parameters (``model.dtype``).
        sharded: under DeepSpeed.
        contents: ``model`` leaves out what only training needs.

    Raises:
        ValueError: ``trained`` is more than ``parameters``.
    """
    if trained > parameters:
        raise ValueError(f"{trained:,} trained parameters of {parameters:,}")
    size = _BYTES[dtype]
    adapters = trained < parameters
    trained_size = _FLOAT if adapters else size
    training = trained * 2 * (_FLOAT if sharded else trained_size)
    if sharded and trained_size < _FLOAT:
        training += trained * _FLOAT
    if adapters:
        training += trained * _FLOAT
    return CheckpointSize(
        model=(parameters - trained if adapters else parameters) * size,
        adapter=trained * _FLOAT if adapters else 0,
        training=training if contents == "all" else 0,
    )


def most_at_once(keep: int, *, keeps_best: bool, written: int | None = None) -> int:
    """The most checkpoints that lie on the disk at a time.

    The newest ``keep``, an older one that is the best (``keeps_best``), and the one being written, for old ones go when
    it is whole; never more than the run writes (``written``; None: not known).
    """
    most = keep + (1 if keeps_best else 0) + 1
    return most if written is None else min(most, written)

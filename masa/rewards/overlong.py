"""What DAPO does about responses that reach the length limit (Yu et al. 2025, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def overlong_punishment(lengths: Sequence[int] | Tensor, limit: int, buffer: int) -> Tensor:
    """Soft overlong punishment to add to each reward, shape [N], float32, in [-1, 0] (DAPO eq. 13).

    0 up to ``limit - buffer`` tokens, then linear down to -1 at ``limit`` tokens and beyond.

    Raises:
        ValueError: ``buffer`` is not in 1..``limit``.
    """
    if not 1 <= buffer <= limit:
        raise ValueError(f"buffer is {buffer} tokens; allowed are 1 to the limit of {limit}")
    tokens = torch.as_tensor(lengths, dtype=torch.float64)
    return ((limit - buffer - tokens) / buffer).clamp(-1.0, 0.0).to(torch.float32)

"""Where a model that is only sampled from is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from masa.config.schema import RolloutSection


def sampling_device(section: RolloutSection) -> torch.device:
    """The GPU, where there is one and the `transformers` engine samples from the model itself; else the CPU.

    vLLM is given its weights from the host's memory.
    """
    import torch

    from masa.rollout.factory import choose_engine

    on_gpu = choose_engine(section) == "transformers" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")

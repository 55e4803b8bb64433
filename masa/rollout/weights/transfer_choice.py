"""Which way weights take into servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from masa.config import ConfigError
from masa.rollout.servers.leftovers import claimed_folder
from masa.rollout.weights.nccl_transfer import NcclTransfer
from masa.rollout.weights.transfer import FILE_BACKEND, FileTransfer, Transfer

if TYPE_CHECKING:
    from masa.config.schema import RolloutSection


def make_transfer(section: RolloutSection, folder: Path) -> tuple[str, Transfer]:
    """The way for the bytes that ``section`` asks for, and what vLLM's servers know it as.

    Args:
        section: the configuration of rollouts.
        folder: where files go that have no folder of their own.

    Raises:
        ConfigError: NCCL without a GPU, or to servers that would be started on the trainer's own GPUs.
    """
    # NCCL refuses a group of which two members are on one GPU.
    shares_gpus = not section.servers and not section.server_devices
    kind = section.weight_transfer
    if kind == "auto":
        kind = "nccl" if torch.cuda.is_available() and not shares_gpus else "file"
    bucket_bytes = section.bucket_mb * 2**20
    if kind == "nccl":
        if not torch.cuda.is_available():
            raise ConfigError("rollout.weight_transfer: found 'nccl', allowed without a GPU: auto, file")
        if shares_gpus:
            raise ConfigError(
                "rollout.weight_transfer: found 'nccl', allowed where started servers share the run's GPUs: auto, "
                "file; rollout.server_devices gives them GPUs of their own"
            )
        return "nccl", NcclTransfer(bucket_bytes=bucket_bytes, timeout=section.server_wait)
    named = section.transfer_folder
    own = claimed_folder(Path(named or folder), "masa-weights", private=named is None)
    return FILE_BACKEND, FileTransfer(own, bucket_bytes=bucket_bytes, timeout=section.server_wait)

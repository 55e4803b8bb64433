"""What runs inside a vLLM server's worker: vLLM imports this module there (``--worker-extension-cls``).

Importing it prepares the worker: it ends with the server that started it, takes weights from files, and on a CPU packs
weights after every update and calls no compiler.
"""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from vllm import _custom_ops
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from masa.rollout.vllm.adapters import vllm_checksum
from masa.rollout.vllm.experts import forget_packed_experts, has_packed_experts
from masa.rollout.vllm.linears import pack_linears
from masa.rollout.weights.transfer import FILE_BACKEND

_PR_SET_PDEATHSIG = 1


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """Nothing has to be agreed on before a file is read."""


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """One part of the weights, as safetensors."""

    path: str


class FileWeightTransferEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """Loads weights in checkpoint format from files that the trainer wrote."""

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    def init_transfer_engine(self, init_info: FileInitInfo) -> None:
        """Nothing to connect to."""

    def start_weight_update(self) -> None:
        if not torch.cuda.is_available():
            forget_packed_experts(self.model)
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: FileUpdateInfo) -> None:
        with safe_open(update_info.path, framework="pt") as file:
            self.model.load_weights((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        if not torch.cuda.is_available():
            pack_linears(self.model)

    def shutdown(self) -> None:
        """Nothing to disconnect."""


class WorkerExtension:
    """Methods that the trainer can call in every worker of a server."""

    model_runner: Any

    def masa_checksum(self) -> str | None:
        """`masa.rollout.vllm.adapters.vllm_checksum` of this worker's weights; text, as JSON rounds large numbers.

        None where the worker keeps them in another order (mixtures of experts on a CPU).
        """
        if not torch.cuda.is_available() and has_packed_experts(self.model_runner.model):
            return None
        return str(vllm_checksum(self.model_runner.model))


def _prepare_worker() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    WeightTransferEngineFactory.register_engine(FILE_BACKEND, FileWeightTransferEngine)
    if not torch.cuda.is_available():
        _custom_ops._supports_onednn = False
        torch.compiler.set_stance("force_eager")


if os.name == "posix":
    _prepare_worker()

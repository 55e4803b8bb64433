"""What drives the worker of an engine in this process; named to vLLM by its path, so that vLLM is imported last."""

from __future__ import annotations

import torch
from vllm.v1.executor.uniproc_executor import UniProcExecutor


class OwnDeviceExecutor(UniProcExecutor):
    """vLLM's executor without processes, on the device that this process has chosen.

    vLLM's own takes the first GPU, whatever the process: every process of a run would sample there.
    """

    def _distributed_args(self) -> tuple[str, int, int]:
        method, rank, local_rank = super()._distributed_args()
        return method, rank, torch.cuda.current_device() if torch.cuda.is_available() else local_rank

"""The processes of one run: how they find each other, with or without GPUs."""

from __future__ import annotations

import importlib.util
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs

from masa.config import ConfigError
from masa.config.schema import ModelSection
from masa.model.sharded import name_device_for_deepspeed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def join_processes(timeout_minutes: float | None = None) -> PartialState:
    """Join the processes that a launcher started; alone, this one. To be called before anything asks who is first.

    ``timeout_minutes`` is how long a process waits for the others; None: as long as torch does by itself.

    Raises:
        ConfigError: the launcher asks for FSDP, or for DeepSpeed where it is not installed.
    """
    waits: dict[str, Any] = {} if timeout_minutes is None else {"timeout": timedelta(minutes=timeout_minutes)}
    refuse_fsdp()
    require_deepspeed()
    name_device_for_deepspeed()
    if _left_to_accelerate():
        return PartialState(**waits)
    if _under_deepspeed():
        _leave_shared_memory_alone()
    return PartialState(cpu=not _under_deepspeed(), backend="gloo", **waits)


def leave_processes() -> None:
    """Leave the group that `join_processes` joined, at the end of a program; to be called by all processes.

    Connections that are still open when Python ends can abort a process whose work is done.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def refuse_fsdp() -> None:
    """FSDP splits parameters in a way that the update, checkpoints and engines here do not know.

    Raises:
        ConfigError: accelerate was told to use it.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1"):
        raise ConfigError(
            "accelerate's distributed_type: found FSDP, which is not supported yet; allowed: NO, MULTI_CPU, MULTI_GPU "
            "(every process holds the whole policy), DEEPSPEED (ZeRO 1 to 3: configs/accelerate/node_zero3.yaml)"
        )


def require_deepspeed() -> None:
    """A launch with DeepSpeed needs it.

    Raises:
        ConfigError: it is not installed.
    """
    if _under_deepspeed() and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            "accelerate's distributed_type: found DEEPSPEED, but deepspeed is not installed; allowed here: NO, "
            "MULTI_CPU, MULTI_GPU. Install masa-rl[deepspeed]"
        )


def make_accelerator(timeout_minutes: float | None = None) -> Accelerator:
    """The accelerator of this process: on its GPU, or on the CPU with gloo between processes.

    Models that `transformers` loads afterwards are whole on each process, also under ZeRO 3, which splits them when the
    update is prepared: until then weight decay, LoRA, fused kernels and the reference model need whole parameters.

    Raises:
        ConfigError: accelerate is set to fp16, whose skipped steps would be taken for a diverged policy.
    """
    join_processes(timeout_minutes)
    accelerator = _make_accelerator()
    if _under_deepspeed():
        from transformers.integrations import unset_hf_deepspeed_config

        # Accelerate has transformers split parameters while they load, whatever its `zero3_init_flag` says.
        unset_hf_deepspeed_config()
    return accelerator


def extend_time_limits(timeout_minutes: float) -> None:
    """Let all process groups there are wait so long, those of DeepSpeed and of engines included.

    New groups start with torch's own limits (NCCL: 10 minutes), whatever the first group was given.
    """
    if not torch.distributed.is_initialized():
        return
    from torch.distributed import distributed_c10d

    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timedelta(minutes=timeout_minutes), group)


def _make_accelerator() -> Accelerator:
    if _left_to_accelerate():
        accelerator = Accelerator()
        if accelerator.mixed_precision == "fp16":
            raise ConfigError("accelerate's mixed_precision: found 'fp16', allowed: 'no', 'bf16'")
        return accelerator
    # Accelerate refuses DeepSpeed together with cpu=True, and finds no processes on CPUs without it.
    group: list[Any] = [InitProcessGroupKwargs(backend="gloo")]
    return Accelerator(cpu=not _under_deepspeed(), kwargs_handlers=group)


def require_precise_updates(section: ModelSection, model: PreTrainedModel | None = None) -> None:
    """AdamW on bfloat16 parameters loses most of a step of the size of the learning rate to rounding.

    DeepSpeed keeps float32 copies, and adapters are float32 themselves.

    Raises:
        ConfigError: all parameters are trained, they are not float32, and DeepSpeed is not at work.
    """
    dtype = section.dtype if model is None else str(model.dtype).removeprefix("torch.")
    if dtype != "float32" and not section.lora.rank and not _under_deepspeed():
        raise ConfigError(
            f"model.dtype: found {dtype}, allowed without DeepSpeed and LoRA: float32, as "
            "the rounding of bfloat16 swallows most of an update. Start with accelerate launch --config_file "
            "configs/accelerate/node_zero3.yaml, or set model.dtype=float32 (with accelerate's mixed_precision: bf16), "
            "or model.lora.rank"
        )


def splits_parameters() -> bool:
    """Whether DeepSpeed is going to split the parameters themselves over the processes (ZeRO 3)."""
    from accelerate.state import AcceleratorState

    if not _under_deepspeed() or not AcceleratorState._shared_state:
        return False
    plugin: Any = AcceleratorState().deepspeed_plugin
    return plugin is not None and plugin.deepspeed_config.get("zero_optimization", {}).get("stage") == 3


def _left_to_accelerate() -> bool:
    """Whether there is a GPU, or no launcher that started several processes."""
    return torch.accelerator.is_available() or "LOCAL_RANK" not in os.environ


def _under_deepspeed() -> bool:
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def _leave_shared_memory_alone() -> None:
    """Keep DeepSpeed from compiling its collectives over shared memory: a compiler, and minutes, for what gloo does."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

"""What vLLM is started with, as an engine in this process and as a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from masa.config import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from masa.config.schema import RolloutSection

CPU_CACHE_GB = 1.0
_CPU_BATCHED_TOKENS = 4096
_GIGABYTE = 2**30
_HIGHEST_TEMPERATURE = 2.0


def vllm_arguments(
    model: PreTrainedModel, section: RolloutSection, max_model_len: int, folder: Path, on_cpu: bool
) -> dict[str, Any]:
    """Arguments of vLLM's engine; ``folder`` is given the model's configuration.

    The weights are made up: the policy's own are handed over afterwards, whatever it was loaded or made from.

    Raises:
        ConfigError: vLLM cannot sample as the section asks.
    """
    if section.temperature > _HIGHEST_TEMPERATURE:
        raise ConfigError(f"rollout.temperature: found {section.temperature}, allowed with vLLM: at most 2")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    arguments: dict[str, Any] = {
        "model": str(folder),
        "load_format": "dummy",
        "dtype": engine_dtype(model, section),
        "max_model_len": max_model_len,
        "max_num_seqs": section.max_batch_size,
        "seed": 0,
        # No sampling defaults out of the model's own configuration.
        "generation_config": "vllm",
        # Those of the distribution that was drawn from; vLLM's default leaves the temperature out.
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
        "enforce_eager": section.enforce_eager,
        "tensor_parallel_size": section.tensor_parallel_size,
    }
    if on_cpu:
        arguments |= _cpu_arguments(max_model_len)
    if on_cpu or section.kv_cache_gb is not None:
        arguments["kv_cache_memory_bytes"] = int((section.kv_cache_gb or CPU_CACHE_GB) * _GIGABYTE)
    else:
        arguments["gpu_memory_utilization"] = section.gpu_memory_utilization
    return {**arguments, **section.engine_arguments}


def executor(tensor_parallel_size: int) -> str:
    """What vLLM is to drive its worker with.

    Raises:
        ConfigError: as `require_whole_groups`.
    """
    if tensor_parallel_size == 1:
        return "masa.rollout.vllm.executor.OwnDeviceExecutor"
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    require_whole_groups(tensor_parallel_size, processes)
    return "external_launcher"


def require_whole_groups(tensor_parallel_size: int, processes: int) -> None:
    """Engines of several processes each take all processes of the run.

    Raises:
        ConfigError: the processes of the run cannot be divided into such groups.
    """
    if processes % tensor_parallel_size:
        raise ConfigError(
            f"rollout.tensor_parallel_size: found {tensor_parallel_size}, allowed with engine=vllm: divisors "
            f"of the number of processes, {processes}"
        )


def engine_dtype(model: PreTrainedModel, section: RolloutSection) -> str:
    """The name of the type that the engine computes in."""
    return str(model.dtype).removeprefix("torch.") if section.dtype == "policy" else section.dtype


def command_line(arguments: dict[str, Any]) -> list[str]:
    """The arguments as options of vLLM's server."""
    options: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            options += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return options


def _cpu_arguments(max_model_len: int) -> dict[str, Any]:
    """What vLLM needs to be told on a CPU.

    Prompts are never cut into chunks: after a chunk vLLM sets a seeded generator back, which a CPU's cannot.
    """
    return {
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(_CPU_BATCHED_TOKENS, max_model_len),
    }

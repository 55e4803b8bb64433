"""Adapters inside vLLM's worker: taken from memory, one at a time, each under a number of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from masa.rollout.weights.adapters import AdapterError
from masa.rollout.weights.agreement import model_checksum, weight_checksum

# vLLM wants a path, which it reads only where it does not hold the adapter with this number.
_IN_MEMORY = "in memory"


def take_adapter(worker: Any, number: int, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Replace the adapter that ``worker`` samples with; runs inside the worker.

    Args:
        worker: vLLM's worker, started with ``enable_lora``.
        number: new for each version, as vLLM's prefix cache tells adapters apart by it.
        tensors: from `masa.rollout.weights.adapters.copied_adapters`; vLLM scales them in place.
        settings: from `masa.model.lora.adapter_settings`.

    Raises:
        AdapterError: the model in vLLM has no place for some of them.
    """
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    workers = worker.model_runner.lora_manager
    manager = workers._adapter_manager
    mapper: Any = getattr(manager.model, "hf_to_vllm_mapper", None)
    if hasattr(mapper, "get_rename_mapper"):
        mapper = mapper.get_rename_mapper()
    adapter = LoRAModel.from_lora_tensors(
        number,
        dict(tensors),
        peft_helper=PEFTHelper.from_dict(dict(settings)),
        device="cpu",
        dtype=workers.lora_config.lora_dtype,
        model_vocab_size=workers.vocab_size,
        weights_mapper=mapper,
    )
    if homeless := sorted(set(adapter.loras) - _places(manager)):
        raise AdapterError(f"vLLM has no place for the adapters of {len(homeless)} layers, such as {homeless[0]}")
    manager.remove_all_adapters()
    manager.add_adapter(adapter)
    manager.activate_adapter(number)


def adapter_request(number: int) -> Any:
    """What a request of vLLM names the adapter with."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(f"masa-{number}", number, _IN_MEMORY)


def vllm_checksum(model: nn.Module) -> int:
    """`masa.rollout.weights.agreement.weight_checksum` of a model in vLLM: its parameters and the adapter it uses."""
    manager = getattr(model, "lora_manager", None)
    adapters: list[Tensor] = []
    if manager is not None and manager.lora_index_to_id[0] is not None:
        adapters = [
            matrix[0, 0]
            for module in manager.modules.values()
            for name in ("lora_a_stacked", "lora_b_stacked")
            for matrix in getattr(module, name, ())
        ]
    return (model_checksum(model) + weight_checksum(adapters)) % 2**64


def _places(manager: Any) -> set[str]:
    """Names of the layers that can have an adapter, those that vLLM fuses under their own names."""
    fused = {part for name, parts in manager.packed_modules.items() if name in manager.modules for part in parts}
    return set(manager.modules) - set(manager.packed_modules) | fused

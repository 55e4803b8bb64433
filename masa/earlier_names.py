"""Names that modules had before version 0.1.0 gave them rooms: importing one gives the module of today, and a warning.

Scripts that were written against the earlier layout go on working; nothing inside of masa uses it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# By earlier package and present one, the modules that kept their own names.
_MOVED = {
    ("masa", "masa.checkpointing"): "checkpoint saved_rollouts saving session_checkpoints",
    ("masa", "masa.distributed"): "peers together",
    ("masa", "masa.files"): "checked_files disk",
    ("masa.evaluation", "masa.evaluation.benchmarks"): "benchmark listing livecodebench loading",
    ("masa.evaluation", "masa.evaluation.measures"): "meta_awareness metrics outcomes pass_at_k shapley statistics",
    ("masa.evaluation", "masa.evaluation.results"): "markdown terminal",
    ("masa.evaluation", "masa.evaluation.running"): (
        "checkpoint_model fitting generation model_choice placing progress runner scoring settings store"
    ),
    ("masa.evaluation", "masa.evaluation.verifiers"): "literals quantities units",
    ("masa.policy", "masa.distributed"): "processes",
    ("masa.policy", "masa.files"): "tensor_files",
    ("masa.policy", "masa.flow"): "dynamic_sampling rows",
    ("masa.policy", "masa.model"): "buffers copies gguf loading lora lora_targets own_model routers sharded stops",
    ("masa.policy", "masa.policy.batching"): "collate row_checks shared_prompts workload",
    ("masa.policy", "masa.policy.forward"): (
        "attention head liger logprobs opening policy_module prompt_states unreached"
    ),
    ("masa.policy", "masa.policy.objective"): "advantages algorithm losses measures own_parts parameters presets",
    ("masa.policy", "masa.policy.update"): "optimizer optimizer_state sharding",
    ("masa.policy", "masa.rewards"): "overlong",
    ("masa.rollout", "masa.flow"): "ahead",
    ("masa.rollout", "masa.rollout.servers"): "completions dispatch guardian health http_client launch leftovers watch",
    ("masa.rollout", "masa.rollout.transformers"): (
        "decode_attention decode_probe decoders kv_cache refilling sampling sequences"
    ),
    ("masa.rollout", "masa.rollout.vllm"): "process_state shared_classes",
    ("masa.rollout", "masa.rollout.weights"): (
        "adapter_files adapters agreement nccl_transfer saved_weights transfer transfer_choice"
    ),
}
_RENAMED = {
    "masa.checkpoint_schedule": "masa.checkpointing.schedule",
    "masa.checkpoint_size": "masa.checkpointing.size",
    "masa.checkpoint_writing": "masa.checkpointing.writing",
    "masa.evaluation.results": "masa.evaluation.results.summary",
    "masa.rollout.server": "masa.rollout.servers.engine",
    "masa.rollout.server_metrics": "masa.rollout.servers.metrics",
    "masa.rollout.vllm_adapters": "masa.rollout.vllm.adapters",
    "masa.rollout.vllm_arguments": "masa.rollout.vllm.arguments",
    "masa.rollout.vllm_executor": "masa.rollout.vllm.executor",
    "masa.rollout.vllm_experts": "masa.rollout.vllm.experts",
    "masa.rollout.vllm_process": "masa.rollout.vllm.process",
    "masa.rollout.vllm_sampling": "masa.rollout.vllm.sampling",
    "masa.rollout.vllm_worker": "masa.rollout.vllm.worker",
}
HOMES = _RENAMED | {
    f"{earlier}.{name}": f"{today}.{name}" for (earlier, today), names in _MOVED.items() for name in names.split()
}
"""The present name of a module by its earlier one."""


class _Finder(MetaPathFinder, Loader):
    """Finds modules by their earlier names."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        return ModuleSpec(fullname, self) if fullname in HOMES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _warn(spec.name, HOMES[spec.name])
        module = importlib.import_module(HOMES[spec.name])
        # The import system is about to give the module the specification of its earlier name.
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own


def find_by_earlier_names() -> None:
    """Have imports find modules by their earlier names."""
    if not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.append(_Finder())


def names_of(package: str, home: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for ``package``, which has the name of an earlier module: its names are those of ``home``."""

    def find(name: str) -> Any:
        own = name.startswith("__") or importlib.util.find_spec(f"{package}.{name}") is not None
        if own or not hasattr(module := importlib.import_module(home), name):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(module, name)
        _warn(f"{package}.{name}", f"{home}.{name}")
        return found

    return find


def _warn(earlier: str, today: str) -> None:
    warnings.warn(f"{earlier} is now {today}; the earlier name goes with version 0.2", DeprecationWarning, stacklevel=3)

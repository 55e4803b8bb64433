"""vLLM's engine inside this process: built without changing the process, and its parameters copied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from masa.config import ConfigError
from masa.rollout.vllm.continuing import let_samples_go_on
from masa.rollout.vllm.process_state import preserved_process
from masa.rollout.vllm.shared_classes import classes_kept

# Read by vLLM while an engine is constructed. The engine shares the process, so that weights are handed over by
# reference and no child process can be left behind; its CPU threads stay where the run has put them.
_VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def build_engine(arguments: Mapping[str, Any], statistics: Any, *, on_cpu: bool, policy_classes: Iterable[type]) -> Any:
    """vLLM's ``LLMEngine`` with ``arguments``, which reports to ``statistics``; ``policy_classes`` stay usable."""
    with preserved_process(_VARIABLES), classes_kept(policy_classes):
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        require_known_arguments(arguments, {one.name for one in fields(EngineArgs)})
        engine_arguments = EngineArgs(**arguments)
        if on_cpu:
            keep_weights_unpacked()
            if _keeps_states(engine_arguments.create_model_config()):
                engine_arguments.enable_prefix_caching = False
        engine = LLMEngine.from_engine_args(engine_arguments, stat_loggers=[lambda config, index: statistics])
        engine.collective_rpc(let_samples_go_on)
        return engine


def _keeps_states(model_config: Any) -> bool:
    """Whether layers keep a state in place of keys and values: vLLM caches it for prefixes only where prompts are read
    in chunks, which they are not on a CPU."""
    return bool(model_config.is_hybrid or model_config.is_attention_free)


def require_known_arguments(arguments: Mapping[str, Any], known: Collection[str]) -> None:
    """What the user adds (`rollout.engine_arguments`) must be arguments that the installed vLLM has.

    Raises:
        ConfigError: one is not.
    """
    for name in arguments:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"; similar names: {', '.join(near)}" if near else ""
            raise ConfigError(f"rollout.engine_arguments: found {name!r}, which vLLM's EngineArgs does not have{hint}")


def keep_weights_unpacked() -> None:
    """Let vLLM's CPU build keep the weights themselves: its packed copies would not follow an update."""
    from vllm import _custom_ops

    _custom_ops._supports_onednn = False


class ParameterCopy:
    """Copies parameters into a model; a class, because vLLM wants one callable of the model alone."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        self._values = values

    def __call__(self, model: torch.nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self._values[name])


def copied_parameters(model: torch.nn.Module) -> dict[str, Tensor]:
    """The model's parameters by name, on the CPU."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in model.named_parameters()}

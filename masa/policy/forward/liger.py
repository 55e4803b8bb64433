"""Fused kernels of the package liger-kernel in a policy, on a GPU, where they are faster.

They replace the forward methods of single modules (norms and gated MLPs), of this model alone, and can be taken out
again. The output head stays with `masa.policy.forward.logprobs`, which also gives the entropy and needs no whole
matrix.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from masa.config import ConfigError
from masa.policy.forward.head import decoder_of

Choice = Literal["auto", "on", "off"]

_PACKAGE = "liger_kernel"
_ROUNDS = 5
_TOKENS = 2048
# Largest difference of a norm's output from the one it replaces: a norm of another formula is left alone.
_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def use_liger_kernels(
    model: nn.Module, choice: Choice, *, seconds: Callable[[nn.Module], float] | None = None, on_gpu: bool | None = None
) -> bool:
    """Put liger-kernel's kernels into ``model`` where ``choice`` allows it; whether they are in it afterwards.

    ``auto`` times a forward and backward pass with and without them and keeps what is faster; without a GPU or without
    the package it does nothing.

    Args:
        model: a causal language model, on its device.
        choice: the configuration's ``model.liger_kernel``.
        seconds: how long a pass of the model takes; by default it is measured.
        on_gpu: whether the model is on a GPU; by default its parameters say it.

    Raises:
        ConfigError: ``on`` without a GPU, without the package, or for a model without a module that they can replace.
    """
    gpu = next(model.parameters()).is_cuda if on_gpu is None else on_gpu
    require_liger_kernel(choice, on_gpu=gpu)
    if choice == "off" or (choice == "auto" and not (gpu and _is_installed())):
        return False
    seconds = seconds or _seconds_of_a_pass
    before = seconds(model) if choice == "auto" else 0.0
    replaced = _put_in(model)
    if choice == "on" and not replaced:
        raise ConfigError(
            f"model.liger_kernel: found 'on', allowed for a {type(model).__name__}: auto, off; none of its modules is "
            "one that liger-kernel replaces"
        )
    if choice == "auto" and replaced and not seconds(model) < before:
        take_out_liger_kernels(model)
        return False
    return bool(replaced)


def require_liger_kernel(choice: Choice, *, on_gpu: bool) -> None:
    """What ``on`` insists on.

    Raises:
        ConfigError: there is no GPU, or not the package.
    """
    if choice == "on" and not (on_gpu and _is_installed()):
        missing = "a GPU" if not on_gpu else "the package liger-kernel"
        raise ConfigError(f"model.liger_kernel: found 'on', allowed without {missing}: auto, off")


def _is_installed() -> bool:
    return importlib.util.find_spec(_PACKAGE) is not None


def take_out_liger_kernels(model: nn.Module) -> None:
    """Give every module its own forward method back."""
    for module in model.modules():
        if isinstance(module.__dict__.get("forward"), partial):
            del module.forward


def _put_in(model: nn.Module) -> list[nn.Module]:
    """The modules whose forward methods were replaced."""
    replaced = list(_norms(model))
    for module in replaced:
        module.forward = partial(_rms_norm, module)
    for module in model.modules():
        if all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")) and _is_silu(module):
            module.forward = partial(_gated_mlp, module)
            replaced.append(module)
    return replaced


def _norms(model: nn.Module) -> Iterator[nn.Module]:
    """The RMS norms whose formula is the kernel's: a name says little, so each is compared on random states."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            weight: Any = module.weight
            generator = torch.Generator().manual_seed(0)
            states = torch.randn(4, weight.shape[-1], generator=generator).to(weight)
            with torch.no_grad():
                difference = (_rms_norm(module, states) - module(states)).abs().max()
            if float(difference) <= _TOLERANCES.get(weight.dtype, 0.0):
                yield module


def _is_silu(module: Any) -> bool:
    activation = getattr(module, "act_fn", None)
    return isinstance(activation, nn.SiLU) or type(activation).__name__ == "SiLUActivation"


def _rms_norm(module: Any, hidden_states: Tensor) -> Tensor:
    from liger_kernel.transformers.functional import liger_rms_norm

    # Not in place: what comes in may be needed by the backward pass of something else.
    normed: Tensor = liger_rms_norm(hidden_states, module.weight, module.variance_epsilon, in_place=False)
    return normed


def _gated_mlp(module: Any, hidden_states: Tensor) -> Tensor:
    from liger_kernel.transformers.functional import liger_swiglu

    output: Tensor = module.down_proj(liger_swiglu(module.gate_proj(hidden_states), module.up_proj(hidden_states)))
    return output


def _seconds_of_a_pass(model: Any) -> float:
    """Median seconds of a forward and backward pass over the decoder; gradients are as before afterwards."""
    device = next(model.parameters()).device
    ids = torch.arange(_TOKENS, device=device).remainder(model.config.get_text_config().vocab_size)[None]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    taken = []
    for _ in range(_ROUNDS):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        states = decoder_of(model)(input_ids=ids, use_cache=False).last_hidden_state
        torch.autograd.grad(states.float().square().mean(), trained, allow_unused=True)
        torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    # The first pass compiles.
    return _mean_over_processes(statistics.median(taken[1:]), device)


def _mean_over_processes(value: float, device: torch.device) -> float:
    """The same number on every process, so that all of them decide alike."""
    if not torch.distributed.is_initialized():
        return value
    total = torch.tensor(value, device=device)
    torch.distributed.all_reduce(total)
    return float(total) / torch.distributed.get_world_size()

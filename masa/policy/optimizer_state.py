"""What an optimiser keeps, as whole tensors by parameter name: the same whatever shards it, on any number of processes.

Of each trained parameter there are Adam's two moments, and a float32 copy where the parameter itself is narrower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from masa.policy.sharding import PlainUpdate, ShardedUpdate, ZeroUpdate

_MOMENTS = ("exp_avg", "exp_avg_sq")
_MASTER = "master"

Read = Callable[[str], Tensor]
"""Gives the tensor of that name."""


def optimizer_steps(update: ShardedUpdate) -> int:
    """Steps that Adam has counted."""
    states = [state for state in _base(update).state.values() if "step" in state]
    return max((int(state["step"]) for state in states), default=0)


def state_tensors(update: ShardedUpdate, parameters: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each tensor, one whole tensor at a time; all processes must iterate together.

    ``parameters`` are the trained ones by name.
    """
    stepped = optimizer_steps(update) > 0
    if stepped and isinstance(update, ZeroUpdate):
        _link(update)
    for name, parameter in parameters.items():
        for key in _MOMENTS if stepped else ():
            yield f"{key}|{name}", _get_moment(update, parameter, key)
        if parameter.dtype != torch.float32 and isinstance(update, ZeroUpdate):
            from deepspeed.utils import safe_get_full_fp32_param

            yield f"{_MASTER}|{name}", safe_get_full_fp32_param(parameter)


def parameter_values(update: ShardedUpdate, parameters: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    """Each parameter itself under ``value|name``, whole; all processes must iterate together."""
    for name, parameter in parameters.items():
        with _gathered(update, parameter):
            yield f"value|{name}", parameter.detach().clone()


def load_state_tensors(
    update: ShardedUpdate, parameters: Mapping[str, nn.Parameter], names: set[str], read: Read, steps: int
) -> None:
    """Take the tensors of `state_tensors`, of which there are ``names``; the parameters have their values already.

    Raises:
        KeyError: a tensor that is needed is missing.
    """
    if isinstance(update, ZeroUpdate):
        _refresh(update, parameters, names, read)
    if not steps:
        return
    _make_states(update, steps)
    for name, parameter in parameters.items():
        for key in _MOMENTS:
            _set_moment(update, parameter, key, read(f"{key}|{name}"))


def reset_states(update: ShardedUpdate) -> None:
    """Make the optimiser as it was before its first step; parameters, and their float32 copies, stay as they are."""
    if isinstance(update, ZeroUpdate):
        _make_states(update, 0)
    else:
        _base(update).state.clear()


def load_parameters(update: ShardedUpdate, parameters: Mapping[str, nn.Parameter], read: Read) -> None:
    """Give each parameter the value that ``read`` has under its name."""
    for name, parameter in parameters.items():
        with _gathered(update, parameter, modify=True):
            parameter.data.copy_(read(name))


def _gathered(update: ShardedUpdate, parameter: nn.Parameter, *, modify: bool = False) -> AbstractContextManager[Any]:
    """The whole parameter within this context; with ``modify`` what the first process writes is what all take."""
    if not (isinstance(update, ZeroUpdate) and update.zero_stage == 3):
        return nullcontext()
    from deepspeed import zero

    gathered: AbstractContextManager[Any] = zero.GatheredParameters([parameter], modifier_rank=0 if modify else None)
    return gathered


def _base(update: ShardedUpdate) -> Any:
    """The AdamW within."""
    if isinstance(update, ZeroUpdate):
        return update.zero.optimizer
    assert isinstance(update, PlainUpdate)
    return getattr(update.optimizer, "optimizer", update.optimizer)


def _get_moment(update: ShardedUpdate, parameter: nn.Parameter, key: str) -> Tensor:
    if isinstance(update, ZeroUpdate):
        from deepspeed.utils import safe_get_full_optimizer_state

        moment: Tensor = safe_get_full_optimizer_state(parameter, key)
        return moment.reshape(getattr(parameter, "ds_shape", parameter.shape))
    # A parameter that no gradient has reached yet has no state.
    found: Tensor | None = _base(update).state.get(parameter, {}).get(key)
    return torch.zeros_like(parameter) if found is None else found


def _set_moment(update: ShardedUpdate, parameter: nn.Parameter, key: str, value: Tensor) -> None:
    if isinstance(update, ZeroUpdate):
        _set_shared(update, parameter, value, key)
    else:
        state = _base(update).state[parameter]
        state[key] = value.to(parameter.device, parameter.dtype, copy=True)


def _make_states(update: ShardedUpdate, steps: int) -> None:
    """Adam's states, made before the first step, which would make them itself."""
    base = _base(update)
    if isinstance(update, ZeroUpdate):
        counted_on = update.flat_partitions()
    else:
        counted_on = [one for group in base.param_groups for one in group["params"]]
    for one in counted_on:
        # DeepSpeed's own Adam counts in a plain number.
        step: Any = torch.tensor(float(steps)) if isinstance(base, torch.optim.AdamW) else steps
        base.state[one] = {"step": step, **{key: torch.zeros_like(one) for key in _MOMENTS}}
    if isinstance(update, ZeroUpdate):
        _link(update)


def _refresh(update: ZeroUpdate, parameters: Mapping[str, nn.Parameter], names: set[str], read: Read) -> None:
    """Bring the float32 copies up to date: from the checkpoint where it has them, else from the parameters."""
    for name, parameter in parameters.items():
        key = f"{_MASTER}|{name}"
        with _gathered(update, parameter):
            value = read(key) if key in names else parameter.detach().float().clone()
        _set_shared(update, parameter, value)


def _set_shared(update: ZeroUpdate, parameter: nn.Parameter, value: Tensor, key: str | None = None) -> None:
    """Put this process's part of ``value`` into a moment, or into the float32 copy."""
    from deepspeed import utils

    value = value.to(update.module.device)
    if update.zero_stage == 3:
        # Every process has a part of the same size, so that the last one may be padded.
        size = int(parameter.ds_tensor.ds_numel)  # type: ignore[attr-defined]
        padded = value.new_zeros(size * update.module.dp_world_size)
        padded[: value.numel()] = value.flatten()
        part = padded.narrow(0, size * torch.distributed.get_rank(), size)
        if key is None:
            utils.safe_set_local_fp32_param(parameter, part)
        else:
            utils.safe_set_local_optimizer_state(parameter, part, key)
    elif key is None:
        utils.safe_set_full_fp32_param(parameter, value)
    else:
        utils.safe_set_full_optimizer_state(parameter, value, key)


def _link(update: ZeroUpdate) -> None:
    """Let DeepSpeed see each parameter's part of the states again.

    Stages 1 and 2 do this once, within the first step of the first parameter group, when later groups have none yet.
    """
    if update.zero_stage < 3:
        update.zero._hp_optimizer_states_linked = False
        update.zero._lazy_init_hp_params_optimizer_state()

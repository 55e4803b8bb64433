"""What an optimiser keeps, by parameter name: each process has a piece of every tensor, and writes and reads its own.

Of each trained parameter there are Adam's two moments, and a float32 copy where the parameter itself is narrower. The
pieces of one sharding, on any number of processes, are read as the pieces of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from masa.files.tensor_files import Part, Parts
from masa.policy.update.sharding import PlainUpdate, ShardedUpdate, ZeroUpdate

_MOMENTS = ("exp_avg", "exp_avg_sq")
_MASTER = "master"
_VALUE = "value"


@dataclass(frozen=True)
class _Range:
    """The elements of a flattened parameter that are this process's own."""

    start: int
    stop: int

    @property
    def numel(self) -> int:
        return self.stop - self.start


def optimizer_steps(update: ShardedUpdate) -> int:
    """Steps that Adam has counted."""
    states = [state for state in _base(update).state.values() if "step" in state]
    return max((int(state["step"]) for state in states), default=0)


def state_parts(update: ShardedUpdate, parameters: Mapping[str, nn.Parameter], file: str) -> Iterator[Part]:
    """This process's piece of each tensor, for ``file``; no process waits for another.

    ``parameters`` are the trained ones by name.
    """
    stepped = optimizer_steps(update) > 0
    if stepped and isinstance(update, ZeroUpdate):
        _link(update)
    for name, parameter in parameters.items():
        own = _own_range(update, parameter)
        keys: list[str | None] = [*_MOMENTS] if stepped else []
        if parameter.dtype != torch.float32 and isinstance(update, ZeroUpdate):
            keys.append(None)
        for key in keys if own.numel else ():
            yield _part(file, f"{key or _MASTER}|{name}", _kept(update, parameter, key, own), own, parameter)


def value_parts(update: ShardedUpdate, parameters: Mapping[str, nn.Parameter], file: str) -> Iterator[Part]:
    """This process's piece of each parameter itself, under ``value|name``; all processes must iterate together."""
    for name, parameter in parameters.items():
        own = _own_range(update, parameter)
        with _gathered(update, parameter):
            piece = parameter.detach().flatten()[own.start : own.stop].clone()
        if own.numel:
            yield _part(file, f"{_VALUE}|{name}", piece, own, parameter)


def load_state(
    update: ShardedUpdate, parameters: Mapping[str, nn.Parameter], values: Parts, saved: Parts, steps: int
) -> None:
    """Give the parameters what ``values`` has under their names, and the optimiser what it kept in ``saved``.

    All processes must call it together. Each reads its own pieces, and what others have read where it needs the whole.

    Raises:
        KeyError: a tensor that is needed is missing.
    """
    # An optimiser that has stepped goes back to one that has not with moments of zero.
    has_states = steps > 0 or optimizer_steps(update) > 0
    if has_states:
        _make_states(update, steps)
    for name, parameter in parameters.items():
        own = _own_range(update, parameter)
        value = _load_value(update, parameter, values, name, own)
        if isinstance(update, ZeroUpdate):
            master = f"{_MASTER}|{name}"
            precise = saved.read_part(master, own.start, own.stop) if master in saved.names else value
            _keep(update, parameter, None, precise, own)
        for key in _MOMENTS if steps else ():
            _load_moment(update, parameter, key, saved, f"{key}|{name}", own)


def _load_value(update: ShardedUpdate, parameter: nn.Parameter, values: Parts, name: str, own: _Range) -> Tensor:
    """Set a parameter; the answer is this process's own elements of it, flat."""
    if not _splits_parameters(update):
        parameter.data.copy_(_read_whole(values, name, parameter))
        return parameter.detach().flatten()[own.start : own.stop]
    if _lies_apart(parameter):
        piece = values.read_part(name, own.start, own.stop)
        part: Any = parameter.ds_tensor  # type: ignore[attr-defined]
        part.data[: own.numel].copy_(piece)
        return piece
    with _gathered(update, parameter, modify=True):
        if torch.distributed.get_rank() == 0:
            parameter.data.copy_(values.read_part(name, 0, parameter.numel()).reshape(parameter.shape))
    with _gathered(update, parameter):
        return parameter.detach().flatten()[own.start : own.stop].clone()


def _load_moment(
    update: ShardedUpdate, parameter: nn.Parameter, key: str, saved: Parts, name: str, own: _Range
) -> None:
    if isinstance(update, ZeroUpdate):
        _keep(update, parameter, key, saved.read_part(name, own.start, own.stop), own)
    else:
        _base(update).state[parameter][key].copy_(_read_whole(saved, name, parameter))


def reset_states(update: ShardedUpdate) -> None:
    """Make the optimiser as it was before its first step; parameters, and their float32 copies, stay as they are."""
    if isinstance(update, ZeroUpdate):
        _make_states(update, 0)
    else:
        _base(update).state.clear()


def _read_whole(parts: Parts, name: str, parameter: nn.Parameter) -> Tensor:
    """A tensor of the shape of ``parameter``, of which each process reads an equal share and gives it to all others."""
    own = _equal_range(parameter.numel())
    piece = parts.read_part(name, own.start, own.stop)
    if own.numel == parameter.numel():
        return piece.reshape(parameter.shape)
    processes = torch.distributed.get_world_size()
    size = -(-parameter.numel() // processes)
    padded = torch.zeros(size, dtype=piece.dtype, device=parameter.device)
    padded[: own.numel] = piece
    whole = torch.empty(size * processes, dtype=piece.dtype, device=parameter.device)
    torch.distributed.all_gather_into_tensor(whole.view(torch.uint8), padded.view(torch.uint8))
    return whole[: parameter.numel()].reshape(parameter.shape)


def _equal_range(numel: int) -> _Range:
    if not torch.distributed.is_initialized():
        return _Range(0, numel)
    size = -(-numel // torch.distributed.get_world_size())
    first = size * torch.distributed.get_rank()
    return _Range(min(first, numel), min(first + size, numel))


def _own_range(update: ShardedUpdate, parameter: nn.Parameter) -> _Range:
    """Which elements this process answers for: each has one process, under whatever sharding."""
    if _splits_parameters(update):
        part: Any = parameter.ds_tensor  # type: ignore[attr-defined]
        first, numel = int(part.ds_numel) * torch.distributed.get_rank(), int(parameter.ds_numel)  # type: ignore[attr-defined]
        return _Range(min(first, numel), min(first + int(part.ds_numel), numel))
    if isinstance(update, ZeroUpdate):
        mapping: Any = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return _Range(0, 0)
        address = mapping.lp_fragment_address
        return _Range(address.start, address.start + address.numel)
    return _equal_range(parameter.numel())


def _splits_parameters(update: ShardedUpdate) -> bool:
    return isinstance(update, ZeroUpdate) and update.zero_stage == 3


def _lies_apart(parameter: Any) -> bool:
    """Whether this process's part of a parameter can be set alone: nothing else holds the value, or a copy of it."""
    return (
        parameter.ds_status.name == "NOT_AVAILABLE"
        and parameter.ds_tensor.status.name == "AVAILABLE"
        and parameter.ds_secondary_tensor is None
        and not hasattr(parameter.ds_tensor, "ds_quant_scale")
    )


def _part(file: str, name: str, piece: Tensor, own: _Range, parameter: nn.Parameter) -> Part:
    shape = torch.Size(getattr(parameter, "ds_shape", parameter.shape))
    if own.numel == shape.numel():
        return Part(file, name, piece.reshape(shape))
    return Part(file, name, piece, own.start, tuple(shape))


def _gathered(update: ShardedUpdate, parameter: nn.Parameter, *, modify: bool = False) -> AbstractContextManager[Any]:
    """The whole parameter within this context; with ``modify`` what the first process writes is what all take."""
    if not _splits_parameters(update):
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


def _kept(update: ShardedUpdate, parameter: nn.Parameter, key: str | None, own: _Range) -> Tensor:
    """This process's elements of a moment, or of the float32 copy (None)."""
    if isinstance(update, ZeroUpdate):
        return _shared(update, parameter, key)[: own.numel]
    # A parameter that no gradient has reached yet has no state.
    found: Tensor | None = _base(update).state.get(parameter, {}).get(key)
    whole = torch.zeros_like(parameter) if found is None else found
    return whole.detach().flatten()[own.start : own.stop]


def _keep(update: ZeroUpdate, parameter: nn.Parameter, key: str | None, value: Tensor, own: _Range) -> None:
    """Take what `_kept` gave."""
    if own.numel:
        kept = _shared(update, parameter, key)
        kept[: own.numel].copy_(value)
        if update.zero_stage == 3:
            from deepspeed import utils

            # States on an NVMe drive were read into memory, and have to be written back.
            if key is None:
                utils.safe_set_local_fp32_param(parameter, kept)
            else:
                utils.safe_set_local_optimizer_state(parameter, kept, key)


def _shared(update: ZeroUpdate, parameter: nn.Parameter, key: str | None) -> Tensor:
    """This process's part of a moment or of the float32 copy, flat; under ZeRO 3 the last process's is padded."""
    if update.zero_stage < 3:
        fragment: Tensor = parameter._hp_mapping.get_hp_fragment(key)  # type: ignore[attr-defined]
        return fragment.data
    from deepspeed import utils

    if key is None:
        part: Tensor = utils.safe_get_local_fp32_param(parameter).data
    else:
        part = utils.safe_get_local_optimizer_state(parameter, key).data
    return part


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


def _link(update: ZeroUpdate) -> None:
    """Let DeepSpeed see each parameter's part of the states again.

    Stages 1 and 2 do this once, within the first step of the first parameter group, when later groups have none yet.
    """
    if update.zero_stage < 3:
        update.zero._hp_optimizer_states_linked = False
        update.zero._lazy_init_hp_params_optimizer_state()

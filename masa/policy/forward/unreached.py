"""Parameters that log-probs of text do not depend on: towers for images and sound, heads of other tasks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from masa.policy.batching.collate import TokenRow, collate
from masa.policy.forward.head import decoder_of

_ROW = TokenRow((3, 4, 5), (6, 7, 8, 9))


def freeze_unreached(module: nn.Module) -> list[str]:
    """Freeze the parameters of a `PolicyModule` that its forward does not reach; their names.

    An optimiser would decay them without a gradient, and processes that share gradients would wait for theirs. Experts
    that the few tokens were not sent to are reached by others, so within a layer a list of modules stays as it is.
    """
    device = next(module.parameters()).device
    with torch.enable_grad():
        logprobs, _ = module(collate([_ROW]).to(device), False)
    reached = _leaves(logprobs)
    _let_go_of_graph(module)
    layers = {id(one) for one in decoder_of(module.model).parameters()}
    frozen = []
    for name, parameter in module.named_parameters():
        expert = id(parameter) in layers and _is_in_inner_list(module, name)
        if parameter.requires_grad and id(parameter) not in reached and not expert:
            parameter.requires_grad_(False)
            frozen.append(name)
    return frozen


def _let_go_of_graph(module: nn.Module) -> None:
    """Some models keep the state of their last pass (RecurrentGemma); with its graph they could not be copied."""
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(part, name, value.detach())


def _leaves(output: Tensor) -> set[int]:
    """Ids of the parameters in a graph, found without computing any gradient."""
    found: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions)
    return found


def _is_in_inner_list(module: nn.Module, name: str) -> bool:
    """Whether a parameter lies in a list of modules that is itself an element of one."""
    lists = 0
    inner: Any = module
    for part in name.split(".")[:-1]:
        lists += isinstance(inner, nn.ModuleList)
        inner = getattr(inner, part)
    return lists > 1

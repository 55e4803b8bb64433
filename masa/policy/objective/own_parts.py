"""Advantages and loss terms of the user's own, by import path: checked before a model is loaded, and at every use."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from masa.config import ConfigError
from masa.config.algorithm import LossTermSource
from masa.errors import brief, described
from masa.import_paths import import_option
from masa.rollout.engine import RolloutPath

_NAME = re.compile(r"\w+")


@dataclass(frozen=True)
class OwnAdvantage:
    """``function(rewards, path)``: the advantages of one group, given its rewards and ``solution`` or ``meta``."""

    path: str
    function: Callable[..., Any]

    def __call__(self, rewards: Sequence[float], path: RolloutPath) -> list[float]:
        """The group's advantages, as many as rewards.

        Raises:
            ValueError: the function returned something else; the message names it.
        """
        found = self.function(list(rewards), path)
        values = found.tolist() if hasattr(found, "tolist") else found
        try:
            advantages = [float(value) for value in values]
        except (TypeError, ValueError):
            raise ValueError(f"{self.path} returned {described(found)}, a list of numbers is needed") from None
        if len(advantages) != len(rewards) or not all(map(math.isfinite, advantages)):
            raise ValueError(
                f"{self.path} returned {advantages} for {len(rewards)} rewards; allowed: as many finite numbers"
            )
        return advantages


@dataclass(frozen=True)
class OwnLossTerm:
    """``function(logprobs, old_logprobs, advantages, mask)``: a loss of each token, all [B, T]; ``weight`` times it is
    added to the policy's."""

    name: str
    path: str
    function: Callable[..., Any]
    weight: float

    def __call__(self, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
        """The term of each token; what stands where ``mask`` is False is ignored.

        Raises:
            ValueError: the function returned something else; the message names it.
        """
        found = self.function(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages, mask=mask)
        if not isinstance(found, Tensor) or found.shape != logprobs.shape:
            what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else described(found)
            raise ValueError(f"{self.path} returned {what}, a tensor of shape {tuple(logprobs.shape)} is needed")
        return found.masked_fill(~mask, 0.0)


def load_advantage(path: str) -> OwnAdvantage:
    """The function of ``algorithm.own.advantage``, tried on a group of two.

    Raises:
        ConfigError: it cannot be imported, or does not work.
    """
    key = "algorithm.own.advantage"
    function = import_option(key, path)
    if not callable(function) or inspect.isclass(function):
        raise ConfigError(f"{key}: {path} is {described(function)}, allowed: a function (rewards, path) -> numbers")
    own = OwnAdvantage(path, function)
    _try(key, path, lambda: own([0.0, 1.0], "solution"))
    return own


def load_loss_terms(sources: Sequence[LossTermSource]) -> tuple[OwnLossTerm, ...]:
    """The terms of ``algorithm.own.loss_terms``, each tried on two responses of three tokens.

    Raises:
        ConfigError: one cannot be imported or made, does not work, or has the name of another.
    """
    found: list[OwnLossTerm] = []
    for index, source in enumerate(sources):
        key = f"algorithm.own.loss_terms[{index}]"
        function = import_option(f"{key}.path", source.path)
        if inspect.isclass(function):
            function = _try(key, source.path, partial(_made, function, source.arguments))
        elif source.arguments:
            raise ConfigError(f"{key}.arguments: {source.path} is no class; allowed: no arguments")
        if not callable(function):
            raise ConfigError(f"{key}.path: {source.path} is {described(function)}, allowed: something that is called")
        name = source.name or source.path.rpartition(":")[2].rpartition(".")[2]
        if not _NAME.fullmatch(name) or name in {one.name for one in found}:
            raise ConfigError(f"{key}.name: found {name!r}, allowed: letters, digits and _, another one for each term")
        term = OwnLossTerm(name, source.path, function, source.weight)
        _try(key, source.path, partial(_trial, term))
        found.append(term)
    return tuple(found)


def _made(kind: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    return kind(**arguments)


def _trial(term: OwnLossTerm) -> Tensor:
    logprobs = torch.full((2, 3), -1.0, requires_grad=True)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    return term(logprobs, logprobs.detach(), torch.tensor([[1.0] * 3, [-1.0] * 3]), mask)


def _try(key: str, path: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # code of the user's own may raise anything
        raise ConfigError(f"{key}: {path} was tried and failed: {brief(error)}") from error

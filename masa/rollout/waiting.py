"""Rollouts that a checkpoint keeps for later steps, as arrays: 8 bytes a token, where JSON takes about 30."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masa.rollout.engine import Rollout
from masa.tokens.arrays import LogProbs, TokenIds

_NUMBERS = {"index": torch.int32, "weight_version": torch.int64, "seconds": torch.float64}
_STRINGS = ("problem_id", "path", "finish_reason", "hint")


@dataclass(frozen=True)
class Waiting:
    """Rollouts that wait, one after the other, and what they wait for: ``layout`` has few JSON values."""

    layout: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)


def rollout_arrays(rollouts: Sequence[Rollout]) -> dict[str, Tensor]:
    """R rollouts of T tokens in all as arrays.

    ``token_ids`` int32 [T], ``logprobs`` float32 [T], which is what engines compute, and ``token_offsets`` int64
    [R + 1]. Equal prompts, which the rollouts of a group have, are kept once: ``prompt_ids`` int32, ``prompt_offsets``
    int64, and ``prompt`` int32 [R], the number of each rollout's. ``index``, ``weight_version``, ``seconds`` [R].
    ``problem_id``, ``path``, ``finish_reason`` and ``hint`` are int32 [R], places in ``strings``: a JSON list in UTF-8.
    Where rollouts went on under later weights: ``went_on`` int64 [W, 3], each with a rollout's number, a token's place
    in it and the version from there on.
    """
    prompts: dict[Sequence[int], int] = {}
    strings: dict[str | None, int] = {}
    arrays = {"prompt": _numbers([prompts.setdefault(one.prompt_ids, len(prompts)) for one in rollouts], torch.int32)}
    arrays["prompt_ids"], arrays["prompt_offsets"] = _joined(list(prompts), torch.int32)
    arrays["token_ids"], arrays["token_offsets"] = _joined([one.token_ids for one in rollouts], torch.int32)
    arrays["logprobs"], _ = _joined([one.logprobs for one in rollouts], torch.float32)
    for name, dtype in _NUMBERS.items():
        arrays[name] = _numbers([getattr(one, name) for one in rollouts], dtype)
    for name in _STRINGS:
        places = [strings.setdefault(getattr(one, name), len(strings)) for one in rollouts]
        arrays[name] = _numbers(places, torch.int32)
    arrays["strings"] = _numbers(list(json.dumps(list(strings)).encode()), torch.uint8)
    if went_on := [(number, *one) for number, rollout in enumerate(rollouts) for one in rollout.went_on]:
        arrays["went_on"] = torch.tensor(went_on, dtype=torch.int64)
    return arrays


def rollouts_of(arrays: Mapping[str, Tensor]) -> list[Rollout]:
    """The rollouts that `rollout_arrays` was given."""
    strings = json.loads(bytes(arrays["strings"].tolist()))
    prompts = _parts(arrays["prompt_ids"], arrays["prompt_offsets"], TokenIds)
    went_on: list[tuple[tuple[int, int], ...]] = [()] * len(arrays["prompt"])
    for number, place, version in arrays["went_on"].tolist() if "went_on" in arrays else ():
        went_on[number] = (*went_on[number], (place, version))
    columns: dict[str, Sequence[Any]] = {
        "went_on": went_on,
        "prompt_ids": [prompts[number] for number in arrays["prompt"].tolist()],
        "token_ids": _parts(arrays["token_ids"], arrays["token_offsets"], TokenIds),
        "logprobs": _parts(arrays["logprobs"], arrays["token_offsets"], LogProbs),
        **{name: arrays[name].tolist() for name in _NUMBERS},
        **{name: [strings[place] for place in arrays[name].tolist()] for name in _STRINGS},
    }
    return [Rollout(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def rollout_of_json(values: Mapping[str, Any]) -> Rollout:
    """The rollout that checkpoints of earlier versions hold as `dataclasses.asdict` gave it, tuples as lists."""
    places = tuple((place, version) for place, version in values.get("went_on", ()))
    return Rollout(**{**values, "went_on": places})


def _numbers(values: Sequence[float], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def _joined(parts: Sequence[Sequence[float]], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """All values one behind another, and where each part begins and the last one ends."""
    lengths = torch.tensor([0, *(len(part) for part in parts)], dtype=torch.int64)
    values = np.concatenate([np.asarray(part) for part in parts]) if parts else []
    return torch.as_tensor(values, dtype=dtype), lengths.cumsum(0)


def _parts(values: Tensor, offsets: Tensor, kind: type[TokenIds] | type[LogProbs]) -> list[TokenIds | LogProbs]:
    return [kind(values[start:end]) for start, end in pairwise(offsets.tolist())]

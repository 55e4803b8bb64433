"""The texts of a step that are shown and written: each process has those of its own rollouts, the first needs some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from masa.rollout.engine import RolloutPath
from masa.tracking.groups import group_samples
from masa.tracking.samples import choose_samples

if TYPE_CHECKING:
    from masa.rewards.grading import GradedGroup

Key = tuple[int, RolloutPath, int]
"""The number of a group, a path, and the number of a rollout on it."""


def with_shown_texts(
    groups: Sequence[GradedGroup], count: int, gather: Callable[[list[Any]], list[Any]]
) -> list[GradedGroup]:
    """``groups``, with the texts that are shown of the first ``count`` of them on every process.

    Rewards choose the samples, and all processes know all rewards: so each knows which of its texts are asked for.
    ``gather`` gives the objects of all processes, on each of them.
    """
    asked = shown_texts(groups, count)
    own = {key: _texts(groups[key[0]], key[1])[key[2]] for key in asked if groups[key[0]].process is None}
    found: dict[Key, str] = {key: text for one in gather([own]) for key, text in one.items()}
    return [
        group if group.process is None else _with_texts(group, number, found) for number, group in enumerate(groups)
    ]


def shown_texts(groups: Sequence[GradedGroup], count: int) -> list[Key]:
    """The texts that samples.jsonl, trackers and the display show of a step's first ``count`` problems."""
    shown = groups[:count]
    samples = group_samples(0, shown, lambda *_: "")
    chosen = {id(sample) for sample in choose_samples(samples, len(shown))}
    keys = [key for key, sample in zip(_keys(shown), samples, strict=True) if id(sample) in chosen]
    return list(dict.fromkeys([*(key for key in _keys(groups[:1]) if key[2] == 0), *keys]))


def _keys(groups: Sequence[GradedGroup]) -> Iterator[Key]:
    """Of all rollouts, in the order of `group_samples`."""
    for number, group in enumerate(groups):
        yield from ((number, "solution", index) for index in range(len(group.solutions)))
        yield from ((number, "meta", index) for index in range(len(group.metas)))


def _texts(group: GradedGroup, path: RolloutPath) -> tuple[str, ...]:
    return group.solution_texts if path == "solution" else group.meta_texts


def _with_texts(group: GradedGroup, number: int, found: Mapping[Key, str]) -> GradedGroup:
    def texts(path: RolloutPath) -> tuple[str, ...]:
        return tuple(found.get((number, path, index), text) for index, text in enumerate(_texts(group, path)))

    return replace(group, solution_texts=texts("solution"), meta_texts=texts("meta"))

"""The embedded worlds by the names that configurations give them: where their policy lies, their problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from masa.embedded import DATA_DIRECTORY, long
from masa.embedded.splits import Split
from masa.embedded.world import arithmetic_problems
from masa.problems.problem import Problem


@dataclass(frozen=True)
class EmbeddedWorld:
    """A world of the package: the folder of its policy and tokenizer, the command that makes it, its problems."""

    data: Path
    build: str
    problems: Callable[[Split], list[Problem]]


EMBEDDED_WORLDS: Mapping[str, EmbeddedWorld] = {
    "embedded": EmbeddedWorld(DATA_DIRECTORY, "python -m masa.embedded.build", arithmetic_problems),
    "embedded:long": EmbeddedWorld(long.DATA_DIRECTORY, "python -m masa.embedded.long.build", long.long_problems),
}
# What `problems.train` and `problems.eval` may name.
EMBEDDED_SOURCES: Mapping[str, tuple[str, Split]] = {
    "embedded:train": ("embedded", "train"),
    "embedded:test": ("embedded", "test"),
    "embedded:long": ("embedded:long", "train"),
    "embedded:long:train": ("embedded:long", "train"),
    "embedded:long:test": ("embedded:long", "test"),
}


def embedded_problems(source: str) -> list[Problem]:
    """The problems that a source of `EMBEDDED_SOURCES` names."""
    world, split = EMBEDDED_SOURCES[source]
    return EMBEDDED_WORLDS[world].problems(split)

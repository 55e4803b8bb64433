"""What trackers are given: a run as they need to know it, its samples as a table, its configuration as flat values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from masa.config.load import flatten
from masa.tracking.samples import Sample

SAMPLE_COLUMNS = ("step", "problem", "path", "prompt", "response", "rewards", "answer", "finish_reason")


@dataclass(frozen=True)
class TrackedRun:
    """A run before its first metrics.

    ``folder`` is the run directory, ``step`` the last step that was done when this start began, ``arguments`` what
    ``tracking.arguments`` has for each tracker. ``warn`` shows what went wrong, ``say`` what is good to know.
    """

    folder: Path
    project: str
    name: str
    config: Mapping[str, Any]
    warn: Callable[[str], None]
    say: Callable[[str], None] = lambda line: None
    step: int = 0
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def remembered(self, file: str, make: Callable[[], str]) -> str:
        """What a file of the run directory says; written by the first start, so that a resumed run finds it again."""
        path = self.folder / file
        if not path.exists():
            path.write_text(make())
        return path.read_text().strip()


class MetricLogger(Protocol):
    """Something that takes what a run measures. No method raises."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take one step's metrics."""
        ...

    def log_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Take some of a step's rollouts."""
        ...

    def log_figures(self, step: int, paths: Sequence[Path]) -> None:
        """Take the figures of a finished run."""
        ...

    def finish(self) -> None:
        """Hand over what is left; safe to call twice."""
        ...


def sample_table(samples: Sequence[Sample]) -> list[list[Any]]:
    """One row a sample, of the columns `SAMPLE_COLUMNS`."""
    return [
        [one.step, one.problem, one.path, one.prompt, one.response, _rewards(one), str(one.answer), one.finish_reason]
        for one in samples
    ]


def sample_text(samples: Sequence[Sample]) -> str:
    """Samples as Markdown, for trackers that have no tables."""
    return "\n\n---\n\n".join(
        f"**{one.problem}**, {one.path}: {_rewards(one)}, answer {one.answer}\n\n"
        + "\n".join(f"    {line}" for line in f"{one.prompt}\n\n{one.response}".splitlines())
        for one in samples
    )


def flat_values(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """A configuration as trackers store it: dotted keys, and lists, mappings and null as text."""
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in flatten(config).items()
    }


def _rewards(sample: Sample) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in sample.reward.items() if value is not None)

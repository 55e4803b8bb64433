"""What callbacks see of a run, and how they act on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa.config import Config
from masa.tracking.metrics import StepMetrics
from masa.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masa.controls.batch import ShapedBatch
    from masa.rewards.grading import GradedGroup


@dataclass
class RunState:
    """A run as its callbacks know it: one object, whose attributes are set before the event that tells of them.

    ``step`` is the step at work, counted from 1; 0 before the first. ``total_steps`` is the step that the run ends
    with, ``start_step`` the last one that was done when this start began. ``batch`` and ``groups`` are of this step,
    ``evaluation`` and ``evaluated`` of the newest evaluation of this start. ``summary`` is that of a run that has come
    to its end, ``error`` what ended it otherwise.
    """

    config: Config
    directory: RunDirectory
    total_steps: int
    is_main_process: bool
    say: Callable[[str], None]
    step: int = 0
    start_step: int = 0
    model: PreTrainedModel | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    batch: ShapedBatch | None = None
    groups: Sequence[GradedGroup] = ()
    evaluation: dict[str, float] = field(default_factory=dict)
    evaluated: Sequence[GradedGroup] = ()
    checkpoint: Path | None = None
    summary: dict[str, Any] | None = None
    error: BaseException | None = None
    collected: StepMetrics = field(default_factory=StepMetrics, repr=False)
    _reasons: list[str] = field(default_factory=list, repr=False)
    _save: bool = field(default=False, repr=False)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the step so far; after `on_step_end` all of them."""
        return self.collected.flatten()

    def log(self, name: str, value: float) -> None:
        """Add ``callback/NAME`` to the step's metrics, and so to metrics.jsonl and the trackers.

        The value of the first process is the one that counts. Logged twice in a step, the last value stays.

        Raises:
            ValueError: a name with other characters than letters, digits, / and _ @ . + = -.
        """
        self.collected.last(f"callback/{name}", value)

    def message(self, text: str) -> None:
        """A line for whoever watches; of several processes the first one speaks."""
        if self.is_main_process:
            self.say(text)

    def stop(self, reason: str) -> None:
        """End the run after the step at work, with a checkpoint, figures and summary; one process suffices."""
        self._reasons.append(reason)

    def save(self) -> None:
        """Write a checkpoint after the step at work; one process suffices."""
        self._save = True

    def take_requests(self) -> tuple[str | None, bool]:
        """Why this process was asked to stop, if it was, and whether to save; asked for once."""
        taken = next(iter(self._reasons), None), self._save
        self._reasons, self._save = [], False
        return taken

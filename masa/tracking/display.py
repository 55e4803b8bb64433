"""A run's progress on the terminal or in a notebook, as a callback."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console

from masa.callbacks import Callback
from masa.run_state import RunState
from masa.tracking.progress import Progress


class ProgressDisplay(Callback):
    """Shows steps and messages as they come; between two calls of `MASATrainer.steps` nothing is drawn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._shown = ExitStack()

    def on_run_begin(self, run: RunState) -> None:
        earlier = run.directory.read_metrics()
        self._progress = Progress(run.total_steps, run.step, self._console, earlier=earlier)
        self._shown.enter_context(self._progress)
        run.say = self._progress.message

    def on_step_begin(self, run: RunState) -> None:
        assert self._progress is not None
        self._progress.go_on()

    def on_log(self, run: RunState) -> None:
        assert self._progress is not None
        self._progress.step(run.step, run.metrics)

    def on_run_end(self, run: RunState) -> None:
        self._shown.close()

    def pause(self) -> None:
        """Leave what is shown as it is, until the next step begins."""
        if self._progress is not None:
            self._progress.pause()

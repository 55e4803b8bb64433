"""A run as a person sees it: a live bar and table on a terminal, a display in a notebook, plain lines elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from masa.tracking.notebook import NotebookView
from masa.tracking.shown import ShownMetric, shown_metrics, trend

_NARROWEST_TREND, _WIDEST_TREND = 8, 48
# What a row takes beside its trend and its range, in characters.
_OTHER_COLUMNS = 64


class Progress:
    """Shows steps as they finish; a context manager.

    On an interactive terminal: a bar over all steps and a table with the newest value of each metric, its mean over the
    first and the last tenth of the steps so far, and its course. In a notebook: one HTML display with the same, updated
    in place and without widgets (`masa.tracking.notebook`). Elsewhere (CI, nohup, a pipe): one line every
    ``every`` steps, by default about 20 lines a run. With ``enabled=False``, as on every process but the first, nothing
    at all.

    A resumed run gives ``earlier``, the metrics rows it continues, so that the table still knows how the run began.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        console: Console | None = None,
        *,
        enabled: bool = True,
        every: int | None = None,
        earlier: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.total_steps = total_steps
        self.every = every or max(1, math.ceil(total_steps / 20))
        self._enabled = enabled
        self._console = console or Console()
        self._notebook = NotebookView.of(self._console) if enabled else None
        self._interactive = self._console.is_terminal and not self._console.is_dumb_terminal
        self._history: list[Mapping[str, Any]] = list(earlier)
        self._start_step = start_step
        self._sample = ""
        self._bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TextColumn("[dim]left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[phase]}"),
            console=self._console,
            expand=True,
            speed_estimate_period=1800,
        )
        self._task = self._bar.add_task("steps", total=total_steps, completed=start_step, phase="")
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self.go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    @property
    def shows_samples(self) -> bool:
        """Whether `sample` shows something."""
        return self._enabled and (self._notebook is not None or self._interactive)

    def go_on(self) -> None:
        """Show the live display, where there can be one, again after `pause`."""
        if not self._enabled:
            return
        if self._notebook is not None:
            self._notebook.open()
            self._update_notebook()
        elif self._interactive and self._live is None:
            self._live = Live(self._render(), console=self._console, refresh_per_second=4)
            self._live.start()

    def pause(self) -> None:
        """Leave the live display as it is; nothing is drawn until `go_on`."""
        if self._notebook is not None:
            self._update_notebook()
            self._notebook.close()
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
            self._live.stop()
            self._live = None

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show that ``step`` (counted from 1) is done, with its metrics; metrics may be few, or none."""
        if not self._enabled:
            return
        self._history.append(metrics)
        self._bar.update(self._task, completed=step)
        if self._notebook is not None:
            self._update_notebook()
        elif self._live is not None:
            self._live.update(self._render())
        elif not self._interactive and self._prints(step):
            self._print(self._line(step, metrics))

    def sample(self, text: str) -> None:
        """Show ``text``, a sample of what the policy writes, below the table, in place of the one before."""
        self._sample = text

    def phase(self, text: str) -> None:
        """Show beside the bar of a terminal what is being done now; "": nothing."""
        self._bar.update(self._task, phase=text)
        if self._live is not None:
            self._live.update(self._render())

    def announce(self, text: str) -> None:
        """A line before something long, where no bar shows that it is being done."""
        if not self._interactive and self._notebook is None:
            self.message(text)

    def message(self, text: str) -> None:
        """A line of its own, above the live display or between the plain lines."""
        if not self._enabled:
            return
        if self._notebook is not None and self._notebook.is_open:
            self._notebook.message(text)
            self._update_notebook()
        else:
            self._print(text)

    def _update_notebook(self) -> None:
        assert self._notebook is not None
        task = self._bar.tasks[0]
        self._notebook.show(
            int(task.completed), self.total_steps, shown_metrics(self._history), task.time_remaining, self._sample
        )

    def _prints(self, step: int) -> bool:
        return step % self.every == 0 or step in (self._start_step + 1, self.total_steps)

    def _print(self, text: str) -> None:
        # Text keeps square brackets, which markup would swallow; soft wrap keeps one line one line in a log file.
        self._console.print(Text(text), soft_wrap=True)

    def _line(self, step: int, metrics: Mapping[str, float]) -> str:
        values = [f"{one.label} {one.now:.{one.decimals}f}" for one in shown_metrics([metrics])]
        return f"step {step}/{self.total_steps}  " + "  ".join(values)

    def _render(self) -> RenderableType:
        if not self._history:
            return self._bar
        if not self._sample:
            return Group(self._table(), self._bar)
        return Group(self._table(), Text(self._sample, style="dim"), self._bar)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("", no_wrap=True)
        table.add_column("first tenth", justify="right", style="dim", no_wrap=True)
        table.add_column("last tenth", justify="right", style="bold", no_wrap=True)
        table.add_column("now", justify="right", no_wrap=True)
        metrics = shown_metrics(self._history)
        width = self._trend_width(metrics)
        if width:
            table.add_column("", style="cyan", no_wrap=True)
            table.add_column("range", style="dim", no_wrap=True)
        for one in metrics:
            cells = [one.label, *(one.text(value) for value in (one.first, one.last, one.now))]
            table.add_row(*cells, *([trend(one.values, width), one.range] if width else []))
        return table

    def _trend_width(self, metrics: list[ShownMetric]) -> int:
        """Characters that the terminal leaves for courses; 0 where they do not fit, or it cannot write them."""
        if not self._console.encoding.lower().startswith("utf"):
            return 0
        ranges = max((len(one.range) for one in metrics), default=0)
        room = self._console.width - _OTHER_COLUMNS - ranges
        return min(room, _WIDEST_TREND) if room >= _NARROWEST_TREND else 0

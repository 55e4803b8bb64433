"""A run as a person sees it: a live bar and table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from masa.tracking import keys
from masa.tracking.metrics import finite_values, mean_of_tenth

# Label, key, decimals. Keys that a run never reports leave no row.
SHOWN: tuple[tuple[str, str, int], ...] = (
    ("held-out accuracy", keys.HELD_OUT_ACCURACY, 3),
    ("correctness", keys.CORRECTNESS, 3),
    ("r_meta", keys.R_META, 3),
    ("r_length", keys.R_LENGTH, 3),
    ("r_difficulty", keys.R_DIFFICULTY, 3),
    ("r_notion", keys.R_NOTION, 3),
    ("metas parsed", keys.PARSE_RATE, 3),
    ("solution length, tokens", keys.SOLUTION_LENGTH, 1),
    ("meta length, tokens", keys.META_LENGTH, 1),
    ("tokens generated", keys.TOKENS_GENERATED, 0),
    ("seconds a step", keys.STEP_SECONDS, 2),
)
_BLOCKS = "▁▂▃▄▅▆▇█"
_TREND_WIDTH = 24


class Progress:
    """Shows steps as they finish; a context manager.

    On an interactive terminal or in a notebook: a bar over all steps and a table with the mean of each metric over the
    first and the last tenth of the steps so far. Elsewhere (CI, nohup, a pipe): one line every ``every`` steps, by
    default about 20 lines a run. With ``enabled=False``, as on every process but the first, nothing at all.

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
        self._interactive = (self._console.is_terminal or self._console.is_jupyter) and (
            not self._console.is_dumb_terminal
        )
        self._history: list[Mapping[str, Any]] = list(earlier)
        self._start_step = start_step
        self._bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TextColumn("[dim]left"),
            TimeRemainingColumn(),
            console=self._console,
            expand=True,
            speed_estimate_period=1800,
        )
        self._task = self._bar.add_task("steps", total=total_steps, completed=start_step)
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self.go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def go_on(self) -> None:
        """Show the live display, where there can be one, again after `pause`."""
        if self._enabled and self._interactive and self._live is None:
            self._live = Live(self._render(), console=self._console, refresh_per_second=4)
            self._live.start()

    def pause(self) -> None:
        """Leave the live display as it is; nothing is drawn until `go_on`."""
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
        if self._live is not None:
            self._live.update(self._render())
        elif not self._interactive and self._prints(step):
            self._print(self._line(step, metrics))

    def message(self, text: str) -> None:
        """A line of its own, above the live display or between the plain lines."""
        if self._enabled:
            self._print(text)

    def _prints(self, step: int) -> bool:
        return step % self.every == 0 or step in (self._start_step + 1, self.total_steps)

    def _print(self, text: str) -> None:
        # Text keeps square brackets, which markup would swallow; soft wrap keeps one line one line in a log file.
        self._console.print(Text(text), soft_wrap=True)

    def _line(self, step: int, metrics: Mapping[str, float]) -> str:
        values = [
            f"{label} {value:.{decimals}f}" for label, key, decimals in SHOWN for value in finite_values([metrics], key)
        ]
        return f"step {step}/{self.total_steps}  " + "  ".join(values)

    def _render(self) -> RenderableType:
        return Group(self._table(), self._bar) if self._history else self._bar

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("")
        table.add_column("first tenth", justify="right", style="dim")
        table.add_column("last tenth", justify="right", style="bold")
        with_trend = self._console.encoding.lower().startswith("utf")
        if with_trend:
            table.add_column("", style="cyan", no_wrap=True)
        for label, key, decimals in SHOWN:
            first, last = mean_of_tenth(self._history, key, "first"), mean_of_tenth(self._history, key, "last")
            if first is None or last is None:
                continue
            cells = [label, f"{first:,.{decimals}f}", f"{last:,.{decimals}f}"]
            if with_trend:
                cells.append(trend(finite_values(self._history, key)))
            table.add_row(*cells)
        return table


def trend(values: Sequence[float], width: int = _TREND_WIDTH) -> str:
    """``values`` as at most ``width`` block characters, each the mean of its share of the values."""
    parts = min(width, len(values))
    bounds = [len(values) * part // parts for part in range(parts + 1)]
    means = [_mean(values[low:high]) for low, high in pairwise(bounds)]
    low, high = min(means), max(means)
    if high == low:
        return _BLOCKS[3] * parts
    return "".join(_BLOCKS[round((mean - low) / (high - low) * (len(_BLOCKS) - 1))] for mean in means)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

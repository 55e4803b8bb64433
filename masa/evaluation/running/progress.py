"""How far an evaluation is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from masa.tracking.durations import duration

# Seconds between two lines where there is no bar.
_BETWEEN_LINES = 30.0

Advance = Callable[[int], None]


@contextmanager
def evaluation_progress(console: Console) -> Iterator[Callable[[str, int], Advance]]:
    """What makes, of a benchmark's title and the number of its samples, what counts them as they are done.

    The first count of a benchmark is taken for samples that were there before.
    """
    # In a notebook rich needs widgets, and warns where there are none.
    if not console.is_terminal or console.is_dumb_terminal or console.is_jupyter:
        yield lambda title, total: _Lines(console, title, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:

        def add(title: str, total: int) -> Advance:
            task = bar.add_task(title, total=total)
            return lambda count: bar.advance(task, count)

        yield add


class _Lines:
    """Counts the samples of a benchmark, and says how many there are once some time has passed."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._before: int | None = None
        self._done = 0
        self._started = self._said = monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        if self._before is None:
            self._before = self._done
        now = monotonic()
        if now - self._said < _BETWEEN_LINES or self._done >= self._total:
            return
        self._said = now
        new = self._done - self._before
        left = (now - self._started) / new * (self._total - self._done) if new else None
        rest = "" if left is None else f", about {duration(left)} left"
        self._console.print(Text(f"{self._title}: {self._done:,} of {self._total:,} samples{rest}"), soft_wrap=True)

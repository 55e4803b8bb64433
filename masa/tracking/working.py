"""Something that takes a while before there is anything else to show, such as loading a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from masa.tracking.durations import duration

# What took at least so many seconds is said to be done, where no clock was shown.
_LONG = 10.0


@contextmanager
def working(console: Console | None, what: str) -> Iterator[None]:
    """Show what is being done: on a terminal with the time that it takes so far, elsewhere as a line when it begins.

    Args:
        console: where to; None: nothing is shown, as on all processes but the first.
        what: such as "Loading the model embedded".
    """
    if console is None:
        yield
        return
    if console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter:
        columns = (SpinnerColumn("line"), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        # Programs that an engine starts inherit the output as it is, so it is not redirected.
        shown = Progress(
            *columns,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=4,
        )
        with shown:
            shown.add_task(what, total=None)
            yield
        return
    console.print(Text(what), soft_wrap=True)
    started = monotonic()
    yield
    seconds = monotonic() - started
    if seconds >= _LONG:
        console.print(Text(f"{what}: done in {duration(seconds)}"), soft_wrap=True)

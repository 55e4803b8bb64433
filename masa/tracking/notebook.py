"""Progress in a notebook: one HTML display that is updated in place, and is kept when the notebook is exported.

It needs IPython alone, which every notebook has, and no widgets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from rich.console import Console

from masa.tracking.durations import duration
from masa.tracking.shown import ShownMetric, window_means

_PLOT_WIDTH, _PLOT_HEIGHT, _MOST_POINTS = 160, 22, 80
# Notebooks store every update that they receive before they show the newest one.
_SECONDS_BETWEEN = 0.5
_STYLE = "border:0;padding:1px 12px 1px 0;text-align:"


class NotebookView:
    """The display of a run. `open` makes one in the cell that is running, `show` updates it, `close` leaves it.

    Args:
        display: `IPython.display.display`, or what stands in for it.
        as_html: makes of a text what ``display`` shows as HTML.
        clock: seconds, for the time between two updates.
    """

    def __init__(
        self,
        display: Callable[..., Any],
        as_html: Callable[[str], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._display, self._as_html, self._clock = display, as_html, clock
        self._handle: Any = None
        self._messages: list[str] = []
        self._waiting: str | None = None
        self._updated = -_SECONDS_BETWEEN

    @classmethod
    def of(cls, console: Console) -> NotebookView | None:
        """A view for a console that writes into a notebook; None for any other, or without IPython."""
        if not console.is_jupyter:
            return None
        try:
            from IPython.display import HTML, display
        except ImportError:
            return None
        return cls(display, HTML)

    @property
    def is_open(self) -> bool:
        """Whether there is a display to be updated."""
        return self._handle is not None

    def open(self) -> None:
        """Make a display in the cell that is running, unless one is open."""
        if self._handle is None:
            self._handle = self._display(self._as_html(""), display_id=True)

    def message(self, text: str) -> None:
        """Keep a line that stands above the table from the next `show` on."""
        self._messages.append(text)

    def show(
        self, step: int, total: int, metrics: Sequence[ShownMetric], seconds_left: float | None, sample: str = ""
    ) -> None:
        """Update the display: at once, or, soon after an update, with the next one or with `close`."""
        if self._handle is None:
            return
        self._waiting = progress_html(step, total, metrics, seconds_left, self._messages, sample)
        if self._clock() - self._updated >= _SECONDS_BETWEEN:
            self._send()

    def close(self) -> None:
        """Show what is still waiting, and leave the display as it is."""
        if self._handle is not None:
            self._send()
        self._handle = None
        self._messages = []

    def _send(self) -> None:
        if self._waiting is not None:
            self._handle.update(self._as_html(self._waiting))
            self._waiting, self._updated = None, self._clock()


def progress_html(
    step: int,
    total: int,
    metrics: Sequence[ShownMetric],
    seconds_left: float | None,
    messages: Sequence[str] = (),
    sample: str = "",
) -> str:
    """A bar over all steps, a table of metrics with a small plot of each, messages and a sample, as HTML.

    Styles are inline and colours those of the notebook's theme: an exported page shows the same.
    """
    left = "" if seconds_left is None or step >= total else f", about {duration(seconds_left)} left"
    parts = ['<div style="font-family:sans-serif;font-size:13px">']
    parts += [f'<div style="white-space:pre-wrap">{escape(one)}</div>' for one in messages]
    parts.append(
        f'<div>step {step} of {total}{left} <progress value="{step}" max="{max(total, 1)}" style="width:300px">'
        f"</progress></div>"
    )
    if metrics:
        names = ("", "first tenth", "last tenth", "now", "course", "range")
        head = "".join(f'<th style="{_STYLE}left;font-weight:normal">{name}</th>' for name in names)
        parts.append(f'<table style="border-collapse:collapse"><tr>{head}</tr>')
        parts += map(_row, metrics)
        parts.append("</table>")
    if sample:
        parts.append(f'<pre style="white-space:pre-wrap;opacity:0.75">{escape(sample)}</pre>')
    return "".join([*parts, "</div>"])


def _row(one: ShownMetric) -> str:
    values = "".join(f'<td style="{_STYLE}right">{text}</td>' for text in map(one.text, (one.first, one.last, one.now)))
    return (
        f'<tr><td style="{_STYLE}left">{escape(one.label)}</td>{values}'
        f'<td style="{_STYLE}left">{_plot(one.values)}</td><td style="{_STYLE}left;opacity:0.7">{one.range}</td></tr>'
    )


def _plot(values: Sequence[float]) -> str:
    """The values as a line, lowest at the bottom, as SVG; one value, or equal ones, are a line at half the height."""
    means = window_means(values, _MOST_POINTS)
    low, high = min(means), max(means)
    across = _PLOT_WIDTH / max(len(means) - 1, 1)
    heights = [0.5 if high == low else (mean - low) / (high - low) for mean in means]
    heights = heights * 2 if len(heights) == 1 else heights
    points = " ".join(
        f"{index * across:.1f},{1 + (1 - height) * (_PLOT_HEIGHT - 2):.1f}" for index, height in enumerate(heights)
    )
    return (
        f'<svg width="{_PLOT_WIDTH}" height="{_PLOT_HEIGHT}" role="img">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.3"/></svg>'
    )

"""Panels of curves over training, drawn alike in all figures of a report."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from masa.reporting.curves import Against, Curve
from masa.reporting.figure import HoverPoint, Panel
from masa.reporting.groups import RunGroup
from masa.reporting.notices import FEW_SEEDS
from masa.tracking.figure_style import GREY, EndLabel, label_ends, note, style

X_LABELS: Mapping[Against, str] = {
    "step": "training step",
    "tokens": "tokens generated",
    "seconds": "seconds of training",
}
_NARROWEST = 0.2
# An interval that covers more than this part of a panel hides what it is about.
_WIDEST_BAND = 0.6
_MOST_HOVER_POINTS = 40
TITLE_CHARACTERS = 44
_LABEL_CHARACTERS = 22


@dataclass(frozen=True)
class Line:
    """One curve and how it is drawn; ``series`` is the key of the group that it shows, ``ticks`` are marked on it."""

    label: str
    color: str
    curve: Curve
    dashed: bool = False
    markers: bool = False
    series: str = ""
    ticks: tuple[float, ...] = ()

    @property
    def has_band(self) -> bool:
        """Whether the interval is shown: not for few seeds, nor where it is wider than most of what is drawn."""
        band = self.curve.high - self.curve.low
        if not len(band) or np.isnan(band).all():
            return False
        if self.curve.seeds == 1:
            return True
        return self.curve.seeds >= FEW_SEEDS and float(np.nanmedian(band)) <= _WIDEST_BAND * self.height

    @property
    def height(self) -> float:
        """From the lowest to the highest value of any run, at least as much as a panel shows."""
        values = np.concatenate([*self.curve.members, self.curve.mean])
        return max(float(np.ptp(values)), _NARROWEST)


def line_of(group: RunGroup, found: Curve, *, markers: bool = False) -> Line:
    """A group's curve in the group's colour and under its label."""
    return Line(group.label, group.color, found, markers=markers, series=group.key)


def line_panel(
    lines: Sequence[Line], title: str, y_label: str, against: Against, *, rate: bool, series: str = ""
) -> Panel:
    """A panel of curves with their labels at the right ends; ``series`` where all of it belongs to one group."""

    def draw(axes: Axes) -> None:
        style(axes, textwrap.fill(title, TITLE_CHARACTERS), X_LABELS[against], y_label)
        shown = [line for line in lines if len(line.curve)]
        if not shown:
            note(axes, "not measured in these runs")
            return
        for line in shown:
            _draw(axes, line)
        if rate:
            _unit_interval(axes, shown)
        else:
            values = np.concatenate([line.curve.mean for line in shown])
            axes.set_ylim(min(0.0, 1.1 * float(np.nanmin(values))), 1.1 * max(0.0, float(np.nanmax(values))) or 1.0)
        _x_axis(axes, shown, against)
        label_ends(axes, [_end_label(line) for line in shown])

    said = "; ".join(f"{line.label} ends at {line.curve.mean[-1]:.2f}" for line in lines if len(line.curve))
    hover = [point for line in lines for point in _hover(line, against)]
    return Panel(draw, f"{title} against {X_LABELS[against]}: {said}", hover=hover, series=series)


def _x_axis(axes: Axes, lines: Sequence[Line], against: Against) -> None:
    """Ticks that can be read; around a single place there is nothing to count, so its value alone is named."""
    if against != "step":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    places = np.unique(np.concatenate([line.curve.x for line in lines]))
    if len(places) == 1:
        axes.set_xlim(float(places[0]) - 1.0, float(places[0]) + 1.0)
        axes.set_xticks([float(places[0])])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=against == "step"))


def _end_label(line: Line) -> EndLabel:
    text = textwrap.fill(line.label, _LABEL_CHARACTERS)
    return EndLabel(float(line.curve.mean[-1]), text, line.color, line.series or None)


def _hover(line: Line, against: Against) -> list[HoverPoint]:
    """What the points of a line say under the pointer; of long lines some points, evenly spread."""
    found = line.curve
    chosen = np.unique(np.linspace(0, len(found) - 1, min(len(found), _MOST_HOVER_POINTS)).round().astype(int))
    points = []
    for index in chosen if len(found) else ():
        where = "" if against == "step" else f", {found.x[index]:,.0f} {X_LABELS[against]}"
        interval = "" if np.isnan(found.low[index]) else f" [{found.low[index]:.3f}, {found.high[index]:.3f}]"
        text = f"{line.label}, step {found.steps[index]:.0f}{where}: {found.mean[index]:.3f}{interval}"
        points.append(HoverPoint(float(found.x[index]), float(found.mean[index]), text, line.series))
    return points


def _draw(axes: Axes, line: Line) -> None:
    found = line.curve
    gid = line.series or None
    if line.has_band:
        axes.fill_between(found.x, found.low, found.high, color=line.color, alpha=0.15, linewidth=0, gid=gid)
    elif found.seeds > 1:
        for member in found.members:
            axes.plot(found.x, member, color=line.color, linewidth=0.7, alpha=0.6, gid=gid)
    axes.plot(
        found.x,
        found.mean,
        color=line.color,
        linewidth=1.8,
        linestyle=(0, (3, 2)) if line.dashed else "-",
        marker="o" if line.markers or len(found) == 1 else None,
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.6,
        gid=gid,
    )
    at = [x for x in line.ticks if found.x[0] <= x <= found.x[-1]]
    axes.plot(
        at, np.interp(at, found.x, found.mean), "|", color=line.color, markersize=12, markeredgewidth=1.4, gid=gid
    )


def _unit_interval(axes: Axes, lines: Sequence[Line]) -> None:
    """From 0 to 1, or closer where all lines stay in a narrow band; never beyond what a rate can be."""
    means = [line.curve.mean for line in lines]
    around = [side for line in lines if line.has_band for side in (line.curve.low, line.curve.high)]
    members = [member for line in lines if not line.has_band for member in line.curve.members]
    values = np.concatenate([*means, *around, *members])
    values = values[~np.isnan(values)]
    low, high = max(0.0, float(values.min())), min(1.0, float(values.max()))
    # A line that hardly moves must not look like one that does.
    margin = max(0.02, 0.08 * (high - low), (_NARROWEST - (high - low)) / 2)
    axes.set_ylim(max(-0.02, low - margin), min(1.02, high + margin))
    if low - margin <= 0:
        axes.axhline(0, color=GREY, linewidth=0.6)


def line_rows(line: Line, **named: str) -> list[dict[str, Any]]:
    """The numbers of a line, one mapping a point."""
    found = line.curve
    columns = zip(found.steps, found.x, found.mean, found.low, found.high, strict=True)
    return [
        {**named, "line": line.label, "step": int(step), "x": x, "mean": mean, "low": low, "high": high,
         "seeds": found.seeds}
        for step, x, mean, low, high in columns
    ]  # fmt: skip

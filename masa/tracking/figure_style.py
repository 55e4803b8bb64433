"""How figures look: colours that colour-blind readers tell apart, quiet axes, labels at the lines themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette (jfly.uni-koeln.de/color).
BLACK, ORANGE, SKY, GREEN = "#222222", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A"
GRID = "#E6E6E6"

FONT = 9.0
DPI = 200


@dataclass(frozen=True)
class EndLabel:
    """A text beside the right end of a line that ends at height ``y``; ``gid`` names it in an SVG."""

    y: float
    text: str
    color: str
    gid: str | None = None


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches with its own canvas: no state is shared between figures."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.07))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG as a whole, so that a viewer never sees half a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    # Panels of fixed shape move when the layout is first made, and would be cut at the edge without a second pass.
    figure.draw_without_rendering()
    figure.savefig(aside, format="png", facecolor="white")
    os.replace(aside, path)
    return path


def style(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """The common look of all panels."""
    set_title(axes, title)
    axes.set_xlabel(x_label, fontsize=FONT, color=BLACK)
    axes.set_ylabel(y_label, fontsize=FONT, color=BLACK)
    axes.tick_params(labelsize=FONT - 0.5, color=GREY, labelcolor=BLACK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def set_title(axes: Axes, title: str, subtitle: str = "") -> None:
    """A bold title and, below it, a line of what the panel's data say."""
    axes.set_title(title, loc="left", fontsize=FONT + 1, fontweight="bold", color=BLACK, pad=18 if subtitle else 6)
    if subtitle:
        axes.text(0, 1.03, subtitle, transform=axes.transAxes, ha="left", va="bottom", fontsize=FONT, color=BLACK)


def style_steps(axes: Axes, first: float, last: float) -> None:
    """An x axis over training steps, whole numbers only; a single step sits in the middle."""
    margin = max((last - first) * 0.01, 0.5)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def note(axes: Axes, text: str) -> None:
    """A sentence in place of data that a run does not have; numbers on the axes would mean nothing."""
    axes.set(xticks=(), yticks=())
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=FONT, color=GREY, style="italic"
    )


def label_ends(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Write each label to the right of the axes at its line's height, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    # One line of text in the axes' own units. The layout is not final yet; axes will fill about 0.7 of the height.
    height = axes.figure.get_window_extent().height / DPI
    gap = (high - low) * (FONT + 3) / 72 / (0.7 * height)
    gap *= max((label.text.count("\n") + 1 for label in labels), default=1)
    ordered = sorted(labels, key=lambda label: label.y)
    for label, y in zip(ordered, spread([label.y for label in ordered], gap, low, high), strict=True):
        axes.text(
            1.015,
            y,
            label.text,
            transform=axes.get_yaxis_transform(),
            ha="left",
            va="center",
            fontsize=FONT,
            color=label.color,
            fontweight="bold",
            gid=label.gid,
        )


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending ``positions``, moved as little as needed to lie ``gap`` apart and, if they fit, in [low, high]."""
    groups: list[list[float]] = []
    for position in positions:
        # Each group is [sum of what its members ask for, members]; members lie `gap` apart around their common centre.
        groups.append([position, 1.0])
        while len(groups) > 1 and _top(groups[-2], gap) + gap > _bottom(groups[-1], gap):
            total, members = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += members
    placed = [_bottom(group, gap) + gap * member for group in groups for member in range(int(group[1]))]
    if placed and placed[-1] > high:
        placed = _push_down(placed, gap, high)
    if placed and placed[0] < low:
        placed = [-y for y in reversed(_push_down([-y for y in reversed(placed)], gap, -low))]
    return placed


def _push_down(placed: list[float], gap: float, high: float) -> list[float]:
    limit = high
    moved = []
    for y in reversed(placed):
        moved.append(min(y, limit))
        limit = moved[-1] - gap
    return moved[::-1]


def _bottom(group: list[float], gap: float) -> float:
    return group[0] / group[1] - gap * (group[1] - 1) / 2


def _top(group: list[float], gap: float) -> float:
    return group[0] / group[1] + gap * (group[1] - 1) / 2

"""A figure of the report: panels, drawn alike into the page (one SVG each) and into one PNG, and its numbers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import escape
from matplotlib import rc_context
from matplotlib.axes import Axes

from masa.tracking import jsonl
from masa.tracking.figure_style import BLACK, GREY, GRID, new_figure, save

PANEL_WIDTH, PANEL_HEIGHT = 4.1, 3.1
_PANELS_A_ROW = 3
_POINTS_AN_INCH = 72
# Colours that follow the page from light to dark.
_PAGE_COLORS = {BLACK: "--ink", GREY: "--soft", GRID: "--line", "#ffffff": "--paper"}


@dataclass(frozen=True)
class HoverPoint:
    """A place in a panel, in the axes' own units, that shows ``text`` under the pointer, and its group's key."""

    x: float
    y: float
    text: str
    series: str = ""


@dataclass(frozen=True)
class Panel:
    """One pair of axes: ``draw`` fills it; ``alt`` says in words what it shows. Sizes are in inches.

    Artists whose gid is a group's key are shown and hidden with that group; with ``series`` the whole panel is.
    """

    draw: Callable[[Axes], None]
    alt: str
    width: float = PANEL_WIDTH
    height: float = PANEL_HEIGHT
    hover: Sequence[HoverPoint] = ()
    series: str = ""


@dataclass(frozen=True)
class ReportFigure:
    """``rows`` are the numbers behind the figure, one mapping a CSV line; one without panels is left out of the page.

    ``columns`` bounds how many panels stand side by side, where rows of panels belong together.
    """

    name: str
    title: str
    caption: str
    panels: Sequence[Panel] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    columns: int = _PANELS_A_ROW


def panel_svg(figure: ReportFigure, index: int) -> str:
    """One panel as an SVG element to stand in a page: no header, no metadata, no ids that another panel has, too."""
    panel = figure.panels[index]
    buffer = io.BytesIO()
    # Text stays text: it is searchable, small, and in the page's own font. The salt makes ids unique and repeatable.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"{figure.name}-{index}"}):
        drawing = new_figure(panel.width, panel.height)
        drawing.patch.set_alpha(0)
        panel.draw(drawing.add_subplot())
        # Panels of fixed shape move when the layout is first made.
        drawing.draw_without_rendering()
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        places = drawing.axes[0].transData.transform([(point.x, point.y) for point in panel.hover] or [(0, 0)])
    text = buffer.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z_0-9.]+_\d+"', "", text)
    text = re.sub(r' id="(group-\d+)"', r' class="\1"', text)
    for color, variable in _PAGE_COLORS.items():
        text = re.sub(f"((?:fill|stroke): ){color}", rf"\1var({variable})", text, flags=re.IGNORECASE)
    # Pixels count from the bottom in the drawing, points from the top in the page.
    top = panel.height * _POINTS_AN_INCH
    scale = _POINTS_AN_INCH / drawing.dpi
    circles = (
        f'<circle class="hover {point.series}" cx="{scale * x:.1f}" cy="{top - scale * y:.1f}" r="6">'
        f"<title>{escape(point.text)}</title></circle>"
        for point, (x, y) in zip(panel.hover, places, strict=False)
    )
    text = text.replace("</svg>", f"{''.join(circles)}</svg>")
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    label = escape(panel.alt)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def write_png(figure: ReportFigure, path: Path) -> Path:
    """All panels of a figure in one PNG."""
    columns = min(figure.columns, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    width = max(panel.width for panel in figure.panels) * columns
    height = max(panel.height for panel in figure.panels) * rows
    drawing = new_figure(width, height)
    for index, panel in enumerate(figure.panels):
        panel.draw(drawing.add_subplot(rows, columns, index + 1))
    return save(drawing, path)


def write_csv(figure: ReportFigure, path: Path) -> Path:
    """The figure's numbers; a value that is not there is an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in figure.rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _field(value) for key, value in row.items()} for row in figure.rows)
    jsonl.write_atomically(path, text.getvalue().encode("utf-8"))
    return path


def _field(value: Any) -> Any:
    return "" if value is None or value != value else value

"""The report's page: everything put together and written as one HTML file; PNG and CSV of the figures lie beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from masa.reporting.evaluation_tables import evaluation_tables
from masa.reporting.figure import ReportFigure, panel_svg, write_csv, write_png
from masa.reporting.figures_meta import contributions_figure, predictions_figure
from masa.reporting.figures_training import accuracy_figure, alignment_figure, gating_figure, rewards_figure
from masa.reporting.groups import RunGroup, group_runs
from masa.reporting.runs import read_run_directory
from masa.reporting.samples import sample_sets
from masa.reporting.tables import cost_table, differences_table, overview_table, reached_table, runs_table
from masa.tracking import jsonl

# A panel is shown at most this large, so that its text stays near the size of the page's.
_PIXELS_AN_INCH = 125
TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class Report:
    """What was written."""

    html: Path
    figures: tuple[Path, ...]


def figures_of(groups: Sequence[RunGroup]) -> list[ReportFigure]:
    """The figures of the report, in their order on the page."""
    return [
        accuracy_figure(groups),
        predictions_figure(groups),
        alignment_figure(groups),
        rewards_figure(groups),
        gating_figure(groups),
        contributions_figure(groups),
    ]


def write_report(run_dirs: Sequence[str | Path], out: str | Path, *, title: str = "MASA report") -> Report:
    """Read the run directories and write the report to ``out``; PNG and CSV of each figure go to ``<out>_figures/``.

    The HTML file stands alone: pictures are inline, and it asks for nothing from anywhere.

    Raises:
        ReportError: a directory that holds neither a run nor an evaluation.
        ValueError: no directory, a row that is no JSON object, or ``out`` is a folder.
    """
    if not run_dirs:
        raise ValueError("a report needs at least one run directory")
    out = Path(out)
    if out.is_dir():
        raise ValueError(f"--out: found the folder {out}, a file needed, such as {out / 'report.html'}")
    groups = group_runs([read_run_directory(path) for path in run_dirs])
    figures = figures_of(groups)
    out.parent.mkdir(parents=True, exist_ok=True)
    jsonl.write_atomically(out, render(groups, figures, title).encode("utf-8"))
    folder = out.with_name(f"{out.stem}_figures")
    written = []
    for figure in figures:
        if figure.panels:
            written.append(write_png(figure, folder / f"{figure.name}.png"))
        if figure.rows:
            written.append(write_csv(figure, folder / f"{figure.name}.csv"))
    return Report(out, tuple(written))


def render(groups: Sequence[RunGroup], figures: Sequence[ReportFigure], title: str) -> str:
    """The page as text."""
    # Everything that a run wrote is text to be shown, never markup; only the drawn panels are.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=title,
        groups=groups,
        overview=overview_table(groups),
        figures=[_drawn(figure) for figure in figures],
        evaluations=evaluation_tables(groups),
        cost=cost_table(groups),
        reached=reached_table(groups),
        samples=sample_sets(groups),
        differences=differences_table(groups),
        runs=runs_table(groups),
    )


def _drawn(figure: ReportFigure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "gap": figure.gap,
        "panels": [
            {"svg": Markup(panel_svg(figure, index)), "width": round(panel.width * _PIXELS_AN_INCH)}
            for index, panel in enumerate(figure.panels)
        ],
        "columns": figure.columns,
    }

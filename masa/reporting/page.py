"""The report's page: everything put together and written as one HTML file; PNG and CSV of the figures lie beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from masa.reporting.baselines import baselines_table
from masa.reporting.cold_starts import cold_starts_table
from masa.reporting.equal_budgets import equal_budgets_table
from masa.reporting.evaluation_tables import evaluation_tables
from masa.reporting.facts import facts_of
from masa.reporting.figure import ReportFigure, panel_svg, write_csv, write_png
from masa.reporting.figures_analysis import calibration_figure, cutoff_error_figure, paired_figure
from masa.reporting.figures_meta import baselines_figure, contributions_figure, predictions_figure
from masa.reporting.figures_training import accuracy_figure, alignment_figure, gating_figure, rewards_figure
from masa.reporting.function_table import functions_table
from masa.reporting.groups import RunGroup, group_runs
from masa.reporting.notices import notices, other_problems
from masa.reporting.runs import read_run_directory
from masa.reporting.samples import sample_sets, solution_sets
from masa.reporting.tables import (
    cost_table,
    differences_table,
    overview_table,
    paths_table,
    reached_table,
    runs_table,
)
from masa.tracking import jsonl

# A panel is shown at most this large, so that its text stays near the size of the page's.
_PIXELS_AN_INCH = 160
TEMPLATE = Path(__file__).with_name("report.html.j2")


_INLINE_HEIGHT = 800


@dataclass(frozen=True)
class Report:
    """What was written."""

    html: Path
    figures: tuple[Path, ...]

    def _repr_html_(self) -> str:
        """What notebooks show: the page itself, which an export of the notebook keeps."""
        page = escape(self.html.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" width="100%" height="{_INLINE_HEIGHT}" style="border: 0"></iframe>'


def figures_of(groups: Sequence[RunGroup]) -> list[ReportFigure]:
    """The figures of the report, in their order on the page."""
    return [
        accuracy_figure(groups),
        predictions_figure(groups),
        baselines_figure(groups),
        alignment_figure(groups),
        rewards_figure(groups),
        gating_figure(groups),
        contributions_figure(groups),
        paired_figure(groups),
        cutoff_error_figure(groups),
        calibration_figure(groups),
    ]


def write_report(
    run_dirs: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = "MASA report",
    names: Mapping[str, str] | None = None,
) -> Report:
    """Read the run directories and write the report to ``out``; PNG and CSV of each figure go to ``<out>_figures/``.

    The HTML file stands alone: pictures are inline, and it asks for nothing from anywhere. A directory given twice is
    read once. ``names`` gives runs a name, by directory; runs of different names are different methods.

    Raises:
        ReportError: a directory that holds neither a run nor an evaluation.
        ValueError: no directory, a row that is no JSON object, ``out`` is a folder, or a name for another directory.
    """
    if not run_dirs:
        raise ValueError("a report needs at least one run directory")
    out = Path(out)
    if out.is_dir():
        raise ValueError(f"--out: found the folder {out}, a file needed, such as {out / 'report.html'}")
    directories = {Path(path).resolve(): Path(path) for path in run_dirs}
    called = {Path(path).resolve(): name for path, name in (names or {}).items()}
    if strangers := [str(path) for path in called if path not in directories]:
        raise ValueError(f"--name: found {', '.join(strangers)}, allowed: {', '.join(map(str, directories.values()))}")
    groups = group_runs([read_run_directory(path, called.get(key)) for key, path in directories.items()])
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
        facts=facts_of(groups),
        notices=notices(groups),
        overview=overview_table(groups),
        figures=[_drawn(figure) for figure in figures if figure.panels],
        baselines=baselines_table(groups),
        functions=functions_table(groups),
        evaluations=evaluation_tables(groups),
        cold_starts=cold_starts_table(groups),
        cost=cost_table(groups),
        paths=paths_table(groups),
        # Accuracies on other problems are no goal that both could reach.
        reached=None if other_problems(groups) else reached_table(groups),
        equal=None if other_problems(groups) else equal_budgets_table(groups),
        samples=sample_sets(groups),
        solutions=solution_sets(groups),
        differences=differences_table(groups),
        runs=runs_table(groups),
    )


def _drawn(figure: ReportFigure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "panels": [
            {
                "svg": Markup(panel_svg(figure, index)),
                "width": round(panel.width * _PIXELS_AN_INCH),
                "series": panel.series,
            }
            for index, panel in enumerate(figure.panels)
        ],
        "columns": figure.columns,
    }

"""``python -m masa.report RUN_DIR [RUN_DIR ...] --out report.html``: one self-contained page that compares runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from masa.arguments import EXIT_BAD_INPUT
from masa.callable_modules import make_callable

if TYPE_CHECKING:
    from masa.reporting.page import Report


def report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path = "report.html",
    *,
    title: str = "MASA report",
    names: Mapping[str, str] | None = None,
) -> Report:
    """Compare runs in one self-contained HTML page; notebooks show it inline.

    Args:
        runs: run directories, or folders of evaluations. Runs that differ only by their seed are shown as mean and
            interval.
        out: the file to write; PNG and CSV of each figure go to a folder beside it.
        title: of the page.
        names: what runs are called, by directory; without this each has the name that ``run.name`` gave it.

    Raises:
        ReportError: a directory that holds neither a run nor an evaluation.
        ValueError: no directory, a broken row, ``out`` is a folder, or a name for another directory.
    """
    from masa.reporting.page import write_report

    listed = [runs] if isinstance(runs, (str, Path)) else list(runs)
    return write_report(listed, out, title=title, names=names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for a directory that no report can be made from."""
    options = _parser().parse_args(arguments)
    from masa.reporting.page import write_report

    try:
        names = dict(_named(text) for text in options.name)
        report = write_report(options.runs, options.out, title=options.title, names=names)
    except (ValueError, OSError) as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"Report: {report.html}")
    if report.figures:
        print(f"Figures (PNG, CSV): {report.figures[0].parent}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m masa.report",
        description="Compare runs in one self-contained HTML page. Runs that differ only by their seed are shown as "
        "mean and interval.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="run directories, or folders of masa.evaluate")
    parser.add_argument("--out", default="report.html", help="file to write (default report.html)")
    parser.add_argument("--title", default="MASA report", help="title of the page")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="RUN_DIR=NAME",
        help="what a run is called in the report (may be repeated); runs of one name and configuration are seeds. "
        "Without this a run has the name that run.name gave it, or its method's",
    )
    return parser


def _named(text: str) -> tuple[str, str]:
    folder, separator, name = text.partition("=")
    if not (separator and folder and name.strip()):
        raise ValueError(f"--name: found {text!r}, allowed: RUN_DIR=NAME, such as runs/grpo-0='plain GRPO'")
    return folder, name.strip()


if __name__ == "__main__":
    sys.exit(main())
make_callable(__name__, report)

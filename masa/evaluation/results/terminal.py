"""The results of an evaluation as a terminal shows them: one line a measure, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from masa.evaluation.results.markdown import with_interval

_WIDEST = 10_000  # characters; no table is wider
# Label in the table, and the key of the results; of pass@k and majority@n the largest number stands for all.
_ACCURACY = (("mean length, tokens", "mean_length"), ("truncated, %", "truncated"))
_META = (
    ("metas parsed, %", "parse_rate"),
    ("pass rate, Pearson r", "pass_rate_pearson"),
    ("pass rate, mean error, points", "pass_rate_error"),
    ("length, Pearson r", "length_pearson"),
    ("notion precision, %", "notion_precision"),
)


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Print the results of all benchmarks, and the comparisons that were asked for; results.md has all measures."""
    table = _table("benchmark", "problems", "measure", "value [95 % interval]")
    for found in results["benchmarks"].values():
        for index, (label, value) in enumerate(_measures(found)):
            name = (found["title"], f"{found['problems']:,}") if index == 0 else ("", "")
            table.add_row(*map(Text, (*name, label, value)))
    _print(table, console)
    if not results["comparisons"]:
        return
    compared = _table("benchmark", "shared problems", "compared with", "pass@1, points [95 % interval]", "p")
    for other, benchmarks in results["comparisons"].items():
        for name, one in benchmarks.items():
            title = results["benchmarks"].get(name, {}).get("title", name)
            cells = (title, f"{one['problems']:,}", Path(other).name, with_interval("pass@1", one))
            compared.add_row(*map(Text, (*cells, f"{one['p_value']:.4f}")))
    _print(compared, console)


def _measures(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    metrics = found["metrics"]
    yield "pass@1, %", with_interval("pass@1", metrics["pass@1"])
    for kind in ("pass@", "majority@"):
        names = sorted((name for name in metrics if name.startswith(kind)), key=lambda name: int(name[len(kind) :]))
        if names and names[-1] != "pass@1":
            yield f"{names[-1]}, %", with_interval(names[-1], metrics[names[-1]])
    for label, name in _ACCURACY:
        if name in metrics:
            yield label, with_interval(name, metrics[name])
    for label, name in _META:
        if "meta" in found and name in found["meta"]["metrics"]:
            yield label, with_interval(name, found["meta"]["metrics"][name])


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="dim", pad_edge=False, show_edge=False)
    for column in columns:
        numeric = "problems" in column or column == "p"
        table.add_column(column, no_wrap=numeric or "[" in column, justify="right" if numeric else "left")
    return table


def _print(table: Table, console: Console) -> None:
    # A pipe has no width of its own: there the table takes what it needs, and no cell is cut.
    if not console.is_terminal:
        table.width = whole_width(table, console)
    console.print(table, soft_wrap=not console.is_terminal)


def whole_width(table: Table, console: Console) -> int:
    """Characters that a table needs for every cell to be one line, whatever the console's width."""
    return Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum

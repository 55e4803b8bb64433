"""``--list``: the declared benchmarks, as a table on a terminal and as one line each in a pipe."""

from __future__ import annotations

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from masa.evaluation.benchmarks import BENCHMARKS, SUITES, suite_of
from masa.evaluation.benchmarks.benchmark import Benchmark
from masa.evaluation.benchmarks.embedded import EMBEDDED_BENCHMARKS
from masa.evaluation.benchmarks.own import OwnBenchmarks
from masa.evaluation.results.terminal import whole_width

_COLUMNS = ("name", "suite", "source", "split", "rows", "verifier", "options", "licence")


def print_benchmarks(console: Console, own: OwnBenchmarks | None = None) -> None:
    """Show what benchmarks there are: what each is called, where it comes from, how it is judged.

    In a pipe, and on a terminal too narrow for the table, each benchmark is one line of columns that are two spaces
    apart, in which no name is broken. ``own`` are benchmarks of the user's own, shown last.
    """
    own = own or OwnBenchmarks()
    rows = [_row(benchmark, own) for benchmark in (*BENCHMARKS.values(), *own.benchmarks.values())]
    table = Table(box=ROUNDED, title="Benchmarks", title_style="bold", header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True, justify="right" if column == "rows" else "left")
    for row in rows:
        table.add_row(*row)
    if console.is_terminal and whole_width(table, console) <= console.width:
        console.print(table)
        console.print(Text(_caption(own)))
        return
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in (_COLUMNS, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(Text(line.rstrip()), soft_wrap=True)
    console.print(Text(_caption(own)), soft_wrap=True)


def _caption(own: OwnBenchmarks) -> str:
    suites = "; ".join(
        f"{name}: {', '.join(members)}" for name, members in {**SUITES, **own.suites}.items() if name != "all"
    )
    return f"Suites: {suites}; all: all but the embedded ones. Every benchmark also reads a local file (--data)."


def _row(benchmark: Benchmark, own: OwnBenchmarks) -> tuple[str, ...]:
    return (
        benchmark.name,
        suite_of(benchmark.name, own.suites),
        _source(benchmark),
        benchmark.split,
        "" if benchmark.rows is None else f"{benchmark.rows:,}",
        benchmark.verifier.rpartition(":")[2] or "as the data says",
        benchmark.options or "",
        benchmark.licence,
    )


def _source(benchmark: Benchmark) -> str:
    if benchmark.declared is not None:
        return benchmark.source or "rows handed in"
    source = benchmark.hub or ("the package" if benchmark.name in EMBEDDED_BENCHMARKS else "local file only")
    return source if benchmark.hub is None or benchmark.revision == "main" else f"{source} @ {benchmark.revision}"

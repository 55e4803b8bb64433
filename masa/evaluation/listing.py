"""``--list``: the declared benchmarks as a table."""

from __future__ import annotations

from rich.box import ROUNDED
from rich.table import Table

from masa.evaluation.benchmarks import BENCHMARKS, SUITES, suite_of
from masa.evaluation.benchmarks.embedded import EMBEDDED_BENCHMARKS


def benchmark_table() -> Table:
    """One row a benchmark: what it is called, where it comes from, how it is judged."""
    suites = "; ".join(f"{name}: {', '.join(members)}" for name, members in SUITES.items() if name != "all")
    table = Table(box=ROUNDED, title="Benchmarks", title_style="bold", header_style="dim")
    table.caption = (
        f"Suites: {suites}; all: all but the embedded ones. Every benchmark also reads a local file (--data)."
    )
    table.caption_justify = "left"
    for column in ("name", "suite", "source", "split"):
        table.add_column(column, overflow="fold")
    table.add_column("rows", justify="right")
    for column in ("verifier", "options", "licence"):
        table.add_column(column, overflow="fold")
    for benchmark in BENCHMARKS.values():
        source = benchmark.hub or ("the package" if benchmark.name in EMBEDDED_BENCHMARKS else "local file only")
        if benchmark.hub and benchmark.revision != "main":
            source += f" @ {benchmark.revision}"
        table.add_row(
            benchmark.name,
            suite_of(benchmark.name),
            source,
            benchmark.split,
            "" if benchmark.rows is None else f"{benchmark.rows:,}",
            benchmark.verifier.rpartition(":")[2],
            benchmark.options or "",
            benchmark.licence,
        )
    return table

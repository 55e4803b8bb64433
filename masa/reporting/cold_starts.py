"""The report's table of cold starts: what they measured before and after, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from masa.reporting.groups import RunGroup
from masa.reporting.tables import Row, Table
from masa.tracking.durations import duration


def cold_starts_table(groups: Sequence[RunGroup]) -> Table:
    """A row for each run that began with a cold start."""
    rows = []
    for group in groups:
        for run in group.runs:
            found = run.cold_start
            if not found:
                continue
            cells = [
                f"{found['updates']:,}",
                f"{found['metas_cloned']:,}",
                f"{found['problems_with_cloned_solutions']:,}",
                f"{found['parsed_before']:.0%} → {found['parsed_after']:.0%}",
                f"{found['correctness_before']:.1%} → {found['correctness_after']:.1%}",
                f"{found['tokens_generated']:,}",
                duration(found["wall_seconds"]),
            ]
            rows.append(Row(run.path.name, cells, group.color))
    return Table(
        "run",
        ["updates", "metas cloned", "solutions cloned", "metas read", "solutions correct", "tokens sampled", "time"],
        rows,
        title="Cold starts",
        note="Before and after cloning, on problems that were not cloned: the share of meta-predictions that can be "
        "read in full, and the share of correct solutions.",
    )

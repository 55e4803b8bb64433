"""What loading found: the problems, and what was left out of them and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from masa.problems.problem import Problem

_ROWS_SHOWN = 5


@dataclass(frozen=True)
class BadRow:
    """A row that is no problem. ``index`` counts the rows of the source from 0."""

    index: int
    reason: str


@dataclass(frozen=True)
class LoadReport:
    """Counts of one load.

    ``duplicates`` are rows whose statement (white space aside) an earlier row had; they are left out. Those of them
    whose answer differs from the earlier row's are listed in ``conflicting_duplicates``, by index.
    ``repeated_ids`` counts kept rows whose own id an earlier problem had; they got a suffix made from the statement.
    ``rows_read`` is less than the source holds where a limit was reached.
    """

    source: str
    rows_read: int
    bad_rows: tuple[BadRow, ...] = ()
    duplicates: int = 0
    conflicting_duplicates: tuple[int, ...] = ()
    repeated_ids: int = 0

    @property
    def conflicts(self) -> str:
        """What duplicates with another answer have, and the first rows of them, for a message."""
        rows = self.conflicting_duplicates
        more = ", ..." if len(rows) > _ROWS_SHOWN else ""
        return (
            "another answer than the first row with their statement, which is kept: rows "
            f"{', '.join(map(str, rows[:_ROWS_SHOWN]))}{more}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, for a run directory."""
        return {
            "source": self.source,
            "rows_read": self.rows_read,
            "bad_rows": [{"index": row.index, "reason": row.reason} for row in self.bad_rows],
            "duplicates": self.duplicates,
            "conflicting_duplicates": list(self.conflicting_duplicates),
            "repeated_ids": self.repeated_ids,
        }


@dataclass(frozen=True)
class LoadedProblems:
    """The problems of one source, in its order, and the report on how they were read."""

    problems: list[Problem]
    report: LoadReport

"""Problems out of any source: a preset, a hub data set, a file, a list, the embedded world."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from masa.problems.errors import ProblemDataError, RowError, nearest, shown
from masa.problems.files import READERS, Unreadable, file_rows
from masa.problems.gym import PREFIX as _GYM
from masa.problems.gym import answer_of, gym_problems
from masa.problems.hub import hub_rows
from masa.problems.presets import PRESETS
from masa.problems.problem import Problem
from masa.problems.report import BadRow, LoadedProblems, LoadReport
from masa.problems.schemas import check_answer, lookup, problem_from_row
from masa.problems.statements import statement_key
from masa.problems.tables import table_rows
from masa.problems.verifier_names import known_verifier

__all__ = ["BadRow", "LoadReport", "LoadedProblems", "ProblemDataError", "load_problems"]

MAPPED_FIELDS = ("statement", "answer", "solution", "id", "source", "verifier", "options")

_EMBEDDED = "embedded:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(?::[\w.-]+)?")
# Extensions that people give data files; a hub id rarely ends like this, and a file so named deserves a file's error.
_FILE_SUFFIXES = {*READERS, ".txt", ".tsv", ".xlsx", ".yaml", ".yml", ".arrow", ".pkl", ".gz", ".zip", ".zst", ".xml"}
_ROWS_LOOKED_AT_FOR_COLUMNS = 100
_BAD_ROWS_BEFORE_GIVING_UP = 20
_BAD_ROWS_SHOWN = 5


def load_problems(
    source: Any,
    *,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    verifier: str | None = None,
    on_bad_row: Literal["refuse", "skip"] = "refuse",
    limit: int | None = None,
) -> LoadedProblems:
    """The problems of a source, in its order, duplicates left out.

    Args:
        source: a preset's name, a split of an embedded world (``embedded:train``, ``embedded:long``), a procedural task
            (``reasoning_gym:NAME?...``), a hub id (``owner/name`` or ``owner/name:config``), a .parquet, .json, .jsonl
            or .csv file, a folder that ``save_to_disk`` wrote, a pandas DataFrame, a Dataset, DatasetDict or (with
            ``limit``) IterableDataset of `datasets`, or a list of mappings and Problems.
        split: of a hub data set, a DatasetDict or the folder of one; other sources have none.
        columns: maps ``statement``, ``answer``, ``solution``, ``id``, ``source``, ``verifier`` or ``options`` to
            column names; a dot leads into nested values. What is not mapped is found as in unmapped rows.
        verifier: for every problem, in place of what the data says.
        on_bad_row: ``refuse`` raises on rows that are no problem, ``skip`` leaves them out and reports them.
        limit: stop after this many problems.

    Raises:
        ProblemDataError: a source that is not there or cannot be read, a mapping to columns it does not have, a bad row
            where those are refused, or not one problem in it.
    """
    check_mapping(columns, verifier)
    _check_arguments(on_bad_row, limit)
    label, name, rows = open_rows(source, split, limit)
    if columns:
        rows = with_columns_checked(rows, label, columns)
    collected = _Collected(label, name, columns, verifier)
    for index, row in enumerate(rows):
        collected.add(index, row)
        if limit is not None and len(collected.problems) == limit:
            break
        if on_bad_row == "refuse" and len(collected.bad_rows) == _BAD_ROWS_BEFORE_GIVING_UP:
            break
    report = collected.report()
    _refuse_where_needed(label, report, refuse=on_bad_row == "refuse", kept=len(collected.problems))
    return LoadedProblems(collected.problems, report)


class _Collected:
    """Problems, bad rows and duplicates, as the rows come by."""

    def __init__(self, label: str, name: str, columns: Mapping[str, str] | None, verifier: str | None) -> None:
        self.label = label
        self.problems: list[Problem] = []
        self.bad_rows: list[BadRow] = []
        self._name = name
        self._columns = columns
        self._verifier = verifier
        self._rows_read = 0
        self._duplicates = 0
        self._conflicting: list[int] = []
        self._answers: dict[str, Any] = {}
        self._ids: set[str] = set()
        self._repeated_ids = 0

    def add(self, index: int, row: Any) -> None:
        self._rows_read += 1
        try:
            problem = self._problem(row)
        except RowError as error:
            self.bad_rows.append(BadRow(index, str(error)))
            return
        key = statement_key(problem.statement)
        if key in self._answers:
            self._duplicates += 1
            if self._answers[key] != answer_of(problem):
                self._conflicting.append(index)
            return
        self._answers[key] = answer_of(problem)
        if problem.id in self._ids:
            self._repeated_ids += 1
            problem = replace(problem, id=f"{problem.id}#{key}")
        self._ids.add(problem.id)
        self.problems.append(problem)

    def report(self) -> LoadReport:
        return LoadReport(
            source=self.label,
            rows_read=self._rows_read,
            bad_rows=tuple(self.bad_rows),
            duplicates=self._duplicates,
            conflicting_duplicates=tuple(self._conflicting),
            repeated_ids=self._repeated_ids,
        )

    def _problem(self, row: Any) -> Problem:
        if isinstance(row, Problem):
            if self._verifier is None:
                return row
            return replace(row, verifier=self._verifier, answer=check_answer(row.answer, self._verifier))
        if isinstance(row, Unreadable):
            raise RowError(row.reason)
        if not isinstance(row, Mapping):
            raise RowError(f"{shown(row)} ({type(row).__name__}), a mapping or a Problem is needed")
        return problem_from_row(row, self._name, self._columns, self._verifier)


def open_rows(source: Any, split: str, limit: int | None) -> tuple[str, str, Iterator[Any]]:
    """What messages call a source, the name its problems carry as their source, and its rows.

    Raises:
        ProblemDataError: no source that there could be; others are found at the first row asked for.
    """
    if isinstance(source, Path):
        return f"problems file {str(source)!r}", source.stem, file_rows(source, split)
    if not isinstance(source, str):
        if (table := table_rows(source, split, limit)) is not None:
            return table[0], "list", table[1]
        if not isinstance(source, Iterable) or isinstance(source, Mapping | bytes):
            raise ProblemDataError(
                f"problems: found {shown(source)} ({type(source).__name__}), allowed: a name, a path, or a list of "
                "rows (also a DataFrame, or a Dataset of the package datasets)"
            )
        return "the list of problems", "list", iter(source)
    if source.startswith(_EMBEDDED) or source == _EMBEDDED.rstrip(":"):
        return f"problems {source!r}", source, iter(_embedded(source))
    if source.startswith(_GYM):
        return f"problems {source!r}", *gym_problems(source)
    if source in PRESETS:
        return f"preset {source!r} ({PRESETS[source]})", source, hub_rows(PRESETS[source], split)
    path = Path(source).expanduser()
    if (source and path.exists()) or names_a_file(source):
        return f"problems file {source!r}", path.stem, file_rows(path, split)
    if _HUB_ID.fullmatch(source):
        return f"hub data set {source!r}", source.partition(":")[0], hub_rows(source, split)
    from masa.embedded.worlds import EMBEDDED_SOURCES

    known = (*PRESETS, *EMBEDDED_SOURCES)
    raise ProblemDataError(
        f"problems: found {source!r}{nearest(source, known)}, allowed: a preset ({', '.join(PRESETS)}), "
        f"{', '.join(EMBEDDED_SOURCES)}, {_GYM}NAME, a hub id (owner/name or owner/name:config), or a file "
        f"({', '.join(READERS)})"
    )


def names_a_file(source: str) -> bool:
    """Whether a source is written like a path, be there such a file or not."""
    return Path(source).suffix.lower() in _FILE_SUFFIXES or source.startswith((".", "/", "~"))


def _embedded(source: str) -> list[Problem]:
    from masa.embedded.worlds import EMBEDDED_SOURCES, embedded_problems

    if source not in EMBEDDED_SOURCES:
        raise ProblemDataError(
            f"problems: found {source!r}{nearest(source, EMBEDDED_SOURCES)}, allowed: {' or '.join(EMBEDDED_SOURCES)}"
        )
    return embedded_problems(source)


def check_mapping(columns: Mapping[str, str] | None, verifier: str | None, where: str = "problems.") -> None:
    """Raises:
    ProblemDataError: a field that problems do not have, or a verifier that is not known; ``where`` begins the keys.
    """
    for field in columns or {}:
        if field not in MAPPED_FIELDS:
            raise ProblemDataError(
                f"{where}columns: unknown field {field!r}{nearest(field, MAPPED_FIELDS)}, "
                f"allowed: {', '.join(MAPPED_FIELDS)}"
            )
    if verifier is not None:
        try:
            known_verifier(verifier)
        except ValueError as error:
            raise ProblemDataError(f"{where}verifier: {error}") from None


def _check_arguments(on_bad_row: str, limit: int | None) -> None:
    if on_bad_row not in ("refuse", "skip"):
        raise ProblemDataError(f"problems.on_bad_row: found {on_bad_row!r}, allowed: 'refuse', 'skip'")
    if limit is not None and limit < 1:
        raise ProblemDataError(f"problems.limit: found {limit}, allowed: 1 or more")


def with_columns_checked(rows: Iterator[Any], label: str, columns: Mapping[str, str]) -> Iterator[Any]:
    """The same rows, once every mapped column was seen in one of the first of them.

    Raises:
        ProblemDataError: one was not.
    """
    head = list(islice(rows, _ROWS_LOOKED_AT_FOR_COLUMNS))
    mappings = [row for row in head if isinstance(row, Mapping)]
    found = list(dict.fromkeys(str(name) for row in mappings for name in row))
    for field, path in columns.items():
        if mappings and path not in found and all(lookup(row, path) is None for row in mappings):
            raise ProblemDataError(
                f"{label}: problems.columns maps {field!r} to the column {path!r}, which is not there"
                f"{nearest(path, found)}; found: {', '.join(found)}"
            )
    return chain(head, rows)


def _refuse_where_needed(label: str, report: LoadReport, *, refuse: bool, kept: int) -> None:
    bad = report.bad_rows
    shown_rows = "; ".join(f"row {row.index}: {row.reason}" for row in bad[:_BAD_ROWS_SHOWN])
    if report.rows_read == 0:
        raise ProblemDataError(f"{label}: holds no rows")
    if bad and refuse:
        more = "; ..." if len(bad) > _BAD_ROWS_SHOWN else ""
        raise ProblemDataError(
            f"{label}: {len(bad)} of the {report.rows_read} rows read {'is' if len(bad) == 1 else 'are'} bad: "
            f"{shown_rows}{more}. Correct them, or leave them out with problems.on_bad_row=skip"
        )
    if kept == 0:
        raise ProblemDataError(f"{label}: none of its {report.rows_read} rows is a problem: {shown_rows}")

"""Rows out of a parquet, json, jsonl or csv file, or a folder that `datasets` saved; a broken one is refused here."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masa.errors import first_line
from masa.problems.errors import ProblemDataError, shown
from masa.problems.tables import is_saved_folder, saved_rows

_BATCH_ROWS = 1000
_LONGEST_CSV_FIELD = 2**27


@dataclass(frozen=True)
class Unreadable:
    """A row that could not be read as a row at all."""

    reason: str


Row = Mapping[str, Any] | Unreadable


def file_rows(path: Path, split: str = "train") -> Iterator[Row]:
    """The rows of one file or of a folder of `save_to_disk`, read as they are asked for.

    ``split`` chooses where such a folder holds several.

    Raises:
        ProblemDataError: (at the first row asked for, or where reading breaks off) no such file, an extension that is
            not known, an empty file, or content that is not of the extension's format.
    """
    label = f"problems file {str(path)!r}"
    if not path.exists():
        raise ProblemDataError(f"{label}: no such file")
    if is_saved_folder(path):
        yield from saved_rows(path, split, label)
        return
    if not path.is_file():
        raise ProblemDataError(
            f"{label}: is a directory; give one file ({', '.join(READERS)}), or a folder that save_to_disk wrote"
        )
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ProblemDataError(f"{label}: extension {suffix!r} is not known, allowed: {', '.join(READERS)}")
    try:
        if path.stat().st_size == 0:
            raise ProblemDataError(f"{label}: the file is empty")
        yield from READERS[suffix](path, label)
    except UnicodeDecodeError as error:
        raise ProblemDataError(f"{label}: is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ProblemDataError(f"{label}: cannot be read: {error.strerror or error}") from error


def _parquet_rows(path: Path, label: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ProblemDataError(f"{label}: is not a complete parquet file (truncated?): {first_line(error)}") from error


def _json_rows(path: Path, label: str) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        lines = "; one JSON object per line needs the extension .jsonl" if error.msg == "Extra data" else ""
        raise ProblemDataError(
            f"{label}: invalid JSON at line {error.lineno}, column {error.colno}: {error.msg}{lines}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise ProblemDataError(f"{label}: JSON that cannot be read: {error}") from error
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise ProblemDataError(f"{label}: holds {shown(content)}, allowed: a list of objects, or one object")
    for item in content:
        yield item if isinstance(item, dict) else Unreadable(f"{shown(item)} is not an object")


def _jsonl_rows(path: Path, label: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                item = json.loads(line.rstrip())
            except json.JSONDecodeError as error:
                yield Unreadable(f"invalid JSON at line {number}, column {error.colno}: {error.msg}")
                continue
            except (RecursionError, ValueError) as error:
                yield Unreadable(f"line {number} is JSON that cannot be read: {error}")
                continue
            yield item if isinstance(item, dict) else Unreadable(f"line {number}: {shown(item)} is not an object")


def _csv_rows(path: Path, label: str) -> Iterator[Row]:
    previous_limit = csv.field_size_limit(_LONGEST_CSV_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if len(set(columns)) < len(columns):
                raise ProblemDataError(f"{label}: a column name occurs twice in the header: {', '.join(columns)}")
            for row in reader:
                found = len(columns) + len(row.pop(None, []))
                found -= sum(value is None for value in row.values())
                if found != len(columns):
                    yield Unreadable(f"line {reader.line_num}: {found} fields, the header has {len(columns)}")
                else:
                    yield row
    except csv.Error as error:
        raise ProblemDataError(f"{label}: invalid csv at line {reader.reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(previous_limit)


READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".parquet": _parquet_rows,
    ".json": _json_rows,
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
}

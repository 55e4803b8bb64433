"""Files of one JSON object a line that survive a kill at any instant."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it.

    Numbers of numpy and torch become Python numbers without rounding; NaN and the infinities, which JSON does not
    know, become ``None``.

    Raises:
        TypeError: a value with no JSON form.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def dump(value: Any, *, indent: int | None = None) -> bytes:
    """UTF-8 JSON of ``value``; every finite float reads back as the same float."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    # A lone surrogate has no UTF-8 form; its backslash form is the JSON escape that reads back as the same character.
    return text.encode("utf-8", errors="backslashreplace")


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one line per row and hand them to the disk before returning."""
    data = b"".join(dump(row) + b"\n" for row in rows)
    if not data:
        return
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, oldest first; a missing file has none.

    A last line that was torn by a kill in mid-write is left out.

    Raises:
        ValueError: a line that is no JSON object anywhere but at the end.
    """
    if not path.exists():
        return []
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), 1) if line.strip()]
    rows: list[Row] = []
    for position, (number, line) in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError as error:
            if position == len(lines) - 1:
                break
            raise ValueError(f"{path}, line {number}: not JSON ({error}); the line reads {line[:80]!r}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: {type(row).__name__} found, an object of key and value is needed")
        rows.append(row)
    return rows


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` as a whole: a kill leaves the old content or the new, never a mixture."""
    aside = path.with_name(path.name + ".tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        # A full disk, or a folder of that name: nothing half-written stays beside it.
        aside.unlink(missing_ok=True)
        raise


def keep_rows(path: Path, keep: Callable[[Row], bool]) -> int:
    """Rewrite a file to the rows for which ``keep`` holds, atomically; returns how many left."""
    if not path.exists():
        return 0
    rows = read_rows(path)
    kept = [row for row in rows if keep(row)]
    write_atomically(path, b"".join(dump(row) + b"\n" for row in kept))
    return len(rows) - len(kept)


def read_object(path: Path) -> Row:
    """The one JSON object of a file such as ``summary.json``.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {type(value).__name__} found, an object of key and value is needed")
    return value

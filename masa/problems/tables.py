"""Rows out of tables that are made in Python or written by `datasets`: data frames, data sets and their folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from masa.errors import brief
from masa.problems.errors import ProblemDataError, nearest

# A stream may repeat itself without end; so many of its rows are read for each problem that is asked for.
_STREAMED_ROWS_PER_PROBLEM = 10


def table_rows(table: Any, split: str, limit: int | None) -> tuple[str, Iterator[Any]] | None:
    """What messages call a data frame or a data set of `datasets`, and its rows; None for anything else.

    Neither pandas nor `datasets` is imported: where their objects come from, they are loaded already.

    Raises:
        ProblemDataError: a stream without ``limit``, or splits without the one that is asked for.
    """
    kind = _kind(table)
    if kind == "pandas.DataFrame":
        return "the DataFrame of problems", iter(table.to_dict("records"))
    if kind in ("datasets.DatasetDict", "datasets.IterableDatasetDict"):
        return table_rows(_split_of(table, split, "the DatasetDict of problems"), split, limit)
    if kind == "datasets.Dataset":
        return "the Dataset of problems", iter(table.with_format(None))
    if kind == "datasets.IterableDataset":
        if limit is None:
            raise ProblemDataError(
                "problems: found an IterableDataset, which may have no end, allowed: one with a limit: problems.limit "
                "(problems.eval_limit for held-out problems), or `limit` of load_problems"
            )
        return "the IterableDataset of problems", islice(iter(table), _STREAMED_ROWS_PER_PROBLEM * limit)
    return None


def is_table(thing: Any) -> bool:
    """Whether something is a data frame of pandas, or a data set of `datasets`."""
    return _kind(thing) is not None


def is_stream(table: Any) -> bool:
    """Whether a table is a stream, which is read with a limit alone."""
    return _kind(table) in ("datasets.IterableDataset", "datasets.IterableDatasetDict")


def is_saved_folder(path: Path) -> bool:
    """Whether `save_to_disk` of a Dataset or a DatasetDict wrote the folder."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def saved_rows(path: Path, split: str, label: str) -> Iterator[Any]:
    """The rows of a folder that `save_to_disk` wrote; ``split`` chooses where it holds several.

    Raises:
        ProblemDataError: a folder that cannot be read, or splits without the one that is asked for.
    """
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # of arrow, of the file system, of `datasets`: the folder is not whole
        raise ProblemDataError(f"{label}: cannot be read as a folder of save_to_disk: {brief(error)}") from error
    if isinstance(saved, Mapping):
        saved = _split_of(saved, split, label)
    yield from saved.with_format(None)


def _split_of(splits: Mapping[Any, Any], split: str, label: str) -> Any:
    if split in splits:
        return splits[split]
    if len(splits) == 1:
        return next(iter(splits.values()))
    names = [str(name) for name in splits]
    raise ProblemDataError(f"{label}: found the split {split!r}{nearest(split, names)}, allowed: {', '.join(names)}")


def _kind(table: Any) -> str | None:
    """``package.Class`` of the first class of pandas or `datasets` that an object is of."""
    for one in type(table).__mro__:
        package = one.__module__.partition(".")[0]
        if package in ("pandas", "datasets"):
            name = f"{package}.{one.__name__}"
            if name.endswith(("DataFrame", "Dataset", "DatasetDict")):
                return name
    return None

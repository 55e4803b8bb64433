"""The problems of a benchmark: from the hub, from a local file of the same columns, or from an embedded world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from masa.evaluation.benchmarks import BENCHMARKS
from masa.evaluation.benchmarks.benchmark import Benchmark, OptionOrder, Reading, read_row
from masa.evaluation.benchmarks.embedded import EMBEDDED_BENCHMARKS
from masa.problems.errors import ProblemDataError, RowError, nearest, shown
from masa.problems.files import READERS, Unreadable, file_rows
from masa.problems.hub import hub_rows
from masa.problems.loading import open_rows, with_columns_checked
from masa.problems.problem import Problem
from masa.problems.schemas import check_answer

_BAD_ROWS_SHOWN = 5


@dataclass(frozen=True)
class DataChoice:
    """Where benchmarks are read and how their options are ordered.

    ``files`` maps a benchmark's name to a local file and ``folder`` may hold more of them, named after the benchmark
    (``mbpp.jsonl``) or with its split (``mbpp_test.jsonl``). What has neither comes from the hub. ``options`` takes the
    place of every benchmark's own order of options. ``rows`` maps benchmarks of the user's own to rows handed in from
    Python.
    """

    files: Mapping[str, Path] | None = None
    folder: Path | None = None
    options: OptionOrder | None = None
    options_seed: int = 0
    limit: int | None = None
    rows: Mapping[str, Any] = field(default_factory=dict)


def load_benchmark(benchmark: Benchmark, choice: DataChoice | None = None) -> list[Problem]:
    """The problems of one benchmark, one a row, in the order of its source.

    Unlike training data, rows that repeat an earlier statement stay: a benchmark's score is over its published rows.

    Raises:
        ProblemDataError: data that are not there, cannot be read, or hold a row that is no problem.
    """
    choice = choice or DataChoice()
    label, rows = _open(benchmark, choice)
    problems: dict[str, Problem] = {}
    bad: list[str] = []
    count = 0
    for count, row in enumerate(rows, start=1):
        try:
            problem = _problem(row, benchmark, choice, count - 1)
        except RowError as error:
            bad.append(f"row {count - 1}: {error}")
            continue
        if problem.id in problems:
            problem = replace(problem, id=f"{problem.id}#{count - 1}")
        problems[problem.id] = problem
        if len(problems) == choice.limit:
            break
    if bad:
        more = "; ..." if len(bad) > _BAD_ROWS_SHOWN else ""
        raise ProblemDataError(
            f"{label}: {len(bad)} of {count} rows are no problem of {benchmark.name}: "
            f"{'; '.join(bad[:_BAD_ROWS_SHOWN])}{more}"
            + (f". Columns that are read: {', '.join(benchmark.columns)}" if benchmark.columns else "")
        )
    if not problems:
        raise ProblemDataError(f"{label}: holds no rows")
    return list(problems.values())


def choose_files(named: Sequence[str], own: Iterable[str] = ()) -> dict[str, Path]:
    """``NAME=PATH`` texts as a mapping; ``own`` are names of benchmarks beside those that masa declares.

    Raises:
        ProblemDataError: another form, or a name that is no benchmark.
    """
    known = [*BENCHMARKS, *own]
    files = {}
    for text in named:
        name, separator, path = text.partition("=")
        if not separator or not path:
            raise ProblemDataError(f"--data: found {text!r}, written as NAME=PATH, for example mbpp=mbpp_test.jsonl")
        if name not in known:
            raise ProblemDataError(
                f"--data: found the benchmark {name!r}{nearest(name, known)}, allowed: {', '.join(known)}"
            )
        files[name] = Path(path).expanduser()
    return files


def local_file(benchmark: Benchmark, choice: DataChoice) -> Path | None:
    """The file that a benchmark is read from, or None where it is not local."""
    if choice.files and benchmark.name in choice.files:
        return choice.files[benchmark.name]
    if choice.folder is None:
        return None
    if not choice.folder.is_dir():
        raise ProblemDataError(f"--data-dir: {choice.folder} is no folder")
    for stem in (benchmark.name, f"{benchmark.name}_{benchmark.split}"):
        for suffix in READERS:
            path = choice.folder / f"{stem}{suffix}"
            if path.exists():
                return path
    return None


def _open(benchmark: Benchmark, choice: DataChoice) -> tuple[str, Iterable[Any]]:
    path = local_file(benchmark, choice)
    if path is not None:
        return f"benchmark {benchmark.name}, file {str(path)!r}", file_rows(path, benchmark.split)
    if benchmark.name in EMBEDDED_BENCHMARKS:
        from masa.embedded.worlds import embedded_problems

        return f"benchmark {benchmark.name}", embedded_problems(EMBEDDED_BENCHMARKS[benchmark.name])
    if benchmark.declared is not None:
        return _open_own(benchmark, choice)
    if benchmark.hub is None:
        names = " or ".join(f"{benchmark.name}{middle}.json" for middle in ("", f"_{benchmark.split}"))
        raise ProblemDataError(
            f"benchmark {benchmark.name} is no hub data set: give its file with --data {benchmark.name}=PATH, or a "
            f"folder that holds {names} with --data-dir"
        )
    return f"benchmark {benchmark.name}, hub data set {benchmark.hub!r}", _hub(benchmark)


def _open_own(benchmark: Benchmark, choice: DataChoice) -> tuple[str, Iterable[Any]]:
    source = choice.rows.get(benchmark.name, benchmark.source)
    if source is None:
        raise ProblemDataError(
            f"benchmark {benchmark.name} was evaluated on rows that were handed in from Python; hand in the same rows "
            "again: masa.evaluate(..., problems=ROWS)"
        )
    label, _, rows = open_rows(source, benchmark.split, choice.limit)
    if benchmark.mapping:
        rows = with_columns_checked(rows, f"benchmark {benchmark.name}, {label}", benchmark.mapping)
    return f"benchmark {benchmark.name}, {label}", rows


def _hub(benchmark: Benchmark) -> Iterator[Mapping[str, Any]]:
    assert benchmark.hub is not None
    pinned = {} if benchmark.revision == "main" else {"revision": benchmark.revision}
    return hub_rows(benchmark.hub, benchmark.split, **pinned)


def _problem(row: Any, benchmark: Benchmark, choice: DataChoice, index: int) -> Problem:
    if isinstance(row, Problem):
        verifier = benchmark.verifier or row.verifier
        answer = check_answer(row.answer, verifier)
        return replace(row, id=f"{benchmark.name}/{row.id}", source=benchmark.name, verifier=verifier, answer=answer)
    if not isinstance(row, Unreadable | Mapping):
        raise RowError(f"{shown(row)} ({type(row).__name__}), a mapping or a Problem is needed")
    if isinstance(row, Unreadable):
        raise RowError(row.reason)
    chosen = choice.options or benchmark.options
    order = chosen if benchmark.options or benchmark.declared is not None else None
    return read_row(row, Reading(benchmark, index, order, choice.options_seed))

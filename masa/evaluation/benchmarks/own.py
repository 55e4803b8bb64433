"""Benchmarks of the user's own: declared in a YAML file, or a file of problems as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from masa.config.files import ConfigError, read_yaml
from masa.config.load import explained
from masa.config.section import PositiveInt, Section
from masa.evaluation.benchmarks import BENCHMARKS, SUITES
from masa.evaluation.benchmarks.benchmark import Benchmark, Reading, Row, choice_row
from masa.problems.loading import check_mapping, names_a_file
from masa.problems.problem import Problem
from masa.problems.schemas import (
    ANSWER_COLUMNS,
    ID_COLUMNS,
    OPTION_COLUMNS,
    STATEMENT_COLUMNS,
    first_of,
    lookup,
    problem_from_row,
)
from masa.problems.tables import is_table

_NAME = re.compile(r"[A-Za-z0-9][\w-]*")
_NAMED_SOURCE = re.compile(rf"({_NAME.pattern})=(.+)", re.DOTALL)
_ROWS = "problems"


class Declaration(Section):
    """One benchmark of the user's own."""

    source: str | None
    """Anything that `problems.train` reads: a file or folder (relative to the YAML file), a hub id."""
    split: str = "test"
    """Split of a hub data set or of a folder of `save_to_disk`."""
    title: str | None = None
    """What tables call the benchmark; null: its name."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Maps `statement`, `answer`, `solution`, `id`, `verifier`, `options` to columns, like `problems.columns`."""
    verifier: str | None = None
    """Verifier of every problem; null: as the data says."""
    options: Literal["source", "shuffled"] | None = None
    """Order of the options of multiple-choice rows; null: that of the source."""
    template: str = "default"
    """Solution template, a name or text; a template of the configuration's own takes its place."""
    meta_template: str = "default"
    """Meta template, likewise."""
    max_tokens: PositiveInt | None = None
    """Response limit of a solution where it is below `--max-tokens`."""
    max_meta_tokens: PositiveInt | None = None
    """Response limit of a meta-prediction, likewise."""
    licence: str = ""
    """Shown by `--list`."""

    @model_validator(mode="after")
    def _mapping_is_known(self) -> Declaration:
        check_mapping(self.columns, self.verifier, where="")
        return self


class _DeclarationFile(Section):
    benchmarks: dict[str, Declaration]
    suites: dict[str, list[str]] = Field(default_factory=dict)


@dataclass(frozen=True)
class OwnBenchmarks:
    """Benchmarks and suites beside those that masa declares.

    ``rows`` holds what was handed in from Python, ``asked`` the names of those that are evaluated without being
    named in ``--benchmarks``.
    """

    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)
    suites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rows: Mapping[str, Any] = field(default_factory=dict)
    asked: tuple[str, ...] = ()


def own_benchmark(name: str, declaration: Declaration) -> Benchmark:
    """The benchmark of a declaration."""
    return Benchmark(
        name=name,
        title=declaration.title or name,
        columns=tuple(declaration.columns.values()),
        verifier=declaration.verifier or "",
        licence=declaration.licence,
        rows=None,
        source=declaration.source,
        split=declaration.split,
        read=_read_row,
        options=declaration.options,
        template=declaration.template,
        meta_template=declaration.meta_template,
        max_tokens=declaration.max_tokens,
        max_meta_tokens=declaration.max_meta_tokens,
        mapping=declaration.columns,
        declared=declaration.model_dump(mode="json"),
    )


def read_declarations(path: str | Path) -> OwnBenchmarks:
    """The benchmarks and suites of a YAML file: ``benchmarks: {NAME: {source, ...}}``, ``suites: {NAME: [A, B]}``.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value of the wrong type, a name that cannot be, or a
            suite of benchmarks that do not exist.
    """
    path = Path(path).expanduser()
    values = read_yaml(path, "file of declarations", "keys", _DeclarationFile)
    try:
        found = _DeclarationFile.model_validate(values)
    except ValidationError as error:
        raise explained(error, str(path), _DeclarationFile) from None
    benchmarks = {}
    for name, declaration in found.benchmarks.items():
        _require_free_name(f"{path}: benchmarks", name)
        if declaration.source is None:
            raise ConfigError(f"{path}: benchmarks.{name}.source: found None, allowed: a file, a folder or a hub id")
        source = _beside(path.parent, declaration.source)
        benchmarks[name] = own_benchmark(name, declaration.model_copy(update={"source": source}))
    known = [*BENCHMARKS, *benchmarks]
    for name, members in found.suites.items():
        _require_free_name(f"{path}: suites", name)
        if name in benchmarks or not members or not set(members) <= set(known):
            what = f"{name!r}, a benchmark's name" if name in benchmarks else members
            raise ConfigError(f"{path}: suites.{name}: found {what}, allowed: a name of its own for some of {known}")
    return OwnBenchmarks(benchmarks, {name: tuple(members) for name, members in found.suites.items()})


def benchmarks_of_problems(
    problems: Any, *, split: str, columns: Mapping[str, str], verifier: str | None
) -> OwnBenchmarks:
    """A benchmark for each source of problems that a user names, or for rows that are handed in.

    Args:
        problems: a source as `problems.train` names it, ``NAME=SOURCE``, several of them, rows (a list of mappings or
            Problems, a DataFrame, a Dataset), or a mapping of names to any of these.
        split: of hub data sets and folders.
        columns: as ``problems.columns``.
        verifier: for every problem; None: as the data says.

    Raises:
        ConfigError: nothing, or a name that cannot be a benchmark's.
    """
    benchmarks: dict[str, Benchmark] = {}
    rows: dict[str, Any] = {}
    for name, source in _named_sources(problems):
        _require_free_name("--problems", name, "; give it another name with --problems NAME=SOURCE")
        if name in benchmarks:
            raise ConfigError(f"--problems: the name {name!r} occurs twice; name one of them with NAME=SOURCE")
        text = _beside(Path.cwd(), str(source)) if isinstance(source, str | Path) else None
        if text is None:
            rows[name] = source
        declaration = Declaration(source=text, split=split, columns=dict(columns), verifier=verifier)
        benchmarks[name] = own_benchmark(name, declaration)
    return OwnBenchmarks(benchmarks, {}, rows, tuple(benchmarks))


def together(one: OwnBenchmarks, other: OwnBenchmarks, *, key: str = "--problems") -> OwnBenchmarks:
    """Both as one; ``key`` is the option that names the second.

    Raises:
        ConfigError: a name that both have.
    """
    twice = [name for name in other.benchmarks if name in {**one.benchmarks, **one.suites}]
    twice += [name for name in other.suites if name in {**one.benchmarks, **one.suites}]
    if twice:
        what = "is declared as well; give it another name with NAME=SOURCE"
        if key != "--problems":
            what = "is declared in two of the files; give one of the two another name"
        raise ConfigError(f"{key}: {twice[0]!r} {what}")
    return OwnBenchmarks(
        {**one.benchmarks, **other.benchmarks},
        {**one.suites, **other.suites},
        {**one.rows, **other.rows},
        one.asked + other.asked,
    )


def _named_sources(problems: Any) -> list[tuple[str, Any]]:
    if isinstance(problems, str | Path):
        return [_named_source(str(problems))]
    if is_table(problems):
        return [(_ROWS, problems)]
    if isinstance(problems, Mapping):
        found = [(str(name), source) for name, source in problems.items()]
    elif isinstance(problems, list | tuple) and all(isinstance(one, str | Path) for one in problems):
        found = [_named_source(str(one)) for one in problems]
    else:
        found = [(_ROWS, problems)]
    if not found or any(isinstance(source, list | tuple) and not source for _, source in found):
        raise ConfigError("--problems: found none, allowed: a file, a hub id or rows")
    return found


def _named_source(text: str) -> tuple[str, str]:
    named = _NAMED_SOURCE.fullmatch(text)
    if named and not Path(text).expanduser().exists():
        return named[1], named[2]
    # Of a path the file's name alone; of a hub id, an embedded split or a generated task the whole.
    stem = Path(text).expanduser().stem if names_a_file(text) or Path(text).expanduser().exists() else text
    return re.sub(r"[^\w-]+", "_", stem).strip("_-") or _ROWS, text


def _require_free_name(where: str, name: str, advice: str = "") -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: found the name {name!r}, allowed: letters, digits, _ and -{advice}")
    if name in BENCHMARKS or name in SUITES:
        kind = "benchmark" if name in BENCHMARKS else "suite"
        raise ConfigError(f"{where}: {name!r} is the name of a {kind} of masa's own{advice}")


def _beside(folder: Path, source: str) -> str:
    """A source that is a file or folder by its whole path, so that it is found from anywhere; others as they are."""
    path = folder / Path(source).expanduser()
    return str(path.resolve()) if path.exists() or names_a_file(source) else source


def _read_row(row: Row, reading: Reading) -> Problem:
    benchmark = reading.benchmark
    columns = benchmark.mapping
    own_id = lookup(row, columns["id"]) if "id" in columns else first_of(row, ID_COLUMNS)
    if reading.options == "shuffled" and (options := _mapped(row, columns, "options", OPTION_COLUMNS)) is not None:
        fields = {
            "question": _mapped(row, columns, "statement", STATEMENT_COLUMNS),
            "options": options,
            "answer": _mapped(row, columns, "answer", (*ANSWER_COLUMNS, "answerKey", "label")),
            "id": own_id,
        }
        return choice_row({**row, **fields}, reading)
    problem = problem_from_row(row, benchmark.name, columns=columns or None, verifier=benchmark.verifier or None)
    return replace(problem, id=reading.problem_id(own_id))


def _mapped(row: Row, columns: Mapping[str, str], name: str, usual: tuple[str, ...]) -> Any:
    return lookup(row, columns[name]) if name in columns else first_of(row, usual)

"""What a benchmark is: one frozen declaration, and how its rows become problems."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from masa.problems.choices import LETTERS, Options, choice_statement, letter_of, read_options
from masa.problems.errors import RowError, shown
from masa.problems.problem import Problem
from masa.problems.schemas import problem_from_row
from masa.problems.seeds import derive_seed

Row = Mapping[str, Any]
OptionOrder = Literal["source", "shuffled"]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    ``hub`` is a hub id, with the configuration after a colon; None: the rows only exist as a local file (or, for the
    embedded world, in the package). ``columns`` documents the columns that are read. ``read`` makes a problem of a row;
    None: the row is of a schema that `masa.problems` knows. ``template`` is the solution template (a name or jinja2
    text) where the common one, which asks according to the verifier, does not fit. ``rows`` is the number of rows that
    the split is known to hold, ``max_tokens`` bounds responses where the benchmark asks for less than the usual limit.

    A benchmark of the user's own has its declaration as JSON values in ``declared``. It is read from ``source``, which
    is anything that ``problems.train`` reads (None: rows handed in from Python), with ``mapping`` as
    ``problems.columns``; where its ``verifier`` is empty each problem has that of its row.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    verifier: str
    licence: str
    rows: int | None
    hub: str | None = None
    source: str | None = None
    revision: str = "main"
    split: str = "test"
    read: Callable[[Row, Reading], Problem] | None = None
    options: OptionOrder | None = None
    template: str = "default"
    meta_template: str = "default"
    max_tokens: int | None = None
    max_meta_tokens: int | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Reading:
    """What a row is read with: the benchmark, the row's number from 0, the order of options and its seed."""

    benchmark: Benchmark
    index: int
    options: OptionOrder | None
    seed: int

    def problem_id(self, own: Any) -> str:
        """The id of a problem: the benchmark's name, and the row's own id or number."""
        own = self.index if own is None or own == "" else own
        return f"{self.benchmark.name}/{own}"


def read_row(row: Row, reading: Reading) -> Problem:
    """The problem of one row; its ``source`` is the benchmark's name and its id begins with it.

    Raises:
        RowError: the row is no problem of this benchmark.
    """
    benchmark = reading.benchmark
    if benchmark.read is not None:
        problem = benchmark.read(row, reading)
    else:
        problem = known_schema(row, reading)
    return replace(problem, source=benchmark.name, verifier=benchmark.verifier or problem.verifier)


def known_schema(row: Row, reading: Reading) -> Problem:
    """A row of a schema that `masa.problems` knows."""
    problem = problem_from_row(row, reading.benchmark.name, verifier=reading.benchmark.verifier)
    own = next((row[name] for name in ("id", "problem_id", "task_id", "unique_id") if row.get(name) is not None), None)
    return replace(problem, id=reading.problem_id(own))


def mapped(columns: Mapping[str, str]) -> Callable[[Row, Reading], Problem]:
    """A reader of rows whose statement, answer and the like are in other columns (dots lead into nested values)."""

    def read(row: Row, reading: Reading) -> Problem:
        missing = [column for column in columns.values() if column.split(".")[0] not in row]
        if missing:
            raise RowError(f"no column {missing[0]!r}; found {', '.join(map(str, row))}")
        problem = problem_from_row(row, reading.benchmark.name, columns=columns, verifier=reading.benchmark.verifier)
        return replace(problem, id=reading.problem_id(row.get(columns.get("id", "id"))))

    return read


def choice_problem(
    reading: Reading, question: Any, options: Options, answer: Any, *, context: Any = None, own_id: Any = None
) -> Problem:
    """A multiple-choice problem with its options in the order that is asked for.

    The shuffle depends on the seed, the benchmark and the problem alone, so every model sees the same one.
    """
    if not isinstance(question, str) or not question.strip():
        raise RowError(f"the question is {shown(question)}, text is needed")
    right = LETTERS.index(letter_of(answer, options))
    problem_id = reading.problem_id(own_id)
    order = list(range(len(options.texts)))
    if reading.options == "shuffled":
        random.Random(derive_seed(reading.seed, "options", problem_id)).shuffle(order)
    texts = tuple(options.texts[position] for position in order)
    ordered = Options(texts, tuple(LETTERS[: len(texts)]))
    return Problem(
        id=problem_id,
        statement=choice_statement(str(context or ""), question, ordered),
        answer=LETTERS[order.index(right)],
        source=reading.benchmark.name,
        verifier="choice",
        metadata={"options": list(texts)},
    )


def choice_row(row: Row, reading: Reading) -> Problem:
    """A row of question, options (or choices) and answer, with or without a context."""
    raw = row.get("options") if row.get("options") is not None else row.get("choices")
    if raw is None:
        raise RowError(f"no options; found {', '.join(map(str, row))}")
    answer = row.get("answer") if row.get("answer") is not None else row.get("answerKey")
    if answer is None:
        raise RowError("no answer: neither 'answer' nor 'answerKey' holds one")
    return choice_problem(
        reading, row.get("question"), read_options(raw), answer, context=row.get("context"), own_id=row.get("id")
    )


def text_of(row: Row, column: str) -> str:
    """The text of a column.

    Raises:
        RowError: it is missing, empty or no text.
    """
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        found = "is missing" if column not in row else f"is {shown(value)}"
        raise RowError(f"column {column!r} {found}, text is needed")
    return value

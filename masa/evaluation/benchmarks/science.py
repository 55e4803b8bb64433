"""Science questions: multiple choice, and SciBench's numbers with units."""

from __future__ import annotations

from masa.evaluation.benchmarks.benchmark import Benchmark, Reading, Row, choice_problem, choice_row, text_of
from masa.problems.choices import Options
from masa.problems.errors import RowError
from masa.problems.problem import Problem

_GPQA_COLUMNS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
_RBENCH_LETTERS = ("A", "B", "C", "D", "E", "F")


def _read_gpqa(row: Row, reading: Reading) -> Problem:
    texts = tuple(text_of(row, column).strip() for column in _GPQA_COLUMNS)
    options = Options(texts, ("A", "B", "C", "D"))
    return choice_problem(reading, text_of(row, "Question"), options, "A", own_id=row.get("Record ID"))


def _read_rbench(row: Row, reading: Reading) -> Problem:
    letters = [letter for letter in _RBENCH_LETTERS if row.get(letter) not in (None, "")]
    if len(letters) < 2:
        raise RowError(f"columns A to F hold {len(letters)} options, at least 2 are needed")
    options = Options(tuple(str(row[letter]).strip() for letter in letters), tuple(letters))
    return choice_problem(reading, text_of(row, "question"), options, text_of(row, "answer"), own_id=row.get("index"))


def _read_scibench(row: Row, reading: Reading) -> Problem:
    value = str(row.get("answer_number", "")).strip()
    if not value:
        raise RowError("column 'answer_number' is missing or empty, a number is needed")
    unit = str(row.get("unit") or "").strip()
    statement = text_of(row, "problem_text").strip()
    if unit:
        # The gold number means nothing without its unit, which is a part of what is asked.
        statement = f"{statement}\n\nThe answer is wanted in this unit: {unit}"
    # problemid repeats from book to book.
    own_id = "/".join(str(part).strip() for part in (row.get("source"), row.get("problemid")) if part) or None
    return Problem(
        id=reading.problem_id(own_id),
        statement=statement,
        answer={"value": value, "unit": unit},
        source=reading.benchmark.name,
        verifier=reading.benchmark.verifier,
    )


GPQA_DIAMOND = Benchmark(
    name="gpqa_diamond",
    title="GPQA-Diamond",
    hub="Idavidrein/gpqa:gpqa_diamond",
    split="train",
    columns=("Question", *_GPQA_COLUMNS),
    verifier="choice",
    licence="CC BY 4.0 (gated on the hub)",
    rows=198,
    read=_read_gpqa,
    options="shuffled",
)
RBENCH = Benchmark(
    name="rbench",
    title="R-Bench",
    hub="R-Bench/R-Bench:rbench-t_en",
    columns=("question", *_RBENCH_LETTERS, "answer"),
    verifier="choice",
    licence="Apache-2.0",
    rows=1094,
    read=_read_rbench,
    options="source",
)
ARC_CHALLENGE = Benchmark(
    name="arc_challenge",
    title="ARC-Challenge",
    hub="allenai/ai2_arc:ARC-Challenge",
    columns=("question", "choices.label", "choices.text", "answerKey"),
    verifier="choice",
    licence="CC BY-SA 4.0",
    rows=1172,
    read=choice_row,
    options="source",
)
SCIBENCH = Benchmark(
    name="scibench",
    title="SciBench",
    hub="xw27/scibench",
    split="train",
    columns=("problem_text", "answer_number", "unit"),
    verifier="masa.evaluation.verifiers.quantities:numeric_with_unit",
    licence="MIT",
    rows=692,
    read=_read_scibench,
)

SCIENCE = (GPQA_DIAMOND, RBENCH, ARC_CHALLENGE, SCIBENCH)

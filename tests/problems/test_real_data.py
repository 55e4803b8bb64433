"""The data files that the project is developed on are understood without any mapping."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from masa.problems import ProblemDataError, load_problems

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def data_file(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def test_all_7500_rows_of_math_train_are_read_within_seconds() -> None:
    path = data_file("math_train.parquet")
    start = time.perf_counter()
    loaded = load_problems(path, on_bad_row="skip")
    assert time.perf_counter() - start < 15
    # Rows 5341 and 5343 have no target and an empty box in their solution; one statement stands there twice.
    assert [row.index for row in loaded.report.bad_rows] == [5341, 5343]
    assert (loaded.report.rows_read, loaded.report.duplicates) == (7500, 1)
    assert (len(loaded.problems), len({problem.id for problem in loaded.problems})) == (7497, 7497)
    assert {problem.verifier for problem in loaded.problems} == {"math"}
    first = loaded.problems[0]
    assert (first.id, first.answer, first.source) == ("TianHongZXY/MATH/train/0", "0", "TianHongZXY/MATH")
    assert first.metadata == {"level": "Level 5", "type": "Algebra", "ability": "math"}


def test_an_empty_target_is_filled_from_the_solution_s_box() -> None:
    problems = {
        problem.id: problem for problem in load_problems(data_file("math_train.parquet"), on_bad_row="skip").problems
    }
    assert problems["TianHongZXY/MATH/train/6627"].answer == "\\mbox{four}"
    assert problems["TianHongZXY/MATH/train/7301"].answer == "\\begin{pmatrix} 0 & 3 \\\\ 0 & -1 \\end{pmatrix}"


def test_math_train_is_refused_by_default_with_its_two_bad_rows() -> None:
    with pytest.raises(ProblemDataError, match=r"2 of the 7500 rows read are bad: row 5341: no answer.*row 5343"):
        load_problems(data_file("math_train.parquet"))


def test_the_deepscaler_example_loses_its_instruction() -> None:
    (problem,) = load_problems(data_file("deepscaler_example.json")).problems
    assert problem.statement.endswith("Determine $[(1 \\otimes 2) \\otimes 3] - [1 \\otimes (2 \\otimes 3)]$.")
    assert (problem.answer, problem.verifier) == ("-\\frac{2}{3}", "math")
    assert problem.solution is not None
    assert problem.solution.startswith("1. **Apply the operation")


@pytest.mark.parametrize(
    ("name", "count", "letters"),
    [
        ("ar_lsat_dev.json", 231, "ABCDE"),
        ("folio_dev.json", 204, "ABC"),
        ("logicaldeduction_dev.json", 300, "ABCDEFG"),
        ("prontoqa_dev.json", 500, "AB"),
        ("proofwriter_dev.json", 600, "ABC"),
    ],
)
def test_the_logic_files_are_choice_problems(name: str, count: int, letters: str) -> None:
    problems = load_problems(data_file(name)).problems
    assert len(problems) == count
    assert {problem.verifier for problem in problems} == {"choice"}
    assert {problem.answer for problem in problems} == set(letters)
    assert all("\n\nA) " in problem.statement and "\nB) " in problem.statement for problem in problems)


def test_mbpp_problems_carry_their_asserts() -> None:
    problems = load_problems(data_file("mbpp_test.jsonl")).problems
    assert len(problems) == 500
    assert {problem.verifier for problem in problems} == {"code"}
    assert all(len(problem.answer["asserts"]) == 3 for problem in problems)
    assert all(line in problem.statement for problem in problems for line in problem.answer["asserts"])
    assert problems[0].id == "mbpp_test/11"
    assert "\r" not in "".join(problem.solution or "" for problem in problems)

"""Rows of every known schema become the problems they hold, from every kind of source."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masa.problems import Problem, ProblemDataError, load_problems
from masa.rewards.grading import verifier_item
from masa.rewards.verifiers import Limits
from masa.rewards.verifiers.choice import verify_choice

LIMITS = Limits(seconds=1.0, memory_mb=512, scratch=Path("unused"))
BOXING = " Let's think step by step and output the final answer within \\boxed{}."


def one(row: dict[str, Any], **options: Any) -> Problem:
    (problem,) = load_problems([row], **options).problems
    return problem


def test_a_row_of_problem_and_answer() -> None:
    problem = one({"problem": "What is 1 + 1?" + BOXING, "answer": 2, "solution": "It is $\\boxed{2}$.", "level": 3})
    assert (problem.statement, problem.answer, problem.verifier) == ("What is 1 + 1?", "2", "math")
    assert problem.solution == "It is $\\boxed{2}$."
    assert (problem.source, dict(problem.metadata)) == ("list", {"level": 3})


def test_a_row_of_question_and_answer() -> None:
    problem = one({"question": "What is 1 + 1?", "answer": "2"})
    assert (problem.statement, problem.answer, problem.solution) == ("What is 1 + 1?", "2", None)


def test_a_gsm8k_row_keeps_the_answer_after_the_hashes_and_the_solution_before_them() -> None:
    problem = one({"question": "Eggs?", "answer": "She sells 9 * 2 = $<<9*2=18>>18.\n#### 1,018"})
    assert (problem.answer, problem.solution) == ("1018", "She sells 9 * 2 = $18.")


def test_a_math_row_without_an_answer_column_takes_it_from_the_solution_s_last_box() -> None:
    problem = one({"problem": "Solve.", "solution": "First $\\boxed{1}$, so $\\boxed{\\frac{1}{2}}$."})
    assert problem.answer == "\\frac{1}{2}"


def test_a_row_of_chat_prompt_and_reward_model_with_a_question() -> None:
    row = {
        "data_source": "owner/set",
        "prompt": [{"role": "user", "content": "Solve x." + BOXING}],
        "reward_model": {"ground_truth": {"question": "Solve x." + BOXING, "solution": "x", "target": "4"}},
        "extra_info": {"index": 17, "split": "train"},
    }
    problem = one(row)
    assert (problem.id, problem.source) == ("owner/set/train/17", "owner/set")
    assert (problem.statement, problem.answer, problem.solution) == ("Solve x.", "4", "x")


def test_a_dapo_row_whose_ground_truth_is_a_text() -> None:
    content = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\nFind $k$.\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    row = {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": content}],
        "ability": "MATH",
        "reward_model": {"ground_truth": "34", "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "9a9b6eb4"},
    }
    problem = one(row)
    assert (problem.id, problem.statement, problem.answer) == ("math_dapo/9a9b6eb4", "Find $k$.", "34")


def test_a_system_message_in_the_prompt_is_no_part_of_the_statement() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Solve x."}]
    assert one({"prompt": messages, "answer": "1"}).statement == "Solve x."


@pytest.mark.parametrize(
    "options",
    [
        ["A) True", "B) False"],
        ["True", "False"],
        {"A": "True", "B": "False"},
        {"label": ["1", "2"], "text": ["True", "False"]},
        '["True", "False"]',
    ],
)
def test_options_in_any_form_give_one_statement(options: Any) -> None:
    row = {"id": "L1", "context": "Max is a cat.", "question": "Is Max a dog?", "options": options, "answer": "False"}
    problem = one(row)
    assert problem.statement == "Max is a cat.\n\nIs Max a dog?\n\nA) True\nB) False"
    assert (problem.id, problem.answer, problem.verifier) == ("L1", "B", "choice")
    # A response may box the option's text in place of its letter.
    for option, score in (("False", 1), ("True", 0)):
        item = verifier_item(problem, f"So: \\boxed{{{option}}}")
        assert verify_choice(item["response"], item["answer"], item["options"], LIMITS).score == score


@pytest.mark.parametrize(("answer", "letter"), [("B", "B"), ("b", "B"), ("B) no", "B"), ("(B)", "B"), ("no", "B")])
def test_the_right_option_is_given_by_letter_or_text(answer: str, letter: str) -> None:
    assert one({"question": "Well?", "options": ["yes", "no"], "answer": answer}).answer == letter


def test_labels_that_the_row_gives_decide_over_letters() -> None:
    row = {"question": "Well?", "choices": {"label": ["1", "2"], "text": ["2", "1"]}, "answerKey": "2"}
    assert one(row).answer == "B"


def test_an_mbpp_row_shows_its_tests_and_is_verified_by_them() -> None:
    row = {"prompt": "Write f.", "test": ["assert f(1) == 2", "assert f(2) == 3"], "code": "def f(x):\r\n  return x+1"}
    problem = one(row | {"task_id": 11})
    expected = "Write f.\n\nYour code should pass these tests:\n\nassert f(1) == 2\nassert f(2) == 3"
    assert (problem.id, problem.statement, problem.verifier) == ("list/11", expected, "code")
    assert problem.answer == {"asserts": ["assert f(1) == 2", "assert f(2) == 3"]}
    assert problem.solution == "def f(x):\n  return x+1"


def test_the_set_up_of_tests_is_part_of_the_answer_and_is_not_shown() -> None:
    row = {"text": "Write g.", "test_list": ["assert g() == math.pi"], "test_setup_code": "import math", "code": ""}
    problem = one(row)
    assert problem.answer == {"asserts": ["assert g() == math.pi"], "setup": "import math"}
    assert "import" not in problem.statement


def test_a_code_row_of_cases_keeps_them_as_they_are() -> None:
    answer = {"cases": [{"stdin": "1\n", "stdout": "2\n"}]}
    problem = one({"problem": "Add one.", "answer": answer})
    assert (problem.answer, problem.verifier) == (answer, "code")
    assert one({"problem": "Add one.", "answer": json.dumps(answer)}, verifier="code").answer == answer


def test_the_row_s_verifier_stands_over_the_schema_s_and_the_argument_over_both() -> None:
    row = {"question": "Capital of France?", "answer": "Paris", "verifier": "exact"}
    assert one(row).verifier == "exact"
    assert one(row, verifier="mypackage.judges:capital").verifier == "mypackage.judges:capital"


def test_columns_are_mapped_by_name_and_by_path() -> None:
    row = {"q": "Name?", "gold": {"values": ["7", "8"]}, "why": "because", "key": "row-1", "from": "book"}
    columns = {"statement": "q", "answer": "gold.values.1", "solution": "why", "id": "key", "source": "from"}
    problem = one(row, columns=columns)
    assert (problem.statement, problem.answer, problem.solution) == ("Name?", "8", "because")
    assert (problem.id, problem.source) == ("row-1", "book")


def test_a_mapped_answer_stands_over_the_one_a_schema_would_take() -> None:
    row = {
        "prompt": [{"role": "user", "content": "Solve x."}],
        "reward_model": {"ground_truth": {"target": "1"}},
        "checked": "2",
    }
    assert one(row).answer == "1"
    assert one(row, columns={"answer": "checked"}).answer == "2"


def test_a_mapped_source_leaves_the_schema_as_it_is() -> None:
    row = {"prompt": "Write f.", "test": ["assert f()"], "set": "mine"}
    problem = one(row, columns={"source": "set"})
    assert (problem.verifier, problem.source) == ("code", "mine")


def test_mapped_options_make_a_choice_problem() -> None:
    row = {"q": "Which?", "o": ["x", "y"], "a": "B"}
    problem = one(row, columns={"statement": "q", "options": "o", "answer": "a"})
    assert (problem.statement, problem.answer, problem.verifier) == ("Which?\n\nA) x\nB) y", "B", "choice")


def test_a_problem_in_a_list_is_taken_as_it_is() -> None:
    given = Problem(id="mine", statement="Solve." + BOXING, answer="1")
    assert load_problems([given]).problems == [given]
    assert load_problems([given], verifier="exact").problems[0].verifier == "exact"


def test_ids_without_an_own_one_follow_from_the_statement_alone() -> None:
    first = one({"problem": "What is 1 + 1?", "answer": "2"})
    second = load_problems([{"problem": "Other.", "answer": "1"}, {"question": "What is  1 + 1?\n", "answer": 2}])
    assert first.id == second.problems[1].id == "e265702b26f3ffa7"


def test_duplicates_are_left_out_and_counted_and_differing_answers_are_named() -> None:
    rows = [
        {"problem": "What is 1 + 1?", "answer": "2"},
        {"problem": "What is  1 + 1?", "answer": "2"},
        {"problem": "What is 1 + 2?", "answer": "3"},
        {"problem": "What is 1 + 1?" + BOXING, "answer": "3"},
    ]
    loaded = load_problems(rows)
    assert [problem.answer for problem in loaded.problems] == ["2", "3"]
    assert (loaded.report.rows_read, loaded.report.duplicates) == (4, 2)
    assert loaded.report.conflicting_duplicates == (3,)


def test_an_id_given_twice_is_made_unique_and_counted() -> None:
    rows = [{"id": "a", "problem": "One?", "answer": 1}, {"id": "a", "problem": "Two?", "answer": 2}]
    loaded = load_problems(rows)
    first, second = (problem.id for problem in loaded.problems)
    assert first == "a"
    assert second.startswith("a#")
    assert loaded.report.repeated_ids == 1


def test_the_limit_counts_problems_and_reads_no_further() -> None:
    rows = [{"problem": f"{number % 3}?", "answer": 0} for number in (0, 0, 1, 2, 0)] + [{"bad": "row"}]
    loaded = load_problems(rows, limit=2)
    assert [problem.statement for problem in loaded.problems] == ["0?", "1?"]
    assert loaded.report.rows_read == 3


def test_the_report_is_plain_json_values() -> None:
    rows: list[Any] = [{"problem": "One?", "answer": 1}, 7]
    report = load_problems(rows, on_bad_row="skip").report
    assert json.loads(json.dumps(report.as_dict())) == {
        "source": "the list of problems",
        "rows_read": 2,
        "bad_rows": [{"index": 1, "reason": "7 (int), a mapping or a Problem is needed"}],
        "duplicates": 0,
        "conflicting_duplicates": [],
        "repeated_ids": 0,
    }


ROWS = [{"problem": "Größe?\nWeiter.", "answer": "007"}, {"problem": 'Two, "three"?', "answer": "1e5"}]


def write_rows(path: Path) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in ROWS) + "\n", encoding="utf-8-sig")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["problem", "answer"])
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet", ".JSONL"])
def test_every_file_format_gives_the_same_problems(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"book{suffix}"
    write_rows(path.with_suffix(suffix.lower()))
    path.with_suffix(suffix.lower()).rename(path)
    for source in (path, str(path)):
        problems = load_problems(source).problems
        assert [(problem.statement, problem.answer) for problem in problems] == [
            ("Größe?\nWeiter.", "007"),
            ('Two, "three"?', "1e5"),
        ]
        assert {problem.source for problem in problems} == {"book"}


def test_a_json_file_may_hold_one_object(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text('{"problem": "One?", "answer": 1}', encoding="utf-8")
    assert load_problems(path).problems[0].answer == "1"


def test_a_csv_field_may_be_longer_than_python_s_default_limit(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    path = tmp_path / "long.csv"
    path.write_text(f"problem,answer\n{'x' * (limit + 1)},1\n", encoding="utf-8")
    assert len(load_problems(path).problems[0].statement) == limit + 1
    assert csv.field_size_limit() == limit


def test_the_embedded_splits_hold_different_problems() -> None:
    train = load_problems("embedded:train", limit=32)
    test = load_problems("embedded:test")
    assert len(train.problems) == 32
    assert not {p.statement for p in load_problems("embedded:train").problems} & {p.statement for p in test.problems}
    assert all(problem.solution for problem in train.problems)


def test_importing_the_room_imports_none_of_the_heavy_packages() -> None:
    code = (
        "import sys, masa.problems, masa.problems.loading;"
        "print(sorted({'datasets', 'pyarrow', 'pandas', 'torch', 'transformers', 'jinja2'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (np.int64(7), "7"),
        (np.uint8(7), "7"),
        (np.float64(2.5), "2.5"),
        (np.float32(2.5), "2.5"),
        (np.array(7), "7"),
        (np.str_("x+1"), "x+1"),
        (np.array("x+1"), "x+1"),
    ],
)
def test_numpy_values_of_a_row_are_read_as_python_s_own(answer: Any, expected: str) -> None:
    problem = one({"problem": np.str_("Find it."), "answer": answer, "level": np.int64(3), "id": np.int64(4)})
    assert (problem.answer, problem.statement, problem.metadata["level"]) == (expected, "Find it.", 3)
    assert type(problem.answer) is str
    assert json.dumps(dict(problem.metadata)) == '{"level": 3}'


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (np.bool_(True), True),
        (np.array(False), False),
        (np.array([1, 2]), [1, 2]),
        (np.array([]), []),
        (np.array([[1]]), [[1]]),
    ],
)
def test_a_numpy_bool_or_list_is_refused_like_python_s_own(given: Any, plain: Any) -> None:
    messages = []
    for answer in (given, plain):
        with pytest.raises(ProblemDataError) as caught:
            load_problems([{"problem": "p", "answer": answer}])
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_options_of_a_row_may_be_a_numpy_array() -> None:
    problem = one({"question": "Which?", "options": np.array(["red", "blue"]), "answer": np.str_("B")})
    same = one({"question": "Which?", "options": ["red", "blue"], "answer": "B"})
    assert (problem.answer, problem.statement, problem.metadata) == (same.answer, same.statement, same.metadata)


def test_a_problem_made_with_a_numpy_answer_can_be_verified() -> None:
    for given, plain in ((np.int64(3), 3), (np.array(2.5), 2.5), ({"cases": np.array(["1"])}, {"cases": ["1"]})):
        problem = Problem(id="a", statement="s", answer=given)
        assert problem.answer == plain
        json.dumps(verifier_item(problem, "text"))


def test_rows_of_a_data_frame_are_read_and_what_is_missing_in_them_is_told() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"problem": ["a", "b"], "answer": pandas.array([4, None], dtype="Int64")})
    rows = [row for _, row in frame.iterrows()]
    assert load_problems([dict(rows[0])]).problems[0].answer == "4"
    for missing in (pandas.NA, pandas.NaT):
        with pytest.raises(ProblemDataError, match="no answer: it is empty"):
            load_problems([{"problem": "b", "answer": missing}])
    assert load_problems([{"problem": "a", "answer": pandas.Series([4])}]).problems[0].answer == "4"


@pytest.mark.parametrize("statement", [math.nan, np.float64("nan"), math.inf])
def test_a_statement_that_is_a_missing_number_is_refused(statement: float) -> None:
    with pytest.raises(ProblemDataError, match=r"the statement is (nan|inf), text is needed"):
        load_problems([{"problem": statement, "answer": "1"}])

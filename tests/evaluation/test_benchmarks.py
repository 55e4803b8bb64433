"""Every declared benchmark on a small file of its documented columns, and the real files where they are there."""

import base64
import io
import json
import pickle
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from masa.evaluation.benchmarks import BENCHMARKS, SUITES, resolve_benchmarks, suite_of
from masa.evaluation.benchmarks.benchmark import Benchmark
from masa.evaluation.benchmarks.embedded import EMBEDDED_BENCHMARKS
from masa.evaluation.benchmarks.listing import print_benchmarks
from masa.evaluation.benchmarks.loading import DataChoice, choose_files, load_benchmark
from masa.problems.errors import ProblemDataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
LOGIC_ROW = {"id": "x_1", "context": "All cats purr.", "question": "True or false? Tom purrs.", "answer": "B"}
CHAT_ROW = {
    "data_source": "any",
    "prompt": [
        {"role": "user", "content": "What is 1+1? Let's think step by step and output the answer in \\boxed{}."}
    ],
    "reward_model": {"ground_truth": {"target": "2"}, "style": "rule"},
}


def _packed(cases: list[dict[str, str]]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


# Benchmark -> one row of its documented columns, what the statement holds, and the answer.
ROWS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "aime24": ({"id": 60, "problem": "Find x.", "answer": "204", "year": "2024"}, "Find x.", "204"),
    "aime25": (CHAT_ROW, "What is 1+1?", "2"),
    "amc23": (CHAT_ROW, "What is 1+1?", "2"),
    "math500": ({"problem": "Convert.", "answer": "\\frac12", "unique_id": "test/1.json"}, "Convert.", "\\frac12"),
    "minerva": ({"question": "How far?", "answer": "1.6"}, "How far?", "1.6"),
    "olympiadbench": ({"id": 1606, "question": "Find $n$.", "final_answer": ["2", "3"]}, "Find $n$.", "2"),
    **{
        name: ({**LOGIC_ROW, "options": ["A) True", "B) False", "C) Unknown"]}, "B) False", "B")
        for name in ("prontoqa", "proofwriter", "folio", "logicaldeduction", "ar_lsat")
    },
    "gpqa_diamond": (
        {
            "Record ID": "rec1",
            "Question": "Which one?",
            "Correct Answer": "right",
            "Incorrect Answer 1": "w1",
            "Incorrect Answer 2": "w2",
            "Incorrect Answer 3": "w3",
        },
        "Which one?",
        None,
    ),
    "rbench": (
        {"index": "i1", "question": "Which?", "A": "1", "B": "2", "C": "3", "D": "4", "E": "5", "F": "6",
         "answer": "F"},
        "F) 6",
        "F",
    ),
    "arc_challenge": (
        {"id": "m1", "question": "Why?", "choices": {"label": ["1", "2"], "text": ["so", "not so"]}, "answerKey": "2"},
        "B) not so",
        "B",
    ),
    "scibench": (
        {"problem_text": "How fast?", "answer_number": "3.5", "unit": "$\\mathrm{~m/s}$", "source": "x",
         "problemid": "1"},
        "in this unit",
        {"value": "3.5", "unit": "$\\mathrm{~m/s}$"},
    ),
    "humaneval_plus": (
        {
            "task_id": "HumanEval/0",
            "prompt": 'def one():\n    """Give 1."""\n',
            "canonical_solution": "    return 1\n",
            "entry_point": "one",
            "test": "def check(candidate):\n    assert candidate() == 1\n",
        },
        "def one():",
        {"asserts": ["def check(candidate):\n    assert candidate() == 1\n\ncheck(one)"]},
    ),
    "mbpp_plus": (
        {
            "task_id": 2,
            "prompt": "Write a function one.",
            "code": "def one():\n    return 1",
            "test_imports": [],
            "test_list": ["assert one() == 1"],
            "test": "for _ in range(2):\n    assert one() == 1",
        },
        "assert one() == 1",
        {"asserts": ["for _ in range(2):\n    assert one() == 1"]},
    ),
    "cruxeval_o": (
        {"id": "sample_0", "code": "def f(x):\n    return x + [1]", "input": "[0]", "output": "[0, 1]"},
        "f([0])",
        "[0, 1]",
    ),
    "mbpp": (
        {"task_id": 11, "text": "Write one.", "code": "def one(): return 1", "test_list": ["assert one() == 1"],
         "test_setup_code": "", "challenge_test_list": []},
        "Write one.",
        {"asserts": ["assert one() == 1"]},
    ),
    "livecodebench": (
        {
            "question_id": "abc1",
            "question_content": "Add two numbers.",
            "starter_code": "",
            "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
            "private_test_cases": _packed([{"input": "2 2\n", "output": "4\n", "testtype": "stdin"}]),
            "metadata": "{}",
        },
        "standard input",
        {"cases": [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "2 2\n", "stdout": "4\n"}]},
    ),
}  # fmt: skip


def _file(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _load(name: str, path: Path, **choice: Any) -> list[Any]:
    return load_benchmark(BENCHMARKS[name], DataChoice(files={name: path}, **choice))


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in EMBEDDED_BENCHMARKS])
def test_a_file_of_the_documented_columns_becomes_problems(name: str, tmp_path: Path) -> None:
    row, part, answer = ROWS[name]
    (problem,) = _load(name, _file(tmp_path, [row]))
    assert part in problem.statement
    assert problem.source == name
    assert problem.id.startswith(f"{name}/")
    assert problem.verifier == BENCHMARKS[name].verifier
    if answer is not None:
        assert problem.answer == answer
    assert "step by step" not in problem.statement


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in EMBEDDED_BENCHMARKS])
def test_the_row_has_every_column_that_the_declaration_names(name: str) -> None:
    row = ROWS[name][0]
    for column in BENCHMARKS[name].columns:
        assert any(choice.split(".")[0] in row for choice in column.rstrip(")").split(" (or "))


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in EMBEDDED_BENCHMARKS])
def test_a_row_without_its_columns_is_refused_with_benchmark_and_row(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProblemDataError, match=rf"benchmark {name}, file .*1 of 2 rows .*row 1: "):
        _load(name, _file(tmp_path, [ROWS[name][0], {"unrelated": 1}]))


def test_declarations_are_complete_and_distinct() -> None:
    assert len(SUITES["all"]) == 20
    assert [len(SUITES[name]) for name in ("math", "logic", "science", "code")] == [6, 5, 4, 5]
    for benchmark in BENCHMARKS.values():
        assert benchmark.rows
        assert benchmark.licence
        assert benchmark.hub or suite_of(benchmark.name) in ("logic", *EMBEDDED_BENCHMARKS)


def test_names_and_suites_resolve_once_each_in_order() -> None:
    names = [benchmark.name for benchmark in resolve_benchmarks("mbpp, logic,prontoqa")]
    assert names == ["mbpp", "prontoqa", "proofwriter", "folio", "logicaldeduction", "ar_lsat"]


def test_an_unknown_benchmark_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ProblemDataError, match=r"found 'math5000' \(nearest: 'math500'\)"):
        resolve_benchmarks(["math5000"])


def _listed(width: int, terminal: bool) -> list[str]:
    text = io.StringIO()
    print_benchmarks(Console(file=text, width=width, force_terminal=terminal, color_system=None, _environ={}))
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80])
def test_in_a_pipe_each_benchmark_is_one_line_and_no_name_is_broken(width: int) -> None:
    lines = _listed(width, terminal=False)
    assert len(lines) == 1 + len(BENCHMARKS) + 1
    assert [line.split()[0] for line in lines[1:-1]] == list(BENCHMARKS)
    for line, benchmark in zip(lines[1:-1], BENCHMARKS.values(), strict=True):
        assert (benchmark.hub or "") in line
        assert benchmark.licence in line


def test_a_terminal_that_is_wide_enough_shows_the_benchmarks_as_a_table_and_a_narrow_one_as_lines() -> None:
    wide, narrow = _listed(220, terminal=True), _listed(60, terminal=True)
    assert "Benchmarks" in wide[0]
    for name in BENCHMARKS:
        assert any(f" {name} " in line for line in wide)
        assert any(line.startswith(f"{name} ") for line in narrow)


def test_shuffled_options_are_the_same_for_every_model_and_keep_the_right_one(tmp_path: Path) -> None:
    path = _file(tmp_path, [{**ROWS["gpqa_diamond"][0], "Record ID": f"rec{i}"} for i in range(40)])
    first, again = _load("gpqa_diamond", path), _load("gpqa_diamond", path)
    assert first == again
    assert set(Counter(problem.answer for problem in first)) == set("ABCD")
    for problem in first:
        assert f"{problem.answer}) right" in problem.statement
        assert problem.metadata["options"]["ABCD".index(problem.answer)] == "right"
    other = _load("gpqa_diamond", path, options_seed=1)
    assert [p.answer for p in other] != [p.answer for p in first]


def test_options_in_source_order_can_be_shuffled_on_request(tmp_path: Path) -> None:
    path = _file(tmp_path, [{**ROWS["folio"][0], "id": str(i)} for i in range(20)])
    assert {p.answer for p in _load("folio", path)} == {"B"}
    shuffled = _load("folio", path, options="shuffled")
    assert {p.answer for p in shuffled} == {"A", "B", "C"}
    assert all(f"{p.answer}) False" in p.statement for p in shuffled)


def test_starter_code_becomes_asserts_on_its_method(tmp_path: Path) -> None:
    row = {
        **ROWS["livecodebench"][0],
        "starter_code": "class Solution:\n    def add(self, a: int, b: List[int]) -> int:\n        ",
        "metadata": json.dumps({"func_name": "add"}),
        "public_test_cases": json.dumps([{"input": "1\n[2, 3]", "output": "true", "testtype": "functional"}]),
        "private_test_cases": "",
    }
    (problem,) = _load("livecodebench", _file(tmp_path, [row]))
    assert problem.answer["asserts"] == ["assert Solution().add(1, [2, 3]) == True"]
    assert "class Solution" in problem.statement


class _Harmful:
    def __reduce__(self) -> Any:
        return print, ("never printed",)


def test_packed_test_cases_cannot_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = base64.b64encode(zlib.compress(pickle.dumps(_Harmful()))).decode()
    row = {**ROWS["livecodebench"][0], "private_test_cases": packed}
    with pytest.raises(ProblemDataError, match="only text is read"):
        _load("livecodebench", _file(tmp_path, [row]))
    assert capsys.readouterr().out == ""


def test_a_logic_benchmark_without_its_file_says_how_to_give_it() -> None:
    with pytest.raises(
        ProblemDataError, match=r"--data folio=PATH, or a folder that holds folio.json or folio_dev.json"
    ):
        load_benchmark(BENCHMARKS["folio"])


def test_files_are_named_with_their_benchmark() -> None:
    assert choose_files(["mbpp=a=b.jsonl"]) == {"mbpp": Path("a=b.jsonl")}
    with pytest.raises(ProblemDataError, match="written as NAME=PATH"):
        choose_files(["mbpp.jsonl"])
    with pytest.raises(ProblemDataError, match="nearest: 'mbpp'"):
        choose_files(["mbp=x.jsonl"])


def test_rows_that_repeat_a_statement_stay(tmp_path: Path) -> None:
    problems = _load("minerva", _file(tmp_path, [{"question": "How far?", "answer": "1"}] * 3))
    assert len({problem.id for problem in problems}) == 3


def test_a_limit_takes_the_first_problems(tmp_path: Path) -> None:
    path = _file(tmp_path, [{"question": f"How far is {i}?", "answer": "1"} for i in range(9)])
    assert len(_load("minerva", path, limit=4)) == 4


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("prontoqa", 500),
        ("proofwriter", 600),
        ("folio", 204),
        ("logicaldeduction", 300),
        ("ar_lsat", 231),
        ("mbpp", 500),
    ],
)
def test_the_real_files_hold_the_declared_rows(name: str, rows: int) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    benchmark: Benchmark = BENCHMARKS[name]
    problems = load_benchmark(benchmark, DataChoice(folder=SHARED))
    assert len(problems) == rows == benchmark.rows

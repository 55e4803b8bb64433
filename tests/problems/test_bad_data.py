"""Every wrong source or row gives one message that names it, what was found and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from masa.problems import ProblemDataError, load_problems

GOOD = {"problem": "What is 1 + 1?", "answer": "2"}


def refused(source: Any, **options: Any) -> str:
    with pytest.raises(ProblemDataError) as caught:
        load_problems(source, **options)
    return str(caught.value)


def truncated_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([GOOD] * 100), path)
    path.write_bytes(path.read_bytes()[:-20])


def damaged_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"problem": f"What is {number} + 1?", "answer": "2"} for number in range(5000)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[200:4000] = bytes(3800)
    path.write_bytes(content)


def parquet_without_rows(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([GOOD]).slice(0, 0), path)


def text(content: str) -> Callable[[Path], None]:
    return raw(content.encode("utf-8"))


def raw(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("empty.parquet", raw(b""), "the file is empty"),
        ("empty.json", raw(b""), "the file is empty"),
        ("empty.jsonl", raw(b""), "the file is empty"),
        ("empty.csv", raw(b""), "the file is empty"),
        ("none.json", text("[]"), "holds no rows"),
        ("blank.jsonl", text("\n\n"), "holds no rows"),
        ("header.csv", text("problem,answer\n"), "holds no rows"),
        ("none.parquet", parquet_without_rows, "holds no rows"),
        ("cut.parquet", truncated_parquet, "is not a complete parquet file (truncated?)"),
        ("damaged.parquet", damaged_parquet, "is not a complete parquet file (truncated?)"),
        ("text.parquet", text("problem,answer\n"), "is not a complete parquet file"),
        ("cut.json", text('[{"problem": "One?",\n "answer": '), "invalid JSON at line 2, column 12: Expecting value"),
        ("lines.json", text('{"a": 1}\n{"a": 2}\n'), "one JSON object per line needs the extension .jsonl"),
        ("deep.json", text("[" * 100_000), "JSON that cannot be read"),
        ("number.json", text("7"), "holds 7, allowed: a list of objects, or one object"),
        ("latin.json", raw('[{"problem": "Größe"}]'.encode("latin-1")), "is not UTF-8 text"),
        ("latin.csv", raw("problem,answer\nGröße,1\n".encode("latin-1")), "is not UTF-8 text"),
        ("quote.csv", text('problem,answer\n"open,1\n'), "invalid csv at line 2: unexpected end of data"),
        ("twice.csv", text("problem,problem\n1,2\n"), "a column name occurs twice in the header"),
        ("rows.xlsx", raw(b"PK"), "extension '.xlsx' is not known, allowed: .parquet, .json, .jsonl, .csv"),
        ("rows", text("[]"), "extension '' is not known"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_path(
    tmp_path: Path, name: str, write: Callable[[Path], None], told: str
) -> None:
    path = tmp_path / name
    write(path)
    message = refused(str(path))
    assert message.startswith(f"problems file {str(path)!r}: ")
    assert told in message
    assert "\n" not in message
    # Skipping rows does not make a broken file a good one.
    assert told in refused(path, on_bad_row="skip")


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.parquet").endswith("no.parquet': no such file")
    assert refused("data/no.jsonl") == "problems file 'data/no.jsonl': no such file"
    assert "is a directory; give one file" in refused(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("gsm8", "found 'gsm8' (nearest: 'gsm8k'), allowed: a preset (deepscaler, dapo_math_17k, gsm8k, math)"),
        ("embedded:trian", "found 'embedded:trian' (nearest: 'embedded:train')"),
        ("embedded", "allowed: embedded:train or embedded:test"),
        ("a b/c", "a hub id (owner/name or owner/name:config)"),
        ("", "found ''"),
        (7, "found 7 (int), allowed: a name, a path, or a list of rows"),
        ({"problem": "One?"}, "(dict), allowed: a name, a path, or a list of rows"),
        ([], "the list of problems: holds no rows"),
    ],
)
def test_a_source_that_is_none_is_refused_with_what_is_allowed(source: Any, told: str) -> None:
    assert told in refused(source)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"columns": {"anwser": "answer"}},
            "problems.columns: unknown field 'anwser' (nearest: 'answer'), allowed: st",
        ),
        (
            {"columns": {"answer": "Anser"}},
            "maps 'answer' to the column 'Anser', which is not there (nearest: 'answer')",
        ),
        ({"columns": {"answer": "answer.text"}}, "which is not there"),
        ({"verifier": "maths"}, "problems.verifier: verifier 'maths' is not known (nearest: 'math'), allowed: math, "),
        ({"verifier": "my module:judge"}, "or module:function"),
        ({"on_bad_row": "ignore"}, "problems.on_bad_row: found 'ignore', allowed: 'refuse', 'skip'"),
        ({"limit": 0}, "problems.limit: found 0, allowed: 1 or more"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], told: str) -> None:
    assert told in refused([GOOD], **options)


CHAT = {"role": "user", "content": "Solve."}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"problem": "One?", "answer": ""}, "no answer: it is empty"),
        ({"problem": "One?", "answer": None}, "no answer: it is empty"),
        ({"problem": "One?", "answer": " \n"}, "no answer: it is empty"),
        ({"problem": "One?", "answer": []}, "no answer: it is empty"),
        ({"problem": "One?", "answer": "", "solution": "so \\boxed{}"}, "the solution's last \\boxed{} gives none"),
        ({"problem": "One?", "answer": "\n#### "}, "no answer"),
        ({"problem": "One?", "anwser": "1"}, "none of the columns answer, final_answer, target, ground_truth, gold is"),
        ({"problem": "One?", "anwser": "1"}, "found problem, anwser (nearest: 'anwser'); problems.columns can name it"),
        ({"qestion": "One?", "answer": "1"}, "no statement: none of the columns statement, problem, question"),
        ({}, "found no column"),
        ({"problem": "", "answer": "1"}, "the statement is empty"),
        ({"problem": ["One?"], "answer": "1"}, "problem holds 0 messages of the role 'user', exactly one is allowed"),
        ({"prompt": [CHAT, CHAT], "answer": "1"}, "prompt holds 2 messages of the role 'user'"),
        ({"problem": {"text": "One?"}, "answer": "1"}, "the statement is {'text': 'One?'} (dict), text is needed"),
        ({"problem": "One?", "answer": True}, "the answer is True; the verifier 'math' needs a text or a number"),
        ({"problem": "One?", "answer": ["1", "2"]}, "the answer is ['1', '2']; the verifier 'math' needs a text"),
        ({"problem": "One?", "answer": float("nan")}, "the answer is nan, not a finite number"),
        ({"problem": "One?", "answer": {"value": 1}}, "the verifier 'code' needs a list of asserts or of cases"),
        ({"problem": "One?", "answer": "1", "solution": 1j}, "the solution is 1j (complex), text is needed"),
        ({"problem": "One? \ud800", "answer": "1"}, "the statement holds a lone surrogate"),
        ({"problem": "One?", "answer": "1", "id": [1]}, "the id is [1], a text or a whole number is needed"),
        ({"problem": "One?", "answer": "1", "verifier": "match"}, "verifier 'match' is not known (nearest: 'math')"),
        ({"prompt": [CHAT], "reward_model": {"ground_truth": {"target": ""}}}, "no answer: it is empty"),
        ({"prompt": [CHAT], "reward_model": {}}, "no answer: it is empty"),
        ({"prompt": "f", "test": [1]}, "the tests are [1], a list of assert statements is needed"),
        (
            {"prompt": "f", "test": ["assert f()"], "test_setup_code": [None]},
            "the set-up of the tests is None (NoneType)",
        ),
        (
            {"problem": "One?", "answer": "1", "source": {"name": "book"}},
            "the source is {'name': 'book'} (dict), text is",
        ),
        (
            {"question": "Q", "context": ["c"], "options": ["x", "y"], "answer": "A"},
            "the context is ['c'] (list), text",
        ),
        ({"question": "Q", "options": ["x", "y"], "answer": "C"}, "'C', which is none of the options A to B"),
        ({"question": "Q", "options": ["x", "y"], "answer": 1}, "1, which is none of the options A to B"),
        ({"question": "Q", "options": ["x"], "answer": "A"}, "1 options found, 2 to 10 are allowed"),
        ({"question": "Q", "options": "x or y", "answer": "A"}, "the options are 'x or y', a list of texts is needed"),
        ({"question": "Q", "options": ["x", None], "answer": "A"}, "a list of texts is needed"),
        ({"question": "Q", "options": ["x", "y"]}, "no answer"),
        (
            {"question": "Q", "choices": {"label": ["A"], "text": ["x", "y"]}, "answer": "A"},
            "2 options found with 1 labels",
        ),
        ({"question": "Q", "answer": "maybe", "verifier": "choice"}, "a letter from A to J is needed"),
        ({"question": "Q", "answer": "6", "verifier": "code"}, "the verifier 'code' needs a list of asserts"),
        (
            {"question": "Q", "answer": {"asserts": ["assert f()"], "cases": [{"stdout": "1"}]}},
            "a list of asserts or of",
        ),
        (["problem", "answer"], "['problem', 'answer'] (list), a mapping or a Problem is needed"),
        (None, "None (NoneType), a mapping or a Problem is needed"),
    ],
)
def test_a_bad_row_is_refused_or_skipped_with_its_index_and_reason(row: Any, reason: str) -> None:
    message = refused([GOOD, row])
    assert message.startswith("the list of problems: 1 of the 2 rows read is bad: row 1: ")
    assert reason in message
    assert message.endswith("leave them out with problems.on_bad_row=skip")

    loaded = load_problems([GOOD, row], on_bad_row="skip")
    assert [problem.answer for problem in loaded.problems] == ["2"]
    (bad_row,) = loaded.report.bad_rows
    assert bad_row.index == 1
    assert reason in bad_row.reason


def test_a_mapped_column_that_is_empty_in_one_row_makes_that_row_bad() -> None:
    rows = [{"q": "One?", "a": 1}, {"q": "Two?", "question": "Not this.", "a": None}, {"question": "Nor this.", "a": 3}]
    message = refused(rows, columns={"statement": "q", "answer": "a"})
    assert "row 1: no answer: its column 'a' is empty; row 2: no statement: its column 'q' is empty" in message


def test_broken_lines_of_a_jsonl_file_are_bad_rows_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{json.dumps(GOOD)}\n\n{{"problem": "Tw\n[1]\n{"[" * 100_000}\n', encoding="utf-8")
    reasons = [(row.index, row.reason) for row in load_problems(path, on_bad_row="skip").report.bad_rows]
    assert [index for index, _ in reasons] == [1, 2, 3]
    assert reasons[0][1].startswith("invalid JSON at line 3, column 13")
    assert reasons[1][1] == "line 4: [1] is not an object"
    assert reasons[2][1].startswith("line 5 is JSON that cannot be read")


@pytest.mark.parametrize(("line", "count"), [("What is 2 + 2?", 1), ("What is 2 + 2?,4,5", 3)])
def test_a_csv_line_of_another_width_is_a_bad_row(tmp_path: Path, line: str, count: int) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"problem,answer\nOne?,1\n{line}\n", encoding="utf-8")
    assert f"row 1: line 3: {count} fields, the header has 2" in refused(path)


def test_an_item_of_a_json_list_that_is_no_object_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([GOOD, "text"]), encoding="utf-8")
    assert "row 1: 'text' is not an object" in refused(path)


def test_the_first_five_bad_rows_are_shown_and_all_are_counted() -> None:
    message = refused([GOOD, *[{"problem": f"{number}?", "answer": ""} for number in range(7)]])
    assert "7 of the 8 rows read are bad" in message
    assert "row 5: no answer" in message
    assert "row 6:" not in message


def test_refusing_gives_up_after_twenty_bad_rows() -> None:
    assert "20 of the 20 rows read are bad" in refused([{"problem": f"{number}?"} for number in range(1000)])


def test_skipping_every_row_is_refused() -> None:
    message = refused([{"problem": "One?"}, {"problem": "Two?"}], on_bad_row="skip")
    assert "none of its 2 rows is a problem: row 0: no answer" in message

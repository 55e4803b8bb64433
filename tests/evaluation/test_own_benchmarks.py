"""A user's own problems as benchmarks: files and rows as they are, and declarations in YAML."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import masa
from masa.config import ConfigError, load_config
from masa.evaluate import main
from masa.evaluation.benchmarks import resolve_benchmarks
from masa.evaluation.benchmarks.loading import DataChoice, load_benchmark
from masa.evaluation.benchmarks.own import benchmarks_of_problems, read_declarations
from masa.preflight import prepare
from masa.problems import Problem, ProblemDataError

SMALL = ["--model", "embedded", "--samples", "2", "--metas", "1", "--max-tokens", "40", "--max-meta-tokens", "40"]
SMALL += ["--resamples", "100", "prompts.solution=embedded", "prompts.meta=embedded"]
ROWS = [{"question": f"{number} + 2", "answer": str(number + 2)} for number in range(3)]


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _statements(name: str, source: Any, **changes: Any) -> list[Problem]:
    own = benchmarks_of_problems(
        {name: source}, split="test", columns=changes.pop("columns", {}), verifier=changes.pop("verifier", None)
    )
    return load_benchmark(own.benchmarks[name], DataChoice(rows=own.rows, **changes))


def test_a_file_of_problems_is_evaluated_as_a_benchmark_and_scored_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _jsonl(tmp_path / "my sums.jsonl", [*ROWS, ROWS[0]])
    out = tmp_path / "out"
    assert main([*SMALL, "--problems", str(path), "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    # A row that repeats a statement counts like any other.
    assert results["benchmarks"]["my_sums"]["problems"] == 4
    assert results["benchmarks"]["my_sums"]["samples"] == 2
    assert results["n-samples"]["my_sums"] == {"original": None, "effective": 4}
    assert "my_sums" in capsys.readouterr().out
    details = [json.loads(line) for line in (out / "details" / "my_sums.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in details] == ["2", "3", "4", "2"]
    assert main(["--rescore", "--out", str(out)]) == 0
    assert json.loads((out / "results.json").read_text())["benchmarks"] == results["benchmarks"]


def test_own_problems_stand_beside_declared_benchmarks_and_are_kept_when_one_is_added(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "sums.jsonl", ROWS)
    out = tmp_path / "out"
    assert main([*SMALL, "--problems", f"first={path}", "--out", str(out)]) == 0
    both = [*SMALL, "--benchmarks", "embedded", "--limit", "2"]
    assert main([*both, "--problems", f"second={path}", "--out", str(tmp_path / "both")]) == 0
    results = json.loads((tmp_path / "both" / "results.json").read_text())
    assert {name: one["problems"] for name, one in results["benchmarks"].items()} == {"embedded": 2, "second": 2}
    assert main([*SMALL, "--problems", f"second={path}", "--out", str(out)]) == 0
    assert list(json.loads((out / "results.json").read_text())["benchmarks"]) == ["first", "second"]


def test_declarations_of_a_file_are_named_listed_and_form_suites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    rows = [{"q": row["question"], "gold": row["answer"]} for row in ROWS]
    _jsonl(tmp_path / "data" / "sums.jsonl", rows)
    _jsonl(tmp_path / "data" / "few.jsonl", ROWS[:1])
    declared = tmp_path / "mine.yaml"
    declared.write_text(
        "benchmarks:\n"
        "  sums:\n"
        "    title: Small sums\n"
        "    source: data/sums.jsonl\n"
        "    columns: {statement: q, answer: gold}\n"
        "    verifier: exact\n"
        "    max_tokens: 30\n"
        "    licence: MIT\n"
        "  few: {source: data/few.jsonl}\n"
        "suites:\n"
        "  mine: [sums, few]\n"
    )
    assert main(["--declarations", str(declared), "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    row = next(line for line in listed if line.startswith("sums "))
    assert row.split() == ["sums", "mine", str(tmp_path / "data" / "sums.jsonl"), "test", "exact", "MIT"]
    assert "mine: sums, few" in listed[-1]

    out = tmp_path / "out"
    assert main([*SMALL, "--declarations", str(declared), "--benchmarks", "mine", "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["benchmarks"]["sums"]["title"] == "Small sums"
    assert results["suites"]["mine"]["benchmarks"] == 2
    samples = [json.loads(line) for line in (out / "samples" / "sums.jsonl").read_text().splitlines()]
    assert max(row["tokens"] for row in samples if row["path"] == "solution") <= 30
    details = [json.loads(line) for line in (out / "details" / "sums.jsonl").read_text().splitlines()]
    assert {row["verifier"] for row in details} == {"exact"}

    declared.write_text(declared.read_text().replace("max_tokens: 30", "max_tokens: 20"))
    assert main([*SMALL, "--declarations", str(declared), "--benchmarks", "sums", "--out", str(out)]) == 2
    assert "benchmark sums, max_tokens: it has 30, found 20" in capsys.readouterr().err


def test_rows_handed_in_from_python_are_a_benchmark(tmp_path: Path) -> None:
    options = {"samples": 1, "metas": 0, "max_tokens": 40, "resamples": 100, "overrides": ["prompts.solution=embedded"]}
    results = masa.evaluate("embedded", problems=ROWS, out=tmp_path / "out", **options)
    assert results["benchmarks"]["problems"]["problems"] == 3
    with pytest.raises(ProblemDataError, match="hand in the same rows again"):
        masa.evaluate(out=tmp_path / "out", rescore=True)
    again = masa.evaluate("embedded", problems=ROWS, out=tmp_path / "out", rescore=True, **options)
    assert again["benchmarks"] == results["benchmarks"]


def test_problems_are_read_like_training_problems(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    chat = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1"}], "answer": 2}
    found = _statements("chat", [chat])
    assert (found[0].statement, found[0].system, found[0].answer) == ("1 + 1", "Be brief.", "2")
    table = pandas.DataFrame(ROWS)
    table.to_parquet(tmp_path / "sums.parquet")
    for source in (table, str(tmp_path / "sums.parquet"), ROWS):
        assert [problem.answer for problem in _statements("sums", source)] == ["2", "3", "4"]
    generated = _statements("held", "embedded:test", limit=3)
    assert [problem.source for problem in generated] == ["held"] * 3
    own = [Problem("a", "1 + 1", "2"), Problem("b", "1 + 3", "4", verifier="exact")]
    assert [problem.verifier for problem in _statements("own", own)] == ["math", "exact"]


def test_options_of_own_multiple_choice_rows_are_shuffled_where_asked() -> None:
    row = {"problem": "Which is even?", "options": ["1", "2", "3", "5", "7", "9"], "answer": "B", "id": "x"}
    in_order = _statements("even", [row])[0]
    assert in_order.answer == "B"
    shuffled = [_statements("even", [row], options="shuffled", options_seed=seed)[0] for seed in range(4)]
    assert len({problem.answer for problem in shuffled}) > 1
    for problem in (in_order, *shuffled):
        assert problem.verifier == "choice"
        assert f"{problem.answer}) 2" in problem.statement
        assert problem.id == "even/x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("benchmarks:\n  mine: {sorce: x.jsonl}\n", "mine.sorce: unknown key; did you mean benchmarks.mine.source"),
        ("benchmarks:\n  mine: {source: x.jsonl, max_tokens: 0}\n", "mine.max_tokens: found 0, allowed: at least 1"),
        ("benchmarks:\n  mine: {source: x.jsonl, verifier: maths}\n", "mine: verifier: verifier 'maths' is not known"),
        ("benchmarks:\n  mine: {source: x.jsonl, columns: {gold: a}}\n", "columns: unknown field 'gold'"),
        ("benchmarks:\n  mine: {source: null}\n", "benchmarks.mine.source: found None"),
        ("benchmarks:\n  math500: {source: x.jsonl}\n", "'math500' is the name of a benchmark of masa's own"),
        ("benchmarks:\n  a/b: {source: x.jsonl}\n", "found the name 'a/b', allowed: letters"),
        ("benchmarks:\n  a: {source: x.jsonl}\nsuites:\n  s: [b]\n", "suites.s: found ['b'], allowed"),
        ("benchmark: 3\n", "benchmark: unknown key; did you mean benchmarks"),
        ("", "the file is empty; keys allowed: benchmarks, suites"),
    ],
)  # fmt: skip
def test_a_mistake_in_declarations_is_named_before_anything_is_loaded(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = tmp_path / "mine.yaml"
    declared.write_text(text)
    arguments = [*SMALL, "--declarations", str(declared), "--benchmarks", "mine", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--problems", "nowhere.jsonl"], "nowhere.jsonl': no such file"),
        (["--problems", "math=nowhere.jsonl"], "'math' is the name of a suite of masa's own; give it another name"),
        (["--problems", "sums.jsonl", "--problems", "sums.jsonl"], "the name 'sums' occurs twice"),
        (["--problems", "sums.jsonl", "problems.columns.statement=query"], "'query', which is not there"),
        (["--problems", "bad.jsonl"], "bad.jsonl': 1 of 1 rows are no problem of bad: row 0: no answer"),
        (["--problems", "sums.jsonl", "problems.verifier=no_module_here:judge"], "no_module_here:judge' cannot"),
        (["--benchmarks", "mine", "--declarations", "none.yaml"], "none.yaml: no such file of declarations"),
    ],
)  # fmt: skip
def test_a_mistake_in_own_problems_is_named_before_anything_is_loaded(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _jsonl(tmp_path / "sums.jsonl", ROWS)
    _jsonl(tmp_path / "bad.jsonl", [{"question": "1 + 1"}])
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, *arguments, "--out", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_own_names_are_allowed_where_benchmarks_are_named(tmp_path: Path) -> None:
    declared = tmp_path / "mine.yaml"
    declared.write_text("benchmarks:\n  sums: {source: embedded:test}\nsuites:\n  both: [sums, aime24]\n")
    own = read_declarations(declared)
    assert [one.name for one in resolve_benchmarks("both", own.benchmarks, own.suites)] == ["sums", "aime24"]
    with pytest.raises(ProblemDataError, match="nearest: 'sums'"):
        resolve_benchmarks("sum", own.benchmarks, own.suites)
    with pytest.raises(ConfigError, match="found none"):
        benchmarks_of_problems([], split="test", columns={}, verifier=None)


def test_a_run_evaluates_declared_benchmarks_beside_its_held_out_problems(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text(
        "".join(
            json.dumps({"question": f"Find the sum: a={n}, b=100.", "answer": str(n + 100)}) + "\n" for n in range(6)
        )
    )
    (tmp_path / "mine.yaml").write_text(
        "benchmarks:\n  sums: {source: sums.jsonl}\nsuites:\n  both: [sums, embedded]\n"
    )
    section = {"declarations": [str(tmp_path / "mine.yaml")], "benchmarks": ["both"], "benchmark_limit": 4}
    short = {"rollout.max_solution_tokens": 64, "rollout.max_meta_tokens": 64}
    config = load_config(None, {"problems.limit": 64, "algorithm.num_problems": 8, **short}).replace(evaluation=section)
    held_out = prepare(config).evaluation
    assert [one.source for one in held_out] == ["sums"] * 4 + ["embedded"] * 4
    assert held_out[0].answer == "100"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"declarations": ["none.yaml"], "benchmarks": ["sums"]}, "none.yaml: no such file of declarations"),
        ({"declarations": ["mine.yaml"]}, "which needs evaluation.benchmarks"),
        (
            {"declarations": ["mine.yaml", "mine.yaml"], "benchmarks": ["sums"]},
            "'sums' is declared in two of the files",
        ),
        ({"declarations": ["mine.yaml"], "benchmarks": ["sum"]}, "nearest: 'sums'"),
    ],
)
def test_a_mistake_in_a_runs_declarations_is_named_before_a_model_is_loaded(
    section: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("benchmarks:\n  sums: {source: embedded:test}\n")
    with pytest.raises((ConfigError, ProblemDataError), match=re.escape(message)):
        prepare(load_config(None, {"problems.limit": 64}).replace(evaluation=section))

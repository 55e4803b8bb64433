"""`masa problems`: what it shows of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masa import cli


@pytest.fixture
def book(tmp_path: Path) -> Path:
    rows = [
        {
            "id": "a",
            "prompt": [{"role": "system", "content": "Count."}, {"role": "user", "content": "1 + 1? [b]"}],
            "answer": "2",
        },
        {"id": "b", "problem": "What is one half?", "solution": "$\\frac12$"},
        {"id": "c", "problem": "1 + 1? [b]", "answer": "3"},
        {"id": "d", "problem": "Nothing."},
        {"id": "e", "problem": "Write f.", "test": ["assert f() == 1"], "solution": "def f():\n    return 2"},
    ]
    path = tmp_path / "book.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_preview_shows_rows_problems_prompts_lengths_and_verified_gold_answers(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["problems", str(book), "rewards.verifier_workers=1"]) == 0
    shown = capsys.readouterr().out
    assert "5 rows read, 3 problems" in shown
    assert "row 3: no answer" in shown
    assert "1 of them have another answer than the first row with their statement, which is kept: rows 2" in shown
    assert "Verifiers: math 2, code 1" in shown
    assert "with a system message: 1" in shown
    assert "1 + 1? [b]\n  answer: '2'" in shown
    assert "The solution prompt of a, before the chat template:\n1 + 1? [b]" in shown
    assert "The meta prompt of a" in shown
    assert "characters, median" in shown
    assert "Gold answers, math: 2 of 2 are judged correct" in shown
    # A program that fails its own tests is found before a run is.
    assert "Gold answers, code: 0 of 1 are judged correct\n  e: " in shown


def test_with_a_model_lengths_are_in_tokens_and_overlong_prompts_are_counted(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["model.path=embedded", "prompts.chat=false", "prompts.max_tokens=60", "--verify", "0", "--show", "1"]
    assert cli.main(["problems", str(book), "problems.limit=2", *options]) == 0
    shown = capsys.readouterr().out
    assert "tokens, median" in shown
    assert "a run leaves out: 2" in shown
    assert "Gold answers" not in shown
    assert "What is one half?" not in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.jsonl"], "none.jsonl': no such file"),
        (["embedded:train", "problems.colums.answer=a"], "problems.colums"),
        (["embedded:train", "problems.limit=2", "prompts.solution={{ nothing }}"], "nothing"),
    ],
)
def test_a_source_or_an_option_that_cannot_be_used_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["problems", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_with_a_configuration_the_preview_says_what_a_run_takes_by_the_numbers_of_the_dry_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["problems.limit=48", "algorithm.num_problems=8", "run.epochs=2", "run.steps=null", "--verify", "0"]
    config = tmp_path / "run.yaml"
    config.write_text("prompts: {solution: embedded, meta: embedded}\nrollout: {max_solution_tokens: 64}\n")
    assert cli.main(["problems", "embedded:train", "--config", str(config), *options]) == 0
    shown = capsys.readouterr().out
    assert "A run of this configuration on these problems: 12 steps of 8 problems" in shown
    assert cli.main(["train", "--dry-run", "--config", str(config), f"run.dir={tmp_path / 'run'}", *options[:-2]]) == 0
    planned = " ".join(capsys.readouterr().out.split())
    tokens = next(line for line in shown.splitlines() if "tokens of all steps at most" in line)
    assert tokens.split(": ")[1] in planned
    options[1] = "algorithm.num_problems=64"
    assert cli.main(["problems", "embedded:train", "--config", str(config), *options]) == 0
    assert "takes 64 problems (algorithm.num_problems), and 48 are here" in capsys.readouterr().out

"""The notebooks of `examples/` run from the first cell to the last, and what they store is short."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

import masa

PROJECT = Path(__file__).parents[2]
NOTEBOOKS = sorted((PROJECT / "examples").glob("*.ipynb"))
# Shorter than what they show, so that a push does not wait for them.
TINY = {
    "algorithm.num_problems": 3,
    "algorithm.num_solutions": 2,
    "algorithm.num_metas": 2,
    "evaluation.num_samples": 1,
    "evaluation.num_metas": 1,
    "problems.limit": 32,
    "problems.eval_limit": 3,
    "rollout.max_solution_tokens": 40,
    "rollout.max_meta_tokens": 56,
    "rewards.verifier_workers": 1,
    "tracking.figures": False,
}


def _cells(notebook: Path) -> list[dict[str, Any]]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _run_cell(source: str, names: dict[str, Any]) -> Any:
    """What the last expression of a cell comes to, as a notebook would show it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_the_three_notebooks_that_the_pages_name_are_there() -> None:
    assert [one.stem for one in NOTEBOOKS] == ["first_run", "own_parts", "reading_a_run"]
    pages = (PROJECT / "README.md").read_text() + (PROJECT / "docs" / "python.md").read_text()
    assert all(f"examples/{one.name}" in pages for one in NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_as_it_stands(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    monkeypatch.chdir(tmp_path / "examples")
    load = masa.load_config
    monkeypatch.setattr(masa, "load_config", lambda path, overrides: load(path, {**overrides, **TINY}), raising=False)
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = [_run_cell(_source(cell), names) for cell in _cells(notebook) if cell["cell_type"] == "code"]
    assert any(one is not None for one in shown)
    assert all(len(one) for one in shown if hasattr(one, "__len__"))
    assert list((tmp_path / "runs").glob("*/metrics.jsonl"))
    for one in names.values():
        if isinstance(one, masa.MASATrainer):
            one.close()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_stores_is_short_and_names_no_place_on_a_machine(notebook: Path) -> None:
    assert notebook.stat().st_size < 40_000
    code = [cell for cell in _cells(notebook) if cell["cell_type"] == "code"]
    for output in (output for cell in code for output in cell["outputs"]):
        assert output["output_type"] in ("execute_result", "stream")
        text = output.get("text") or output["data"]["text/plain"]
        assert len(text) <= 25
        assert not re.search(r"/(home|work|root|tmp|Users)/", "".join(text))

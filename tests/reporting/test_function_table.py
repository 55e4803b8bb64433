"""Reward functions in the report."""

from __future__ import annotations

from pathlib import Path

from synthetic_runs import make_run

from masa import load_config
from masa.config import dump_config
from masa.report import main
from masa.reporting.function_table import functions_table
from masa.reporting.groups import group_runs
from masa.reporting.runs import read_run_directory
from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory


def _run(folder: Path) -> Path:
    directory = RunDirectory(folder)
    sources = [{"path": "rewards:polite", "weight": 0.25}]
    config = load_config(None, {"rewards.functions": sources, "run.dir": folder})
    directory.create(dump_config(config), resume=False)
    for step in range(1, 21):
        polite = {"reward/function_polite": step / 20, "reward/function_polite_std": 0.5}
        given = {"reward/function_given": None, "reward/function_given_std": None}
        errors = {"reward/function_polite_errors": step % 2, "reward/function_given_errors": 4}
        jsonl.append_rows(directory.metrics, [{"step": step, **polite, **given, **errors}])
    return folder


def test_each_function_has_its_means_deviation_errors_and_weight(tmp_path: Path) -> None:
    table = functions_table(group_runs([read_run_directory(_run(tmp_path / "run"))]))
    given, polite = sorted(list(row.cells) for row in table.rows)
    assert polite == ["polite", "0.25", "0.075", "0.975", "0.500", "10"]
    assert given == ["given", "–", "not measured", "not measured", "not measured", "80"]


def test_the_table_stands_on_the_page_of_runs_with_functions_alone(tmp_path: Path) -> None:
    without = make_run(tmp_path / "masa", "MASA", 0)
    for runs, there in (([_run(tmp_path / "run"), without], True), ([without], False)):
        page = tmp_path / "report.html"
        assert main([*map(str, runs), "--out", str(page)]) == 0
        assert ('id="functions"' in page.read_text()) == there

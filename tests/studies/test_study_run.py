"""A study through its command: runs, records, tables, and going on after it was stopped."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from study_files import PROJECT, write_study

from masa.studies.plan import planned_runs, read_study
from masa.studies.record import RecordError, make_record, read_record, write_record
from masa.studies.report import write_study_report
from masa.studies.runner import run_all
from masa.study import main
from masa.tracking.jsonl import read_rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of two arms and one seed, run to its end with two processes."""
    folder = tmp_path_factory.mktemp("study")
    path = write_study(folder)
    where = ["--runs", str(folder / "runs"), "--records", str(folder / "records")]
    assert main([str(path), "--processes", "2", *where]) == 0
    return folder, path, where


def test_each_run_leaves_a_small_record_of_its_course(finished):
    folder, _path, _ = finished
    assert sorted(p.name for p in (folder / "records").glob("*.json")) == ["grpo-seed0.json", "masa-seed0.json"]
    one = read_record(folder / "records" / "masa-seed0.json")
    rows = read_rows(folder / "runs" / "masa-seed0" / "metrics.jsonl")
    assert one.steps == [0, 1, 2]
    assert one.accuracy == [row["eval/accuracy"] for row in rows]
    assert one.spent["tokens"] == [
        math.fsum(r.get("cost/tokens_generated") or 0 for r in rows[: n + 1]) for n in range(3)
    ]
    assert one.totals["cost/meta_tokens"] > 0
    assert one.options["algorithm.num_metas"] == 2
    assert "meta" not in json.dumps(
        read_record(folder / "records" / "grpo-seed0.json").options.get("algorithm.meta", "")
    )
    assert one.course["rollout/solved_all"] == [row["rollout/solved_all"] for row in rows[1:]]
    assert (folder / "records" / "masa-seed0.json").stat().st_size < 20_000
    assert str(folder) not in (folder / "records" / "masa-seed0.json").read_text()


def test_tables_and_figure_come_from_the_records_alone(finished, tmp_path):
    folder, path, _ = finished
    records = tmp_path / "records"
    records.mkdir()
    for one in (folder / "records").glob("*.json"):
        (records / one.name).write_bytes(one.read_bytes())
    assert main([str(path), "--report", "--records", str(records), "--runs", str(tmp_path / "none")]) == 0
    text = (records / "results.md").read_text()
    assert text == (folder / "records" / "results.md").read_text()
    found = [json.loads(path.read_text())["environment"]["git"] for path in records.glob("*.json")]
    commits = {git["commit"][:8] if git else "unknown" for git in found}
    assert f"Commits: {', '.join(sorted(commits))}" in text
    assert "2 of 2 runs" in text
    assert "| MASA | 1 |" in text
    assert (records / "accuracy.png").stat().st_size > 5_000


def test_a_finished_study_starts_no_run_again(finished, capsys, monkeypatch):
    folder, path, where = finished
    before = {p: p.read_bytes() for p in (folder / "records").glob("*.json")}
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a run was started"))
    assert main([str(path), *where]) == 0
    assert "2 of 2 runs are done" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in (folder / "records").glob("*.json")} == before


def test_a_run_that_another_study_has_made_with_the_same_options_is_not_trained_again(finished, tmp_path, monkeypatch):
    """Only the arms' names differ; one of the two has another option, and would have to be trained."""
    folder, _, _ = finished
    arms = "  baseline:\n  other:\n    set: {algorithm.meta: true, algorithm.num_metas: 3}\n"
    path = write_study(tmp_path, arms=arms)
    path.write_text(path.read_text().replace("baseline: grpo", "baseline: baseline"))
    (tmp_path / "records").mkdir()
    shutil.copytree(folder / "records", tmp_path / "records" / "first")
    trained = []
    monkeypatch.setattr("masa.studies.runner._start", lambda run: trained.append(run.name) or FinishedProcess())
    monkeypatch.setattr("masa.studies.runner._finish", lambda run, code, records: None)
    records = tmp_path / "records" / "second"
    run_all(planned_runs(path, tmp_path / "runs"), records, processes=1, report=lambda line: None)
    assert trained == ["other-seed0"]
    copied, original = (
        read_record(records / "baseline-seed0.json"),
        read_record(folder / "records" / "grpo-seed0.json"),
    )
    assert (copied.study, copied.arm) == ("tiny", "baseline")
    assert replace(copied, study=original.study, arm=original.arm) == original


class FinishedProcess:
    """A process that has ended well."""

    returncode = 0

    def poll(self):
        return 0


def test_a_record_of_other_options_is_refused_with_what_changed(finished, capsys):
    folder, path, where = finished
    path = write_study(folder, steps=3)
    assert main([str(path), *where]) == 2
    error = capsys.readouterr().err
    assert "grpo-seed0.json is of a run with other options: run.steps (was 2, now 3); delete it" in error
    write_study(folder)


def test_a_study_without_its_baselines_records_has_nothing_to_compare(finished, tmp_path):
    folder, path, _ = finished
    (tmp_path / "masa-seed0.json").write_bytes((folder / "records" / "masa-seed0.json").read_bytes())
    with pytest.raises(RecordError, match="no record of the baseline 'grpo'"):
        write_study_report("tiny", read_study(path), tmp_path)
    (tmp_path / "grpo-seed0.json").write_text('{"arm": "grpo"')
    with pytest.raises(RecordError, match=r"grpo-seed0\.json is no record of a run"):
        write_study_report("tiny", read_study(path), tmp_path)


def test_arms_that_are_run_before_the_baseline_wait_for_it_with_their_tables(finished, tmp_path, capsys):
    folder, path, _ = finished
    records = tmp_path / "records"
    records.mkdir()
    shutil.copy(folder / "records" / "masa-seed0.json", records)
    asked = [str(path), "--arms", "masa", "--records", str(records), "--runs", str(tmp_path / "runs")]
    assert main(asked) == 0
    assert "No tables yet: no run of the baseline 'grpo' has ended" in capsys.readouterr().out
    assert not (records / "results.md").exists()
    assert main([*asked, "--report"]) == 2
    shutil.copy(folder / "records" / "grpo-seed0.json", records)
    assert main(asked) == 0
    assert (records / "results.md").exists()


def test_a_kill_while_a_record_is_written_leaves_the_old_one(finished, monkeypatch):
    folder, _path, _ = finished
    file = folder / "records" / "grpo-seed0.json"
    before = file.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_record(replace(read_record(file), accuracy=[0.0]), file)
    assert file.read_bytes() == before
    file.with_suffix(".json.part").unlink()


def test_a_run_that_fails_ends_the_study_with_its_last_lines(tmp_path, capsys):
    path = write_study(tmp_path, arms="  grpo:\n", model__path="no/such-model-here-at-all", problems__eval_limit=1)
    assert main([str(path), "--runs", str(tmp_path / "runs"), "--records", str(tmp_path / "records")]) == 1
    error = capsys.readouterr().err
    assert "grpo-seed0 ended with exit code" in error
    assert "no/such-model-here-at-all" in error
    assert not (tmp_path / "records").exists()


@pytest.mark.slow
def test_a_study_stopped_in_mid_run_ends_its_runs_and_goes_on_to_the_same_records(finished, tmp_path):
    """SIGTERM after the first step; the next call resumes, and all but times is as if nothing had happened."""
    folder, path, _ = finished
    where = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path / "records"), "--processes", "2"]
    command = [sys.executable, "-m", "masa.study", str(path), *where]
    study = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    metrics = [tmp_path / "runs" / f"{arm}-seed0" / "metrics.jsonl" for arm in ("grpo", "masa")]
    deadline = time.monotonic() + 120
    while not any(len(read_rows(one)) >= 2 for one in metrics) and time.monotonic() < deadline:
        time.sleep(0.05)
    study.send_signal(signal.SIGTERM)
    out, _ = study.communicate(timeout=120)
    assert study.returncode == 130, out.decode()
    assert "the same command resumes it" in out.decode()
    assert not (tmp_path / "records" / "masa-seed0.json").exists()

    assert main([str(path), *where]) == 0
    for name in ("grpo-seed0.json", "masa-seed0.json"):
        resumed, whole = read_record(tmp_path / "records" / name), read_record(folder / "records" / name)
        assert resumed.accuracy == whole.accuracy
        assert resumed.course == whole.course
        for cost in ("tokens", "trained_tokens", "flops"):
            assert resumed.spent[cost] == whole.spent[cost]


def test_a_record_made_again_from_its_run_directory_is_the_same(finished):
    folder, path, _ = finished
    run = planned_runs(path, folder / "runs")[0]
    assert make_record(run, folder / "runs" / run.name) == read_record(folder / "records" / f"{run.name}.json")

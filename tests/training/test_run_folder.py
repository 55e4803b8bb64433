"""Placeholders of `run.dir`: a new run gets a new folder, and a resumed one the newest."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml
from held_folders import held_by_another
from small_run import QUICKSTART, SMALL

from masa import Config, MASATrainer, load_config, train
from masa.config import ConfigError
from masa.tracking.run_directory import RunDirectory, RunFolderError
from masa.tracking.run_folder import directory_to_resume, fresh_directory, planned_folder
from masa.train import main as train_command


def _config(folder: str, **changes: object) -> Config:
    return load_config(None, {"run.dir": folder, **changes})


def _with_run(directory: RunDirectory) -> Path:
    directory.create("run: {}\n", resume=False)
    return directory.path


def test_each_new_run_gets_the_next_number(tmp_path: Path) -> None:
    config = _config(f"{tmp_path}/{{name}}-{{number}}")
    assert planned_folder(config) == tmp_path / "masa-1"
    first = _with_run(fresh_directory(config))
    assert first == tmp_path / "masa-1"
    # Another start in the same second takes the next one, although no run lies in this one yet.
    assert fresh_directory(config).path == tmp_path / "masa-2"
    assert fresh_directory(config).path == tmp_path / "masa-3"
    assert directory_to_resume(config).path == first
    (tmp_path / "masa-10").mkdir()
    assert planned_folder(config) == tmp_path / "masa-11"


def test_a_run_that_another_process_is_writing_is_neither_resumed_nor_touched(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    options = ["--config", str(QUICKSTART), f"run.dir={folder}", *SMALL]
    assert train_command([*options, "run.steps=1"]) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with held_by_another(folder) as other:
        capsys.readouterr()
        assert train_command([*options, "run.steps=2", "--resume"]) == 2
        assert f"{folder} is in use by process {other.pid} on " in capsys.readouterr().err
        other.communicate("\n")  # its lock goes with it
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert train_command([*options, "run.steps=2", "--resume"]) == 0


def test_names_and_dates_are_filled_in(tmp_path: Path) -> None:
    today = date.today().isoformat()
    config = _config(f"{tmp_path}/{{date}}/{{name}}", **{"run.name": "plain GRPO/8", "algorithm.meta": False})
    assert planned_folder(config) == tmp_path / today / "plain-GRPO-8"
    unnamed = _config(f"{tmp_path}/{{name}}", **{"algorithm.meta": False, "algorithm.name": "dapo"})
    assert planned_folder(unnamed) == tmp_path / "dapo"


def test_the_newest_run_is_resumed_by_date_and_then_by_number(tmp_path: Path) -> None:
    config = _config(f"{tmp_path}/{{date}}-{{number}}")
    for name in ("2026-01-02-9", "2026-03-04-2", "2026-03-04-10", "2026-03-04-x", "2025-12-31-11"):
        _with_run(RunDirectory(tmp_path / name))
    (tmp_path / "2026-03-04-12").mkdir()  # no run
    assert directory_to_resume(config).path.name == "2026-03-04-10"


def test_a_folder_without_placeholders_is_taken_as_it_is(tmp_path: Path) -> None:
    assert fresh_directory(_config(f"{tmp_path}/a[1]")).path == tmp_path / "a[1]"
    assert not (tmp_path / "a[1]").exists()


def test_a_placeholder_that_stands_twice_is_the_same_both_times(tmp_path: Path) -> None:
    config = _config(f"{tmp_path}/{{number}}/run-{{number}}")
    (tmp_path / "1" / "run-2").mkdir(parents=True)
    assert fresh_directory(config).path == tmp_path / "1" / "run-1"


def test_an_unknown_placeholder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"run.dir: found \{seed\} in 'runs/\{seed\}', allowed: \{name\}, \{date\}"):
        _config("runs/{seed}")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="which cannot be made"):
        fresh_directory(_config(f"{tmp_path}/file/{{number}}"))


def test_the_default_makes_a_fresh_folder_each_time_and_resumes_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["problems.eval=null", "rollout.check_at_start=false", "tracking.figures=false", "rollout.max_meta_tokens=32"]
    fixed = load_config(QUICKSTART, [*SMALL, *few, "run.steps=1", "rollout.max_solution_tokens=32"])
    values = fixed.model_dump()
    del values["run"]["dir"]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    assert train.main(["--config", str(config)]) == 0
    trainer = MASATrainer(str(config))
    trainer.train()
    assert trainer.directory == Path("runs/masa-2")
    assert load_config("runs/masa-2/config.yaml").run.dir == "runs/masa-2"
    capsys.readouterr()
    assert train.main(["--config", str(config), "run.steps=2", "--resume"]) == 0
    assert f"Resumed from the checkpoint of step 1 in {Path('runs/masa-2/checkpoints')}" in capsys.readouterr().out
    assert [row["step"] for row in RunDirectory("runs/masa-2").read_metrics()] == [0, 1, 2]
    assert [row["step"] for row in RunDirectory("runs/masa-1").read_metrics()] == [0, 1]
    # A start that fails takes its folder back.
    assert train.main(["--config", str(config), "model.lora.rank=2", "model.lora.targets=[nope]"]) == 2
    assert sorted(path.name for path in Path("runs").iterdir()) == ["masa-1", "masa-2"]

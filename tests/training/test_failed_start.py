"""Runs that fail after their model is loaded and before their first step."""

from pathlib import Path

import pytest
from small_run import QUICKSTART

from masa import train


def _start(tmp_path: Path, *options: str) -> int:
    return train.main(["--config", str(QUICKSTART), f"run.dir={tmp_path / 'run'}", *options])


def test_a_run_that_could_not_start_leaves_its_folder_free(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert _start(tmp_path, "model.lora.rank=2", "model.lora.targets=[nope]") == 2
        assert capsys.readouterr().err.startswith("masa: model.lora.targets: found ['nope']")
    assert not (tmp_path / "run").exists()


def test_servers_that_cannot_be_reached_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["rollout.engine=vllm_server", "rollout.servers=[http://127.0.0.1:9]", "rollout.server_wait=0.5"]
    assert _start(tmp_path, *options) == 1
    assert capsys.readouterr().err.startswith("masa: server http://127.0.0.1:9 was not up in 0.5 seconds")


def test_a_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert _start(tmp_path, "model.lora.rank=2", "model.lora.targets=[nope]") == 2
    assert list((tmp_path / "run").iterdir()) == []

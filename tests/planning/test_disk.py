"""What a dry run says of checkpoints on the disk."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from masa import train
from masa.planning.disk import free_bytes

_RECIPE = ["--config", "configs/qwen3_8b.yaml", "--dry-run", "--gpu", "h100"]


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def _run(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> str:
    launch = ("--launch", "configs/accelerate/node_zero3.yaml", f"run.dir={tmp_path / 'run'}", *arguments)
    code = train.main([*_RECIPE, *launch])
    said = capsys.readouterr()
    assert code == 0, said.err
    return " ".join(said.out.split())


@pytest.mark.parametrize("fits", [True, False])
def test_checkpoints_that_do_not_fit_are_named_before_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    # 4 of 14 bytes a parameter: the newest two, the best, and the one being written.
    needed = 4 * 14 * 8_190_735_360
    asked: list[Path] = []

    def usage(path: Path) -> _Usage:
        asked.append(Path(path))
        return _Usage(2 * needed, needed, needed if fits else needed - 1)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    options = ("checkpoint.keep=2", "checkpoint.best_metric=eval/accuracy", "run.steps=200", "checkpoint.every=50")
    said = _run(capsys, tmp_path, *options)
    assert asked == [tmp_path]  # run.dir is not there yet
    assert "114.67, 14.0 bytes a parameter" in said
    assert "4 of them, 458.68 GB" in said
    assert ("they do not fit; lower checkpoint.keep (found 2)" in said) is not fits


def test_a_run_that_writes_one_checkpoint_needs_room_for_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "1 of them, 114.67 GB" in _run(capsys, tmp_path, "checkpoint.every=0", "run.steps=200")


def test_room_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.05)

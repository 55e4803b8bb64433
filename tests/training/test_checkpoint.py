"""Checkpoints: whole or absent, the newest kept."""

from pathlib import Path

import pytest

from masa.checkpoint import checkpoint_path, list_checkpoints, read_state, remove_leftovers, save_checkpoint


def _write(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"weights")


def test_the_newest_checkpoints_are_kept_and_older_ones_go(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save_checkpoint(tmp_path, step, {"position": step}, _write, keep=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [3, 10]
    assert read_state(checkpoint_path(tmp_path, 10)) == {"position": 10, "step": 10}


def test_a_failure_while_writing_leaves_the_earlier_checkpoint_and_no_trace(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {}, _write, keep=1)

    def full_disk(folder: Path) -> None:
        _write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, 2, {}, full_disk, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]


def test_a_half_written_checkpoint_is_neither_listed_nor_kept(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {}, _write, keep=1)
    half = tmp_path / ".writing_step_000002"
    half.mkdir()
    _write(half)
    (tmp_path / "step_000003").mkdir()  # a folder of that name without a state is none
    assert [step for step, _ in list_checkpoints(tmp_path)] == [1]
    remove_leftovers(tmp_path)
    assert not half.exists()


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"try": 1}, _write, keep=2)
    save_checkpoint(tmp_path, 1, {"try": 2}, _write, keep=2)
    assert read_state(checkpoint_path(tmp_path, 1))["try"] == 2

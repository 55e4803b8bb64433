"""Checkpoints: whole or absent, the newest and the best kept, broken ones recognised."""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from lone_checkpoints import find_damage, save_checkpoint
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from masa.checkpointing.checkpoint import (
    CheckpointError,
    Found,
    Retention,
    best_checkpoint,
    checkpoint_path,
    list_checkpoints,
    newest_whole_checkpoint,
    put_later_aside,
    read_state,
    require_resumable,
    resumable_checkpoints,
)
from masa.checkpointing.size import Contents


def _write(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "part.bin").write_bytes(b"adapter")


def _save(
    folder: Path,
    step: int,
    *,
    keep: int = 2,
    score: float | None = None,
    contents: Contents = "all",
    **state: int,
) -> None:
    save_checkpoint(folder, step, state, _write, retention=Retention(keep), score=score, contents=contents)


def _newest(folder: Path) -> Found:
    return newest_whole_checkpoint(folder, resumable_checkpoints(folder), find_damage)


def _steps(folder: Path) -> list[int]:
    return [step for step, _ in list_checkpoints(folder)]


def test_the_newest_checkpoints_are_kept_and_older_ones_go(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        _save(tmp_path, step, position=step)
    assert _steps(tmp_path) == [3, 10]
    state = read_state(checkpoint_path(tmp_path, 10))
    assert (state["position"], state["step"]) == (10, 10)


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path: Path) -> None:
    for step, score in ((1, 0.5), (2, 0.7), (3, 0.6), (4, None), (5, 0.7)):
        _save(tmp_path, step, keep=1, score=score)
    assert _steps(tmp_path) == [2, 5]  # of equal scores the earlier one is the best
    best = best_checkpoint(tmp_path)
    assert best is not None
    assert best[0] == 2


def test_the_best_can_be_the_lowest(tmp_path: Path) -> None:
    for step, score in ((1, 3.0), (2, 1.0), (3, 2.0)):
        save_checkpoint(tmp_path, step, {}, _write, retention=Retention(1, "lowest"), score=score)
    assert _steps(tmp_path) == [2, 3]


def test_a_full_disk_leaves_the_earlier_checkpoint_and_says_so(tmp_path: Path) -> None:
    _save(tmp_path, 1, keep=1)

    def full_disk(folder: Path) -> None:
        _write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"after step 2 .*No space left.*step_000001.*--resume"):
        save_checkpoint(tmp_path, 2, {}, full_disk, retention=Retention(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]
    assert find_damage(checkpoint_path(tmp_path, 1)) is None


def test_tensors_that_the_disk_has_no_room_for_leave_the_earlier_checkpoint_and_say_so(tmp_path: Path) -> None:
    _save(tmp_path, 1, keep=1)

    def write_tensors(folder: Path) -> None:
        save_file({"weight": torch.zeros(10**6)}, folder / "model.safetensors")

    with (
        _largest_file(100_000),
        pytest.raises(CheckpointError, match=r"after step 2 .*File too large.*step_000001.*--resume"),
    ):
        save_checkpoint(tmp_path, 2, {}, write_tensors, retention=Retention(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]
    assert find_damage(checkpoint_path(tmp_path, 1)) is None


def test_other_errors_of_tensor_files_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")

    def write(folder: Path) -> None:
        load_file(tmp_path / "broken.safetensors")

    with pytest.raises(SafetensorError):
        save_checkpoint(tmp_path, 1, {}, write, retention=Retention(1))


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: what a write then meets is what it meets on a full disk."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


def test_an_error_while_writing_leaves_no_trace(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        _write(folder)
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        save_checkpoint(tmp_path, 2, {}, fails, retention=Retention(1))
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_checkpoint_is_neither_listed_nor_kept(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    half = tmp_path / ".writing_step_000002"
    half.mkdir()
    (tmp_path / "step_000003").mkdir()  # a folder of that name without a state is none
    assert _steps(tmp_path) == [1]
    assert _newest(tmp_path).newest == (1, checkpoint_path(tmp_path, 1))
    assert not half.exists()


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    _save(tmp_path, 1, attempt=1)
    _save(tmp_path, 1, attempt=2)
    assert read_state(checkpoint_path(tmp_path, 1))["attempt"] == 2


def _truncate(path: Path) -> None:
    (path / "model.bin").write_bytes(b"wei")


def _change_a_bit(path: Path) -> None:
    (path / "adapter" / "part.bin").write_bytes(b"adaptes")


def _lose(path: Path) -> None:
    (path / "model.bin").unlink()


def _tear_state(path: Path) -> None:
    (path / "state.json").write_text('{"step": 2, "fil')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "model.bin has 3 bytes, 7 were written"),
        (_change_a_bit, "adapter/part.bin has changed"),
        (_lose, "model.bin is missing"),
        (_tear_state, "state.json cannot be read"),
    ],
)
def test_a_broken_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    damage(checkpoint_path(tmp_path, 2))
    found = _newest(tmp_path)
    assert found.newest == (1, checkpoint_path(tmp_path, 1))
    assert len(found.warnings) == 1
    assert "step_000002" in found.warnings[0]
    assert message in found.warnings[0]
    put_later_aside(tmp_path, 1)
    assert _steps(tmp_path) == [1]
    assert (tmp_path / "broken_step_000002").is_dir()


def test_a_broken_checkpoint_put_aside_does_not_count_as_kept(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 9)
    _truncate(checkpoint_path(tmp_path, 9))
    put_later_aside(tmp_path, 1)
    _save(tmp_path, 3, keep=1)
    assert _steps(tmp_path) == [3]


def test_where_every_checkpoint_is_broken_nothing_is_resumed(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    _truncate(checkpoint_path(tmp_path, 1))
    with pytest.raises(CheckpointError, match=r"no whole checkpoint.*step_000001.*model.bin"):
        _newest(tmp_path)


def test_without_checkpoints_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert _newest(tmp_path).newest is None


def test_checkpoints_that_hold_the_model_alone_are_passed_over_and_put_aside(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    _save(tmp_path, 3, contents="model", score=0.5)
    found = _newest(tmp_path)
    assert found.newest == (2, checkpoint_path(tmp_path, 2))
    assert (found.warnings, found.models) == ([], ["step_000003"])
    put_later_aside(tmp_path, 2)
    assert _steps(tmp_path) == [2]
    assert (tmp_path / "model_only_step_000003" / "model.bin").is_file()


def test_a_broken_checkpoint_behind_models_alone_falls_back_further(tmp_path: Path) -> None:
    _save(tmp_path, 1, keep=3)
    _save(tmp_path, 2, keep=3)
    _save(tmp_path, 3, keep=3, contents="model")
    _truncate(checkpoint_path(tmp_path, 2))
    found = _newest(tmp_path)
    assert found.newest == (1, checkpoint_path(tmp_path, 1))
    assert len(found.warnings) == 1
    put_later_aside(tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == {
        "step_000001",
        "broken_step_000002",
        "model_only_step_000003",
    }


def test_where_all_hold_the_model_alone_nothing_is_resumed(tmp_path: Path) -> None:
    require_resumable(tmp_path)
    for step in (1, 2):
        _save(tmp_path, step, contents="model")
    for ask in (require_resumable, _newest):
        with pytest.raises(CheckpointError, match=r"step_000002, step_000001 hold the model alone.*model\.path="):
            ask(tmp_path)


def test_the_newest_checkpoint_to_go_on_from_stays_where_later_ones_hold_the_model_alone(tmp_path: Path) -> None:
    _save(tmp_path, 1, keep=1)
    _save(tmp_path, 2, keep=1)
    for step, score in ((3, 0.7), (4, 0.5), (5, 0.6)):
        _save(tmp_path, step, keep=1, score=score, contents="model")
    assert _steps(tmp_path) == [2, 3, 5]  # the one to go on from, the best, the newest
    _save(tmp_path, 6, keep=1)
    assert _steps(tmp_path) == [3, 6]


def test_a_checkpoint_of_an_earlier_version_counts_as_one_to_go_on_from(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    file = checkpoint_path(tmp_path, 1) / "state.json"
    state = json.loads(file.read_text())
    del state["contents"]
    file.write_text(json.dumps(state))
    assert _newest(tmp_path).newest == (1, checkpoint_path(tmp_path, 1))

"""A checkpoint that several processes write: whole, or refused on all of them alike. Threads stand for processes."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lone_checkpoints import find_damage, save_checkpoint

from masa.checkpointing.checkpoint import CheckpointError, Retention, checkpoint_path, read_records
from masa.checkpointing.writing import CheckpointWriting
from masa.distributed.together import Together
from masa.files.checked_files import CheckedWriter, FileRecord


class Processes:
    """Two threads that gather values from one another."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=20)
        self._values: list[list[Any]] = [[], []]

    def together(self, process: int) -> Together:
        def gather(values: list[Any]) -> list[Any]:
            self._values[process] = values
            self._barrier.wait()
            found = [*self._values[0], *self._values[1]]
            self._barrier.wait()
            return found

        return Together(process, 2, gather)


def _on_each(run: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=run, args=(process,)) for process in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _own_part(process: int) -> Callable[[Path], dict[str, FileRecord]]:
    def write(folder: Path) -> dict[str, FileRecord]:
        with CheckedWriter(folder / f"part-{process}") as writer:
            writer.write(b"x" * (1000 + process))
        return {f"part-{process}": writer.record()}

    return write


def _save_together(folder: Path, *writes: Any, background: bool = False) -> list[BaseException | Path]:
    """What each of two processes comes back with."""
    processes, outcomes = Processes(), list[Any]([None, None])

    def run(process: int) -> None:
        try:
            writing = CheckpointWriting(folder, 2, {}, retention=Retention(1), together=processes.together(process))
            writing.begin()
            if background:
                thread = threading.Thread(target=writing.write, args=(writes[process],))
                thread.start()
                thread.join()
            else:
                writing.write(writes[process])
            outcomes[process] = writing.finish()
        except Exception as error:
            outcomes[process] = error

    _on_each(run)
    return outcomes


def test_each_process_writes_its_own_files_and_the_checkpoint_holds_all(tmp_path: Path) -> None:
    target = checkpoint_path(tmp_path, 2)
    assert _save_together(tmp_path, _own_part(0), _own_part(1)) == [target, target]
    assert read_records(target).keys() == {"part-0", "part-1"}
    assert find_damage(target) is None


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("full", [0, 1])
def test_a_disk_that_is_full_for_one_process_ends_all_with_one_message(
    tmp_path: Path, full: int, background: bool
) -> None:
    save_checkpoint(tmp_path, 1, {}, lambda folder: None, retention=Retention(1))

    def full_disk(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    writes: list[Any] = [_own_part(0), _own_part(1)]
    writes[full] = full_disk
    first, second = _save_together(tmp_path, *writes, background=background)
    assert isinstance(first, CheckpointError)
    assert isinstance(second, CheckpointError)
    assert str(first) == str(second)
    assert f"No space left on device (process {full}); earlier checkpoints are untouched (step_000001)" in str(first)
    assert (first.first, second.first) == (True, False)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]
    assert find_damage(checkpoint_path(tmp_path, 1)) is None


def test_a_folder_that_not_all_machines_share_is_refused_by_name(tmp_path: Path) -> None:
    class OwnDisk(CheckpointWriting):
        """The second process's folder is another one."""

        def write(self, write: Any) -> None:
            if not self._together.first:
                self._aside = tmp_path / "elsewhere"
            super().write(write)

    processes, outcomes = Processes(), list[Any]([None, None])

    def run(process: int) -> None:
        writing = OwnDisk(tmp_path, 1, {}, retention=Retention(1), together=processes.together(process))
        writing.begin()
        writing.write(_own_part(process))
        try:
            writing.finish()
        except CheckpointError as error:
            outcomes[process] = error

    _on_each(run)
    assert all("run.dir must be on a file system that all machines share" in str(one) for one in outcomes)

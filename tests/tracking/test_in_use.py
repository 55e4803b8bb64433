"""The lock of a run directory: one writer at a time, and none that outlives its holder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from held_folders import held_by_another

from masa.tracking.in_use import LOCK, RunInUseError, in_use


@pytest.fixture
def holder(tmp_path: Path):
    with held_by_another(tmp_path) as process:
        yield process


def test_a_second_process_is_refused_and_told_which_one_is_at_work(holder, tmp_path: Path) -> None:
    with (
        pytest.raises(RunInUseError, match=rf"is in use by process {holder.pid} on \S+; wait for it to end"),
        in_use(tmp_path),
    ):
        pytest.fail("two processes hold the lock")
    holder.communicate("\n")
    with in_use(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / LOCK).exists()


def test_a_holder_that_is_killed_leaves_no_lock(holder, tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with in_use(tmp_path):
        pass


def test_a_file_system_without_locks_is_written_to_without_one(tmp_path: Path, monkeypatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("masa.tracking.in_use.fcntl.lockf", refuse)
    with in_use(tmp_path):
        assert os.listdir(tmp_path) in ([], [LOCK])

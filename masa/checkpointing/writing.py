"""Writing a checkpoint: aside, by all processes at once, renamed into place once it is on the disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from masa.checkpointing.checkpoint import (
    CONTENTS,
    FILES,
    SCORE,
    STATE,
    CheckpointError,
    Retention,
    checkpoint_path,
    drop_old,
    list_checkpoints,
)
from masa.checkpointing.size import Contents
from masa.distributed.together import ALONE, Together
from masa.files.checked_files import FileRecord, checksum_of
from masa.files.disk import is_disk_full

Write = Callable[[Path], Mapping[str, FileRecord] | None]
"""Writes a process's files into a folder; the answer has those whose checksums were taken meanwhile."""


class CheckpointWriting:
    """A checkpoint on its way to the disk, in three parts: `begin` and `finish` on all processes together, and between
    them `write`, which waits for nobody and may be called on a thread of its own.

    Args:
        folder: where checkpoints lie; all processes must see the same folder.
        step: the step after which it is taken.
        state: JSON values, those of the first process; written last, with size and checksums of every other file.
        retention: which checkpoints stay once this one is whole.
        score: tells which checkpoint is the best.
        contents: a run cannot go on from ``model``.
        together: the processes.
        complete: called on the first process once all files are there.
    """

    def __init__(
        self,
        folder: Path,
        step: int,
        state: Mapping[str, Any],
        *,
        retention: Retention,
        score: float | None = None,
        contents: Contents = "all",
        together: Together = ALONE,
        complete: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self.step = step
        self._folder = folder
        self._state = {**state, "step": step, SCORE: score, CONTENTS: contents}
        self._retention = retention
        self._together = together
        self._complete = complete
        self._target = checkpoint_path(folder, step)
        self._aside = folder / f".writing_{self._target.name}"
        self._records: dict[str, FileRecord] = {}
        self._error: Exception | None = None

    def begin(self) -> None:
        """Make the folder that all write into.

        Raises:
            CheckpointError: it cannot be made.
        """
        if self._together.first:
            try:
                shutil.rmtree(self._aside, ignore_errors=True)
                self._aside.mkdir(parents=True)
            except OSError as error:
                self._error = error
        self._agree()

    def write(self, write: Write) -> None:
        """Have this process's files written; what goes wrong is kept for `finish`."""
        try:
            if not self._aside.is_dir():
                raise FileNotFoundError(
                    f"{self._aside}, which process 0 has made, is not there for process {self._together.process}: "
                    "run.dir must be on a file system that all machines share"
                )
            self._records = dict(write(self._aside) or {})
        except Exception as error:
            self._error = error
        except BaseException:
            shutil.rmtree(self._aside, ignore_errors=True)
            raise

    def finish(self) -> Path:
        """Wait for all processes, give the checkpoint its name and drop those that are not kept.

        Raises:
            CheckpointError: a process could not write its part; the same on all of them.
        """
        self._agree()
        records = {name: one for part in self._together.gather([self._records]) for name, one in part.items()}
        if self._together.first:
            try:
                self._complete(self._aside)
                self._put_in_place(records)
            except Exception as error:
                self._error = error
        self._agree()
        if self._together.first:
            drop_old(self._folder, self._retention)
        return self._target

    def abandon(self) -> None:
        """Forget it, without the other processes."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def _put_in_place(self, records: Mapping[str, FileRecord]) -> None:
        for name, record in records.items():
            size = (self._aside / name).stat().st_size
            if size != record.size:
                raise OSError(f"{name} has {size} bytes, {record.size} were written")
        # Small files, whose checksums nobody took.
        there = [path for path in sorted(self._aside.rglob("*")) if path.is_file()]
        others = {path.relative_to(self._aside).as_posix(): path for path in there}
        records = {**records, **{name: checksum_of(path) for name, path in others.items() if name not in records}}
        files = {name: (record.size, record.checksums) for name, record in sorted(records.items())}
        (self._aside / STATE).write_text(json.dumps({**self._state, FILES: files}, indent=2), encoding="utf-8")
        for path in [*self._aside.rglob("*"), self._aside]:
            _flush(path)
        if self._target.exists():
            shutil.rmtree(self._target)
        self._aside.rename(self._target)
        _flush(self._folder)

    def _agree(self) -> None:
        """Raise on all processes what went wrong on any; then nothing of the checkpoint is left."""
        own = self._error
        told = None if own is None else str(own) if _says_enough(own) else f"{type(own).__name__}: {own}"
        failures = [
            (process, error) for process, error in enumerate(self._together.gather([told])) if error is not None
        ]
        if not failures:
            return
        if self._together.first:
            shutil.rmtree(self._aside, ignore_errors=True)
        if own is not None and not _says_enough(own):
            raise own
        process, error = failures[0]
        who = f" (process {process})" if self._together.processes > 1 else ""
        earlier = [path.name for _, path in list_checkpoints(self._folder)]
        raise CheckpointError(
            f"the checkpoint after step {self.step} cannot be written to {self._folder}: {error}{who}; earlier "
            f"checkpoints are untouched ({', '.join(earlier) or 'there is none'}). Free some space and continue with "
            "--resume",
            first=self._together.first,
        ) from own


def _says_enough(error: Exception) -> bool:
    """Whether it is the disk's, and no mistake of a program."""
    return isinstance(error, OSError) or is_disk_full(error)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""One process at a time writes to a run directory: a lock that ends with its holder, however that ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from masa.tracking.run_directory import RunExistsError

LOCK = ".in_use"

T = TypeVar("T")


class RunInUseError(RunExistsError):
    """Another process is writing to the run directory."""


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Hold the lock of the run directory ``folder``, which exists.

    Two processes that resumed one run would mix their rows and take each other's checkpoints away. A file system
    without locks is written to without one.

    Raises:
        RunInUseError: another process holds it; the message says which.
    """
    lock = _taken(folder / LOCK)
    try:
        yield
    finally:
        if lock is not None:
            (folder / LOCK).unlink(missing_ok=True)
            lock.close()


@contextmanager
def made_and_in_use(folder: Path, make: Callable[[], T]) -> Iterator[T]:
    """Hold the lock of the folder that ``make`` makes or goes on with; what that returns.

    Of a folder that is there already the lock is taken first, so that nothing in it is looked at or changed while
    another process is at work.

    Raises:
        RunInUseError: another process holds it.
    """
    if folder.is_dir():
        with in_use(folder):
            yield make()
    else:
        made = make()
        with in_use(folder):
            yield made


def _taken(path: Path) -> BinaryIO | None:
    """The locked file, with this process's name in it; None where files cannot be locked."""
    while True:
        try:
            lock = path.open("ab+")
        except OSError:
            return None  # a folder that cannot be written to is refused where something is written
        try:
            # A record lock, unlike flock's, is not handed down to processes that outlive a killed run.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip()
            lock.close()
            raise RunInUseError(
                f"{path.parent} is in use by {holder or 'another process'}; wait for it to end, or choose another "
                "folder"
            ) from None
        except OSError:
            lock.close()
            return None
        with suppress(OSError):
            if os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
                lock.flush()
                return lock
        lock.close()  # the holder before has just taken this file away

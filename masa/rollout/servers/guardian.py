"""Runs one command and leaves nothing of it behind: ``python guardian.py COMMAND...``, with a pipe as standard input.

The command and all that it starts end when the command ends, when this process is told to, and when the process that
started this one is gone, however it went: its end of the pipe is then closed. Uses the standard library alone and is
run as a file, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_EVERY = 0.25
_SECONDS_TO_END = 5.0


def main(command: list[str]) -> int:
    libc = ctypes.CDLL(None)
    # Orphans among the command's descendants become children of this process, and can be found.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: told.append(received))
    parent = os.getppid()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    while not told and child.poll() is None and os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], _LOOK_EVERY)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    _end(child)
    return child.returncode if child.returncode is not None else 1


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the command's processes to end, and kill what has not after a while."""
    _signal_all(signal.SIGTERM)
    deadline = time.monotonic() + _SECONDS_TO_END
    while _descendants() and time.monotonic() < deadline:
        _reap(child)
        time.sleep(0.05)
    while _descendants():
        _signal_all(signal.SIGKILL)
        _reap(child)
        time.sleep(0.05)


def _signal_all(number: int) -> None:
    for process in _descendants():
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def _reap(child: subprocess.Popen[bytes]) -> None:
    child.poll()
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def _descendants() -> list[int]:
    """Living processes below this one, nearest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(0), [])
        found += below
        waiting += below
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

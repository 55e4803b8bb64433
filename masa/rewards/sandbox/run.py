"""Run one Python program in the sandbox, with its output collected and its end certain."""

from __future__ import annotations

import fcntl
import math
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from masa.rewards.sandbox.isolation import (
    Isolation,
    SandboxUnavailableError,
    check_sandbox,
    clean_environment,
    directory_is_full,
    isolate,
)

End = Literal["exit", "timeout", "output", "disk"]

OUTPUT_LIMIT = 2**20
DISK_LIMIT_MB = 64
FILES_LIMIT = 500
_TICK_SECONDS = 0.05
_READ_SIZE = 2**16
# The child's descriptor that reports a failed set-up; a successful exec closes it.
_FAILURE = 4


@dataclass(frozen=True)
class Run:
    """How a program ended: by itself (``exit``), or killed for its time, its output or its files.

    ``exit_code`` is negative for a signal; ``report`` is what it wrote to file descriptor 3.
    """

    end: End
    exit_code: int
    stdout: bytes
    stderr: bytes
    report: bytes


def run_python(arguments: list[str], directory: Path, stdin: bytes, seconds: float, memory_mb: int) -> Run:
    """Run ``python -I -B *arguments`` with ``directory`` as working directory and only writable place.

    The process has no children, no network, an environment of its own, at most ``memory_mb`` of address space,
    ``seconds`` of wall-clock time, 1 MiB on each of stdout, stderr and descriptor 3, and 64 MiB of files. It dies with
    the caller. Call from a process without threads.

    Raises:
        SandboxUnavailableError: the system cannot isolate it; nothing was run.
    """
    check_sandbox()
    stdin_path = directory / ".stdin"
    stdin_path.write_bytes(stdin)
    pipes = {name: os.pipe() for name in ("stdout", "stderr", "report", "failure")}
    isolation = Isolation(directory, cpu_seconds=math.ceil(seconds) + 1, memory_mb=memory_mb)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        writers = {name: pipe[1] for name, pipe in pipes.items()}
        _become_program(arguments, stdin_path, writers, isolation, parent)
    for _, writer in pipes.values():
        os.close(writer)
    try:
        failure = os.read(pipes["failure"][0], 4096)
        if failure:
            raise SandboxUnavailableError(f"the sandbox could not be set up: {failure.decode(errors='replace')}")
        streams = {pipes[name][0]: bytearray() for name in ("stdout", "stderr", "report")}
        end = _watch(pid, streams, directory, time.monotonic() + seconds)
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        for reader, _ in pipes.values():
            os.close(reader)
    stdout, stderr, report = (bytes(content) for content in streams.values())
    return Run(end, os.waitstatus_to_exitcode(status), stdout, stderr, report)


def _watch(pid: int, streams: dict[int, bytearray], directory: Path, deadline: float) -> End:
    """Collect output until the process ends or oversteps a limit; what it has written by then is in ``streams``."""
    poller = select.poll()
    for descriptor in streams:
        os.set_blocking(descriptor, False)
        poller.register(descriptor, select.POLLIN)
    process = os.pidfd_open(pid)
    poller.register(process, select.POLLIN)
    next_look = time.monotonic() + _TICK_SECONDS
    try:
        while True:
            ready = {descriptor for descriptor, _ in poller.poll(_TICK_SECONDS * 1000)}
            for descriptor in ready & streams.keys():
                if not _read(descriptor, streams[descriptor]):
                    poller.unregister(descriptor)
            if any(len(content) > OUTPUT_LIMIT for content in streams.values()):
                return "output"
            if process in ready:
                for descriptor, content in streams.items():
                    while len(content) <= OUTPUT_LIMIT and _read(descriptor, content):
                        continue
                return "exit"
            now = time.monotonic()
            if now > deadline:
                return "timeout"
            if now > next_look:
                if directory_is_full(directory, DISK_LIMIT_MB, FILES_LIMIT):
                    return "disk"
                next_look = now + _TICK_SECONDS
    finally:
        os.close(process)


def _read(descriptor: int, content: bytearray) -> bool:
    try:
        piece = os.read(descriptor, _READ_SIZE)
    except BlockingIOError:
        return False
    content += piece
    return bool(piece)


def _become_program(
    arguments: list[str], stdin_path: Path, writers: dict[str, int], isolation: Isolation, parent: int
) -> NoReturn:
    """The child's side: never returns to the caller's code."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        stdin = os.open(stdin_path, os.O_RDONLY)
        sources = [stdin, writers["stdout"], writers["stderr"], writers["report"], writers["failure"]]
        # Copies above the targets first, so that no source is overwritten before its turn.
        for target, source in enumerate([fcntl.fcntl(source, fcntl.F_DUPFD, 64) for source in sources]):
            os.dup2(source, target, inheritable=target != _FAILURE)
        os.closerange(_FAILURE + 1, 2**20)
        isolate(isolation, parent)
        command = [sys.executable, "-I", "-B", *arguments]
        os.execve(sys.executable, command, clean_environment(isolation.directory))
    except BaseException as error:
        os.write(_FAILURE, f"{type(error).__name__}: {error}".encode()[:4000])
    finally:
        os._exit(125)

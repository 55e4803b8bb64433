"""Processes that begin with the slow imports done: forked from one that has imported them, and from there like any.

A test that runs ``python -m masa.train`` many times spends half its time on imports of torch and transformers. `Popen`
and `run` take a command as `subprocess` does and start it in a fork of a process that has done nothing but import; it
gets its own arguments, environment, working directory and output, can be killed, and ends with an exit code of its own.
That the command starts from nothing is what other tests show.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

# What a run of the embedded policy imports sooner or later; a package that is an extra, where it is installed.
_PRELOADED = (
    "torch",
    "accelerate",
    "deepspeed",
    "transformers.generation.utils",
    "transformers.models.qwen3.modeling_qwen3",
    "matplotlib.pyplot",
    "masa.trainer",
    "masa.dry_run",
    "masa.rollout.transformers.engine",
    "masa.rewards.verifiers.mathematics",
)
_server: tuple[subprocess.Popen[bytes], socket.socket] | None = None


class Popen:
    """A command (``[python, "-m", module, ...]`` or ``[python, "-c", program, ...]``) in a warm process.

    ``output`` and ``errors`` are what it has written so far.
    """

    def __init__(
        self, command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._files = [os.memfd_create(name) for name in ("output", "errors")]
        request = {"command": list(command), "cwd": str(cwd or os.getcwd()), "env": dict(env or os.environ)}
        channel, theirs = socket.socketpair()
        connection = _connection()
        data = json.dumps(request).encode()
        socket.send_fds(connection, [len(data).to_bytes(8, "big")], [*self._files, theirs.fileno()])
        connection.sendall(data)
        theirs.close()
        self._channel = channel
        self.pid = int.from_bytes(_exactly(channel, 8), "big")
        self.returncode: int | None = None

    @property
    def output(self) -> str:
        return self._written(0)

    @property
    def errors(self) -> str:
        return self._written(1)

    def _written(self, number: int) -> str:
        file = self._files[number]
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def __del__(self) -> None:
        for file in self._files:
            os.close(file)

    def poll(self) -> int | None:
        return self._end(0.0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._end(timeout)
        if code is None:
            raise TimeoutError(f"still running after {timeout} s; it wrote {self.errors[-2000:]}")
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._channel.settimeout(timeout or (None if timeout is None else 1e-6))
            try:
                status = int.from_bytes(_exactly(self._channel, 8), "big")
            except TimeoutError:
                return None
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def run(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """A command in a warm process, to its end, with what it wrote.

    Raises:
        subprocess.CalledProcessError: ``check``, and its exit code is not 0.
    """
    process = Popen(command, cwd=cwd, env=env)
    try:
        process.wait(timeout=280)
    finally:
        process.kill()
    done = subprocess.CompletedProcess(list(command), process.wait(), process.output, process.errors)
    if check and done.returncode:
        print(done.stdout, done.stderr, sep="\n")
        done.check_returncode()
    return done


def _connection() -> socket.socket:
    global _server
    if _server is None or _server[0].poll() is not None:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[1]
        )
        theirs.close()
        atexit.register(ours.close)  # which ends it
        _server = (process, ours)
    return _server[1]


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("the process that starts others has ended")
        data += more
    return data


def _serve(connection: socket.socket) -> Any:
    """Start what is asked for, until nobody can ask any more; in a child, return its command instead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children: dict[int, socket.socket] = {}
    while True:
        asked, _, _ = select.select([connection], [], [], 0.02 if children else None)
        for child, channel in list(children.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                channel.sendall(status.to_bytes(8, "big"))
                children.pop(child).close()
        if not asked:
            continue
        header, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
        if not header:
            sys.exit(0)
        request = json.loads(_exactly(connection, int.from_bytes(header, "big")))
        child = os.fork()
        if child == 0:
            connection.close()
            for channel in children.values():
                channel.close()
            return request, descriptors
        channel = socket.socket(fileno=descriptors.pop())
        for descriptor in descriptors:
            os.close(descriptor)
        channel.sendall(child.to_bytes(8, "big"))
        children[child] = channel


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output, errors, channel = descriptors
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    for descriptor in (output, errors, channel):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    _, kind, what, *arguments = request["command"]
    sys.argv = [what if kind == "-m" else kind, *arguments]
    sys.path.insert(0, request["cwd"] if kind == "-m" else "")
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which is none of a command's
    for name in _PRELOADED:
        if find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)
    _become(*_serve(socket.socket(fileno=int(sys.argv[1]))))

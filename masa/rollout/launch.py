"""Starting vLLM servers on this machine, each under a guardian that outlives neither it nor this process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from masa.rollout import guardian

_SECONDS_TO_STOP = 15.0
_RESTARTS = 3
_ENVIRONMENT = {
    # The routes for weights, pausing and cache are served in this mode only.
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


class ServerProcess:
    """One server on a free port of this machine; `start` starts it, again where it has ended.

    Args:
        options: the command line of vLLM's server, without address.
        log: where its output goes.
        devices: ``CUDA_VISIBLE_DEVICES``; None: as in this process.
        threads: CPU threads, ``OMP_NUM_THREADS``; None: as in this process.
    """

    def __init__(
        self, options: Sequence[str], log: Path, *, devices: str | None = None, threads: int | None = None
    ) -> None:
        self._options = list(options)
        self.log = log
        self._devices = devices
        self._threads = threads
        self._port = _free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._restarts_left = _RESTARTS
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**_ENVIRONMENT, **os.environ}
        if self._devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices
        if self._threads is not None:
            environment["OMP_NUM_THREADS"] = str(self._threads)
        # The server is no part of the trainer's process group.
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            environment.pop(name, None)
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *self._options]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, guardian.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def restart_if_ended(self) -> None:
        """Start a server that has ended again, a few times; one that keeps ending is left alone."""
        if not self.running and self._restarts_left:
            self._restarts_left -= 1
            self.start()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def last_words(self) -> str:
        """The end of the server's output, for messages."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " | ".join(lines[-3:])

    def ask_to_stop(self) -> None:
        """Let the guardian end the server; `wait` waits for it."""
        if self._process is not None:
            pipe: IO[bytes] | None = self._process.stdin
            if pipe is not None:
                pipe.close()

    def wait(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(_SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

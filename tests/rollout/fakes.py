"""Stand-in servers as processes of their own, which tests start, stop and kill."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


class Fakes:
    """Stand-in servers by number, each on a port of its own."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, seconds: float = 0.0, defect: str = "", number: int | None = None) -> str:
        if number is None:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                self.ports.append(listener.getsockname()[1])
            number = len(self.ports) - 1
        script = Path(__file__).with_name("fake_server.py")
        command = [sys.executable, str(script), str(self.ports[number]), str(seconds), *([defect] if defect else [])]
        self._processes[number] = subprocess.Popen(command)
        port = self.ports[number]
        until(lambda: _listens(port), 60.0)
        return f"http://127.0.0.1:{port}"

    def send(self, number: int, signal_number: int) -> None:
        self._processes[number].send_signal(signal_number)

    def pid(self, number: int) -> int:
        return self._processes[number].pid

    def kill(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number].wait()

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""A program on two processes of one group, without a launcher in between."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def start_two_processes(program: Path, *arguments: str) -> list["subprocess.Popen[str]"]:
    """Start ``program`` on both, by rank; it may import what tests share. What goes wrong is read from ``stderr``."""
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return [
        subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def run_on_two_processes(program: Path, *arguments: str, timeout: float) -> None:
    """Run ``program`` to its end on both; ``timeout`` in seconds."""
    processes = start_two_processes(program, *arguments)
    try:
        errors = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(error[-3000:] for error in errors)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

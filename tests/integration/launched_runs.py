"""Small runs on two processes, started as a user starts them: ``accelerate launch ... -m masa.train``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from masa.tracking.keys import is_timing

ROOT = Path(__file__).parents[2]
SMALL = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=2",
    "problems.limit=64",
    "problems.eval=null",
    "rollout.max_solution_tokens=64",
    "rewards.verifier_workers=1",
    "checkpoint.every=2",
    "tracking.figures=false",
    "run.steps=4",
    "run.threads=1",
)


def command(folder: Path, shape: str | None, *launch: str) -> list[str]:
    """Start a run on two processes in the shape of an accelerate configuration, or on one."""
    launcher = ["-m", "accelerate.commands.launch", "--config_file", f"configs/accelerate/{shape}.yaml"]
    launcher += ["--main_process_port", "0", *launch]
    train = ["-m", "masa.train", "--config", "configs/quickstart.yaml", *SMALL, f"run.dir={folder}"]
    return [sys.executable, *(launcher if shape else []), *train]


def train(folder: Path, shape: str | None, *arguments: str, launch: tuple[str, ...] = ()) -> None:
    """Run to the end; ``launch`` are further options of the launcher."""
    done = subprocess.run(
        [*command(folder, shape, *launch), *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@contextmanager
def started(folder: Path, shape: str, step: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run in the background that has finished ``step``; whatever is left of it at the end is killed."""
    process = subprocess.Popen(
        [*command(folder, shape), *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 280
    metrics = folder / "metrics.jsonl"
    try:
        while not (metrics.exists() and f'"step":{step},' in metrics.read_text().replace(" ", "")):
            assert process.poll() is None, f"the run ended before step {step}"
            assert time.monotonic() < deadline, f"step {step} was not reached in time"
            time.sleep(0.01)
        yield process
    finally:
        kill_tree(process.pid)
        process.wait()


def rows(folder: Path) -> list[dict[str, Any]]:
    """The metrics of each step, without what tells the time."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def kill_tree(pid: int) -> None:
    import psutil

    try:
        tree = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue

"""Running one part in a process of its own, whatever becomes of it: it crashes, hangs, prints garbage, forks away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped", "not run"]
# Every process of a part has this variable, also one that has left its parent and its session.
_MARK = "MASA_ACCEPTANCE_MARK"
_LAST_WORDS = 4000
_LOOK_EVERY = 0.05
_SECONDS_TO_DIE = 10.0


@dataclass(frozen=True)
class Result:
    """What became of a part. ``reason`` says why it did not pass; ``log`` is the end of what a failed one printed."""

    name: str
    status: Status
    seconds: float = 0.0
    reason: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    log: str = ""

    def line(self) -> str:
        """One line for the terminal."""
        said = self.reason or figures_line(self.figures)
        return f"{self.name:20} {self.status:8} {self.seconds:6.1f} s  {said}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_isolated(
    name: str,
    command: Sequence[str],
    *,
    seconds: float,
    folder: Path,
    environment: Mapping[str, str],
    working_directory: Path,
) -> Result:
    """Run ``command``, which writes its result as JSON into the file that it is given as last argument.

    After ``seconds``, and whenever it ends, all processes that it has started are killed. What it prints goes into a
    file in ``folder`` and is never parsed.
    """
    answer, log, mark = folder / f"{name}.json", folder / f"{name}.log", uuid.uuid4().hex
    started = time.monotonic()
    timed_out = False
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, str(answer)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, _MARK: mark},
            cwd=working_directory,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            kill_marked(mark)
            process.kill()
            code = _code_of(process)
    took = time.monotonic() - started
    words = log.read_text(errors="replace")[-_LAST_WORDS:]
    if timed_out:
        return Result(name, "failed", took, f"killed after its limit of {seconds:.0f} s", log=words)
    return _answered(name, answer, code, took, words)


def _code_of(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that was killed at the latest now; a driver may keep it from ending."""
    try:
        return process.wait(_SECONDS_TO_DIE)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


def kill_marked(mark: str) -> None:
    """SIGKILL every process of this user whose environment holds ``mark``, until none is left."""
    deadline = time.monotonic() + _SECONDS_TO_DIE
    while (found := _marked(mark)) and time.monotonic() < deadline:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(_LOOK_EVERY)


def _marked(mark: str) -> list[int]:
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                # That of a process which has ended and is not waited for reads as empty.
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _answered(name: str, answer: Path, code: int, took: float, words: str) -> Result:
    """The result that a process has left, or what its end says where it has left none."""
    try:
        found = json.loads(answer.read_text())
        result = Result(name, found["status"], took, found["reason"], found["figures"])
    except (OSError, ValueError, KeyError, TypeError):
        return Result(name, "failed", took, _how_it_ended(code, words), log=words)
    if code != 0 and result.status == "passed":
        # For instance a crash while the interpreter or a driver shuts down.
        reason = f"its work was done, and then: {_how_it_ended(code, words)}"
        return Result(name, "failed", took, reason, result.figures, words)
    return Result(name, result.status, took, result.reason, result.figures, words if result.status == "failed" else "")


def _how_it_ended(code: int, words: str) -> str:
    last = (words.strip().splitlines() or ["nothing was printed"])[-1][:200]
    if code >= 0:
        return f"ended with exit code {code} and no result: {last}"
    try:
        how = signal.Signals(-code).name
    except ValueError:
        how = f"signal {-code}"
    memory = " (the kernel's, where host memory ran out)" if how == "SIGKILL" else ""
    return f"died of {how}{memory}: {last}"


def figures_line(figures: Mapping[str, Any]) -> str:
    """``name value`` for each figure."""
    shown = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in figures.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())

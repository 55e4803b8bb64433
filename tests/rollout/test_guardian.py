"""A guardian leaves nothing of its command behind, however its parent went."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from masa.rollout.servers import guardian

# A command with a child that has left its session; it may ignore being asked to end.
COMMAND = """
import signal, subprocess, sys, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
PARENT = """
import subprocess, sys, time
guardian = subprocess.Popen([sys.executable, {guardian!r}, sys.executable, {script!r}], stdin=subprocess.PIPE)
print(guardian.pid, flush=True)
time.sleep(600)
"""


def _start(tmp_path: Path, *, stubborn: bool = False) -> tuple["subprocess.Popen[str]", list[psutil.Process]]:
    """A parent with a guardian with a command with a child; and the latter three."""
    script = tmp_path / "command.py"
    script.write_text(COMMAND.format(stubborn=stubborn))
    source = PARENT.format(guardian=guardian.__file__, script=str(script))
    parent = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    numbers = [int(parent.stdout.readline()), int(parent.stdout.readline())]
    processes = [psutil.Process(number) for number in numbers]
    return parent, [*processes, *processes[0].children()]


def _gone(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


@pytest.mark.parametrize("stubborn", [False, True])
def test_nothing_outlives_a_parent_that_was_killed(tmp_path: Path, stubborn: bool) -> None:
    parent, processes = _start(tmp_path, stubborn=stubborn)
    parent.kill()
    parent.wait()
    assert _gone(processes, 20.0)


def test_a_guardian_that_is_told_to_end_takes_everything_with_it(tmp_path: Path) -> None:
    parent, processes = _start(tmp_path)
    processes[0].terminate()
    assert _gone(processes[1:], 15.0)
    parent.kill()
    parent.wait()


def test_a_guardian_ends_with_its_command() -> None:
    command = [sys.executable, guardian.__file__, sys.executable, "-c", "raise SystemExit(3)"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.wait(20) == 3

"""A process that dies, or fails alone, ends all others of its run soon, with one message that names it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from launched_runs import ROOT, SMALL, environment, kill_tree, rows
from two_processes import free_port, run_on_two_processes, start_two_processes

TRAIN = ("-m", "masa.train", "--config", "configs/quickstart.yaml", *SMALL, "run.steps=500", "checkpoint.every=0")
PROGRAM = Path(__file__).with_name("watched_peers.py")


def _wait_for_step(folder: Path, launchers: list["subprocess.Popen[str]"]) -> None:
    deadline = time.monotonic() + 200
    while not ((folder / "metrics.jsonl").exists() and len(rows(folder)) > 1):
        assert all(one.poll() is None for one in launchers), "the run ended too early"
        assert time.monotonic() < deadline, "the first step was not reached"
        time.sleep(0.1)


def _ranks(launchers: list["subprocess.Popen[str]"]) -> list[psutil.Process]:
    """The processes of a run, by rank."""
    found = {
        int(one.environ()["RANK"]): one
        for launcher in launchers
        for one in psutil.Process(launcher.pid).children()
        if "masa.train" in one.cmdline()
    }
    return [found[rank] for rank in sorted(found)]


def _launch(folder: Path, file: str, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"configs/accelerate/{file}.yaml"]
    command += ["--num_processes", "2", *options, *TRAIN, f"run.dir={folder}"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _end_of(launchers: list["subprocess.Popen[str]"], killed: int) -> None:
    """Kill one process of a run; all must end within a minute, and say once which one it was."""
    try:
        ranks = _ranks(launchers)
        ranks[killed].send_signal(signal.SIGKILL)
        start = time.monotonic()
        errors = "".join(launcher.communicate(timeout=60)[1] for launcher in launchers)
        assert time.monotonic() - start < 60
    finally:
        for launcher in launchers:
            kill_tree(launcher.pid)
    assert all(launcher.returncode != 0 for launcher in launchers)
    assert not [one for one in ranks if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    said = [line for line in errors.splitlines() if line.startswith("masa: ")]
    assert len(said) == 1, errors[-3000:]
    assert said[0].startswith(f"masa: process {killed} (pid {ranks[killed].pid} on ")
    assert "died" in said[0]
    assert "Connection closed by peer" not in errors


@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_that_is_killed_ends_the_others_with_one_message(tmp_path: Path, killed: int) -> None:
    launcher = _launch(tmp_path, "cpu_ddp", "--main_process_port", "0")
    _wait_for_step(tmp_path, [launcher])
    _end_of([launcher], killed)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_those_on_another_machine(tmp_path: Path, killed: int) -> None:
    pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")
    port = str(free_port())
    launchers = [
        _launch(tmp_path, "nodes_zero3", "--machine_rank", str(rank), "--main_process_port", port) for rank in range(2)
    ]
    _wait_for_step(tmp_path, launchers)
    _end_of(launchers, killed)


@pytest.mark.parametrize("failing", ["0", "1"])
def test_a_process_that_fails_alone_ends_the_other_and_is_named(failing: str) -> None:
    start = time.monotonic()
    processes = start_two_processes(PROGRAM, failing)
    errors = [process.communicate(timeout=50)[1] for process in processes]
    assert time.monotonic() - start < 50
    assert all(process.returncode != 0 for process in processes)
    other = errors[1 - int(failing)]
    own = f"process {failing} (pid {processes[int(failing)].pid} on {socket.gethostname()})"
    assert f"masa: {own} failed: ValueError: no such thing; the other processes end" in other
    assert "masa: " not in errors[int(failing)]


def test_processes_that_fail_alike_say_nothing_of_one_another() -> None:
    processes = start_two_processes(PROGRAM, "0,1")
    errors = [process.communicate(timeout=50)[1] for process in processes]
    assert all("ValueError: no such thing" in error and "masa: " not in error for error in errors)


def test_the_watch_does_nothing_where_there_is_one_process() -> None:
    environment_alone = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    code = "from masa.distributed.peers import PeerWatch\nwith PeerWatch() as watch:\n    print(watch.lost)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment_alone, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"


def test_all_process_groups_wait_as_long_as_the_run_says(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")
    run_on_two_processes(PROGRAM.with_name("group_time_limits.py"), str(tmp_path / "limits"), timeout=200)
    number, equal, *_ = (tmp_path / "limits").read_text().split()
    assert int(number) > 1
    assert equal == "True", (tmp_path / "limits").read_text()

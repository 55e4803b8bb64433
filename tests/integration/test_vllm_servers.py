"""Whole runs with vLLM servers: they train, lose servers, and leave no process behind."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from vllm_runs import gone, of_rollouts, rows, said, start, train, wait_for_step

# Importing vLLM takes many times longer on a machine that is busy.
pytestmark = pytest.mark.timeout(1500)
SERVERS = ("rollout.engine=vllm_server", "rollout.server_wait=600")


def _servers(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The server processes themselves: children of the guardians."""
    found = []
    for child in psutil.Process(process.pid).children():
        try:
            if any("guardian" in part for part in child.cmdline()):
                found += child.children()
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return found


def _until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, said(folder)
        assert time.monotonic() < deadline, f"it did not happen in time: {said(folder)}"
        time.sleep(0.2)


# Slow: four minutes; `tests/rollout/test_server_ranks.py` loses a server among two processes by default.
@pytest.mark.slow
def test_a_run_that_loses_a_server_in_a_step_gets_it_back_and_is_the_run_that_lost_none(
    in_process_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    # It trains until it is killed, and a busy machine starts servers slowly: nothing but training between.
    process = start(
        folder, *SERVERS, "rollout.num_servers=2", "run.steps=5000", "evaluation.every=0", "checkpoint.every=0"
    )
    try:
        wait_for_step(process, folder, 1)
        servers = _servers(process)
        assert len(servers) == 2
        os.kill(servers[0].pid, signal.SIGKILL)

        def working() -> list[float]:
            return [row["rollout/servers_working"] for row in rows(folder) if "rollout/servers_working" in row]

        _until(lambda: 1.0 in working(), process, folder)
        _until(lambda: 2.0 in working()[working().index(1.0) :], process, folder)
        step = rows(folder)[-1]["step"]
        wait_for_step(process, folder, step + 1)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(_servers(process)) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert gone(family), "processes outlived the trainer"
    found = rows(folder)
    assert all(row["rollout/check_difference"] < 1e-4 for row in found[1:])
    # Step 2 lost the server. Had a sample been lost, doubled or made otherwise, no number after it would be the same.
    for expected in rows(in_process_run)[1:]:
        assert of_rollouts(found[expected["step"]]) == of_rollouts(expected)
        assert found[expected["step"]]["policy/engine_mismatch_max"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_leaves_no_server_behind(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "run"
    process = start(folder, *SERVERS, "run.steps=200")
    try:
        wait_for_step(process, folder, 1)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.wait(120)
    finally:
        process.kill()
        process.wait()
    assert gone(family), "processes outlived the trainer"


@pytest.mark.slow
def test_a_run_whose_servers_are_all_killed_ends_with_a_clear_error_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("rollout.engine=vllm_server", "rollout.num_servers=2", "run.steps=4")
    process = start(folder, *options, "rollout.server_wait=200")
    try:
        wait_for_step(process, folder, 1)
        family = psutil.Process(process.pid).children(recursive=True)
        started = time.monotonic()
        while process.poll() is None:
            for server in _servers(process):
                server.kill()
            assert time.monotonic() - started < 260
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert gone(family), "processes outlived the trainer"
    assert "no rollout server could be used for" in said(folder)
    assert "Resume the run from its last checkpoint" in said(folder)
    train(folder, *options, "rollout.server_wait=600", "--resume")
    assert [row["step"] for row in rows(folder)] == [0, 1, 2, 3, 4]

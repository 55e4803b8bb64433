"""Whole runs with vLLM servers: they train, lose servers, and leave no process behind."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from vllm_runs import rows, said, start, train, wait_for_step

# Importing vLLM takes many times longer on a machine that is busy.
pytestmark = pytest.mark.timeout(1500)
TWO_SERVERS = ("rollout.engine=vllm_server", "rollout.num_servers=2", "rollout.server_wait=600")


def _servers(process: psutil.Process) -> list[psutil.Process]:
    """The server processes themselves: children of the guardians."""
    guardians = [one for one in process.children() if any("guardian" in part for part in one.cmdline())]
    return [server for guardian in guardians for server in guardian.children()]


def _gone(processes: list[psutil.Process], seconds: float = 30.0) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_a_run_with_two_servers_survives_one_and_leaves_none_behind_when_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, *TWO_SERVERS, "run.steps=200")
    try:
        wait_for_step(process, folder, 1)
        trainer = psutil.Process(process.pid)
        servers = _servers(trainer)
        assert len(servers) == 2
        os.kill(servers[0].pid, signal.SIGKILL)
        step = len(rows(folder))
        wait_for_step(process, folder, step + 2)
        family = trainer.children(recursive=True)
        working = [row.get("rollout/servers_working") for row in rows(folder)]
        assert 1.0 in working, "the run noticed nothing"
        assert all(row["rollout/check_difference"] < 1e-4 for row in rows(folder)[1:])
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _gone(family), "processes outlived the trainer"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_leaves_no_server_behind(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "run"
    process = start(folder, *TWO_SERVERS, "run.steps=200")
    try:
        wait_for_step(process, folder, 1)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert _gone(family), "processes outlived the trainer"


@pytest.mark.slow
def test_a_run_whose_servers_are_all_killed_ends_with_a_clear_error_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    one_server = ("rollout.engine=vllm_server", "rollout.num_servers=1")
    process = start(folder, *one_server, "run.steps=4", "rollout.server_wait=120")
    try:
        wait_for_step(process, folder, 1)
        started = time.monotonic()
        trainer = psutil.Process(process.pid)
        while process.poll() is None:
            for server in _servers(trainer) if trainer.is_running() and process.poll() is None else []:
                server.kill()
            assert time.monotonic() - started < 200
            time.sleep(0.2)
    except psutil.NoSuchProcess:
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert "no rollout server could be used" in said(folder)
    train(folder, *one_server, "run.steps=4", "rollout.server_wait=600", "--resume")
    assert [row["step"] for row in rows(folder)] == [0, 1, 2, 3, 4]

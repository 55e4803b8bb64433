"""Whole runs with the vLLM engine in process: they train, resume bit for bit, and sample ahead."""

from pathlib import Path

import pytest
from vllm_runs import rows, start, train, wait_for_step

# Importing vLLM takes many times longer on a machine that is busy.
pytestmark = pytest.mark.timeout(1500)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="on-policy"),
        pytest.param(("rollout.async_steps=1", "algorithm.tis_cap=2"), id="one-step-ahead", marks=pytest.mark.slow),
    ],
)
def test_a_run_trains_and_a_killed_one_resumes_bit_for_bit(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ("rollout.engine=vllm", "run.steps=3", *arguments)
    train(whole, *arguments)
    expected = rows(whole)
    assert [row["step"] for row in expected] == [0, 1, 2, 3]
    for row in expected[1:]:
        ahead = "rollout.async_steps=1" in arguments
        assert row["policy/engine_mismatch_max"] < 1e-4 or ahead
        assert row["rollout/check_difference"] < 1e-4
        assert row["rollout/staleness_max"] == (min(1, row["step"] - 1) if ahead else 0)
    process = start(killed, *arguments)
    try:
        wait_for_step(process, killed, 2)
    finally:
        process.kill()
        process.wait()
    train(killed, *arguments, "--resume")
    assert rows(killed) == expected

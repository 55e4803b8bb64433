"""A run with vLLM that puts stragglers aside: it trains on full batches, and resumes bit for bit."""

from pathlib import Path

import pytest
from vllm_runs import rows, train

# Importing vLLM takes many times longer on a machine that is busy.
pytestmark = pytest.mark.timeout(1500)
PARTIAL = (
    "rollout.engine=vllm",
    "rollout.partial=true",
    "rollout.partial_share=0.6",
    "algorithm.tis_cap=2",
    "problems.eval=null",
    "rollout.check_at_start=false",
    "optimizer.learning_rate=1.0e-3",
)


def test_what_is_put_aside_goes_on_after_a_resume_as_without_one(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(whole, *PARTIAL, "run.steps=4")
    train(stopped, *PARTIAL, "run.steps=2")
    train(stopped, *PARTIAL, "run.steps=4", "--resume")
    found = rows(whole)[1:]
    assert {row["cost/problems_rolled_out"] for row in found} == {4}
    assert [row["rollout/went_on"] for row in found] == [0, 3, 3, 3]
    assert all(row["rollout/put_aside_tokens"] > 0 for row in found)
    assert max(row["rollout/staleness_max"] for row in found) >= 1
    assert rows(stopped) == rows(whole)

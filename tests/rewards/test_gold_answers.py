"""Real competition problems: their own solutions verify, and those of other problems do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet

from masa.rewards import VerifierPool


def ground_truths(path: Path) -> list[dict[str, Any]]:
    return [row["ground_truth"] for row in pyarrow.parquet.read_table(path)["reward_model"].to_pylist()]


def test_the_solutions_of_real_problems_verify(pool: VerifierPool, math_train: Path) -> None:
    rows = ground_truths(math_train)
    items = [{"verifier": "math", "response": row["solution"], "answer": row["target"]} for row in rows]
    verdicts = pool.verify(items)
    assert sum(verdict.correct for verdict in verdicts) >= 0.995 * len(rows)
    assert {verdict.status for verdict in verdicts} <= {"correct", "incorrect", "error"}


def test_the_solutions_of_other_problems_do_not_verify(pool: VerifierPool, math_train: Path) -> None:
    rows = ground_truths(math_train)[::25]
    items = [
        {"verifier": "math", "response": row["solution"], "answer": other["target"]}
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
        if other["target"] and row["target"] != other["target"]
    ]
    assert len(items) > 250
    assert [item for item, verdict in zip(items, pool.verify(items), strict=True) if verdict.correct] == []

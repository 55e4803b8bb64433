"""How often the math verifier is right on the MATH training problems: a Markdown table with every failing row.

    python scripts/verify_gold_answers.py PATH/math_train.parquet [--rounds 3] [--workers 2]

The file is the split `train` of TianHongZXY/MATH on the hub, as parquet.

(a) The worked solution of each problem, given as a model's response, must verify.
(b) The same responses, each given to another problem with a different gold answer (drawn anew in each round), must not,
    unless the two answers are equal though written differently; every pair that verifies is listed for reading.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet

from masa.rewards import Verdict, VerifierPool


def load_rows(path: Path) -> list[dict[str, Any]]:
    """``question``, ``solution`` and ``target`` of each row."""
    return [row["ground_truth"] for row in pyarrow.parquet.read_table(path)["reward_model"].to_pylist()]


def other_problems(rows: list[dict[str, Any]], seed: int) -> list[tuple[int, int]]:
    """(row of the response, row of the gold answer): each row once on either side, gold answers not written alike."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    return [
        (row, other)
        for row, other in enumerate(order)
        if rows[other]["target"] and rows[row]["target"] != rows[other]["target"]
    ]


def verify(pool: VerifierPool, rows: list[dict[str, Any]], pairs: list[tuple[int, int]]) -> list[Verdict]:
    return pool.verify(
        [
            {"verifier": "math", "response": rows[response]["solution"], "answer": rows[gold]["target"]}
            for response, gold in pairs
        ]
    )


def code(text: str | None) -> str:
    """Text as a table cell."""
    return "(nothing)" if not text else f"`{text.replace('|', chr(92) + '|')}`"


def print_table(head: Iterable[str], lines: Iterable[Iterable[object]]) -> None:
    head = list(head)
    for line in (head, ["---"] * len(head), *lines):
        print("| " + " | ".join(str(cell) for cell in line) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="math_train.parquet")
    parser.add_argument("--rounds", type=int, default=3, help="how many other problems each response is given to")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    rows = load_rows(arguments.data)
    summary: list[list[object]] = []
    failing: list[list[object]] = []
    passing: list[list[object]] = []
    with VerifierPool(workers=arguments.workers) as pool:
        started = time.perf_counter()
        verdicts = verify(pool, rows, [(row, row) for row in range(len(rows))])
        right = sum(verdict.correct for verdict in verdicts)
        seconds = f"{time.perf_counter() - started:.1f}"
        summary.append(["own problem", len(rows), right, f"{100 * right / len(rows):.2f} %", seconds])
        for row, verdict in enumerate(verdicts):
            if not verdict.correct:
                reason = verdict.message or verdict.status
                failing.append([row, code(rows[row]["target"]), code(verdict.extracted), reason])
        for seed in range(arguments.rounds):
            pairs = other_problems(rows, seed)
            started = time.perf_counter()
            verdicts = verify(pool, rows, pairs)
            right = sum(verdict.correct for verdict in verdicts)
            seconds = f"{time.perf_counter() - started:.1f}"
            summary.append(
                [f"other problem, round {seed}", len(pairs), right, f"{100 * right / len(pairs):.2f} %", seconds]
            )
            for (row, other), verdict in zip(pairs, verdicts, strict=True):
                if verdict.status != "incorrect":
                    target = code(rows[other]["target"])
                    passing.append([seed, row, other, code(verdict.extracted), target, verdict.status])
    print_table(["responses given to", "items", "verified", "share", "seconds"], summary)
    print("Rows whose own solution does not verify:\n")
    print_table(["row", "gold answer", "answer found", "reason"], failing)
    print("Answers of other problems that verify (or could not be judged):\n")
    print_table(["round", "row", "gold row", "answer found", "gold answer", "status"], passing)


if __name__ == "__main__":
    main()

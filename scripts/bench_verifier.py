"""Throughput of the verifier pool against a plain serial loop over math-verify, in one run, on the same answers.

    python scripts/bench_verifier.py PATH/math_train.parquet [--items 2048] [--workers 2]

The file is the split `train` of TianHongZXY/MATH on the hub, as parquet.

Half of the answers are the right ones of MATH problems, half belong to another problem. Both sides get the responses as
a model would give them (the worked solution, answer in its box); neither has seen an answer before it is timed.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet

from masa.rewards import Verdict, VerifierPool


def load_items(path: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` items, every other one with the response to another problem."""
    rows = [row["ground_truth"] for row in pyarrow.parquet.read_table(path)["reward_model"].to_pylist()]
    rows = [row for row in rows if row["target"]]
    chosen = random.Random(seed).sample(rows, count)
    responses = [row["solution"] if n % 2 == 0 else chosen[n - 2]["solution"] for n, row in enumerate(chosen)]
    return [
        {"verifier": "math", "response": response, "answer": row["target"]}
        for row, response in zip(chosen, responses, strict=True)
    ]


def serial(items: Sequence[dict[str, Any]]) -> list[bool]:
    """What a trainer without this library writes: parse both sides, verify, one after the other."""
    from math_verify import parse, verify

    return [
        bool(verify(parse(f"${item['answer']}$", parsing_timeout=5), parse(item["response"], parsing_timeout=5)))
        for item in items
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="math_train.parquet")
    parser.add_argument("--items", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slice", type=int, default=256, help="items that each side takes in its turn")
    parser.add_argument("--runs", type=int, default=3, help="samples of the data, each timed once on both sides")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    serial(load_items(arguments.data, 8, seed=-1))  # imports and pattern tables, outside the time as in the pool

    print(f"| sample | serial s | pool s ({arguments.workers} workers) | times as fast | same verdict |")
    print("| --- | --- | --- | --- | --- |")
    for run in range(arguments.runs):
        items = load_items(arguments.data, arguments.items, seed=run)
        verdicts: list[Verdict] = []
        expected: list[bool] = []
        pooled = alone = 0.0
        # New processes each time: nothing is remembered from the sample before.
        with VerifierPool(workers=arguments.workers) as pool:
            # In turns, so that whatever else the machine does falls on both sides alike.
            for start in range(0, len(items), arguments.slice):
                part = items[start : start + arguments.slice]
                started = time.perf_counter()
                verdicts += pool.verify(part)
                pooled += time.perf_counter() - started
                started = time.perf_counter()
                expected += serial(part)
                alone += time.perf_counter() - started
        same = sum(verdict.correct == right for verdict, right in zip(verdicts, expected, strict=True))
        print(f"| {run} | {alone:.2f} | {pooled:.2f} | {alone / pooled:.2f} | {same} of {len(items)} |", flush=True)


if __name__ == "__main__":
    main()

"""Seconds that hanging answers cost a step's verification, with this code and with an earlier commit, in one run.

    python scripts/bench_hanging_answers.py --before 0816498 [--workers 2] [--seconds 5]

Each case is a step of 128 answers of which eight, the answers to one problem, never come to an end. The package as it
was at the earlier commit comes out of git; each side runs in a process of its own, in turns, each with its own default
time limit unless ``--seconds`` gives one to both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HANGING = {
    "eight equal power towers": ["9^{9^{9^{9^{9}}}}"] * 8,
    "eight equal endless products": [r"\prod_{k=1}^{100000000} (k^2 + 1)"] * 8,
    "eight different endless products": [rf"\prod_{{k=1}}^{{10000000{n}}} (k^2 + 1)" for n in range(8)],
}
SIDE = """
import json, logging, sys, time
logging.disable(logging.CRITICAL)
from masa.config import Config
from masa.rewards import VerifierPool
answers, workers, seconds = json.loads(sys.argv[1])
section = Config().rewards
items = [{"verifier": "math", "response": rf"Way {n}: \\\\boxed{{{n}}}", "answer": str(n)} for n in range(128)]
for n, answer in enumerate(answers):
    items[16 + n] = {"verifier": "math", "response": rf"Way {n}: \\\\boxed{{{answer}}}", "answer": "4"}
with VerifierPool(workers, seconds or section.verifier_seconds, section.verifier_memory_mb) as pool:
    pool.start()
    started = time.perf_counter()
    verdicts = pool.verify(items)
    took = time.perf_counter() - started
    right = sum(verdict.correct for verdict in verdicts)
    print(json.dumps([took, pool.time_limit, right, pool.counters]))
"""


def measure(package: Path, answers: list[str], workers: int, seconds: float | None) -> str:
    """One side's cell of the table."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    arguments = [sys.executable, "-c", SIDE, json.dumps([answers, workers, seconds])]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=package, check=False)
    if done.returncode:
        sys.exit(f"the side at {package} failed:\n{done.stderr}")
    took, limit, right, counters = json.loads(done.stdout.splitlines()[-1])
    ends = ", ".join(f"{count} {name}" for name, count in counters.items() if count)
    return f"{took:.1f} s (limit {limit:g} s; {right} right, {ends})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, help="the commit to compare with")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=None, help="time limit of both sides; each its default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", arguments.before, "masa"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        print(f"| 128 answers, {arguments.workers} workers, among them | at {arguments.before} | now |")
        print("| --- | --- | --- |")
        for name, answers in HANGING.items():
            cells = [measure(side, answers, arguments.workers, arguments.seconds) for side in (Path(folder), ROOT)]
            print(f"| {name} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()

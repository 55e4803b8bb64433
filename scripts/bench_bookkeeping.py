"""What a step of the real job costs beside engine, verifier and update: nothing is sampled, all rollouts are synthetic.

    python scripts/bench_bookkeeping.py [--scale 64]
    python scripts/bench_bookkeeping.py --before ff1197d [--whole-scale 1]

128 problems with 16 solutions of 6,251 tokens and as many metas of 2,293 tokens on average: 4,096 rollouts, 17 million
tokens. ``--scale`` divides the length of each rollout where something is held in memory; what is shown is a token's.

- *vLLM's log-probs*: rollouts of what vLLM gives back, with a mapping a token (as it was) and in flat lists.
- *Connections*: threads that wait for the last response of a batch, one for each of 256 connections to each server.
- *Dealing*: how many times the mean the process with most tokens has, problems dealt by number (as it was) and by the
  lengths that metas predict, for several errors of those predictions (the standard deviation of their logarithm).
- *Processes* (with ``--before`` and a commit, alone): two processes share all groups at full length, with this code and
  with that of the commit: CPU-seconds, memory and bytes of a process, and what follows for more of them
  (``bookkeeping_ranks.py``). It needs 10 GB of memory; ``--whole-scale`` divides the lengths.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from simulate_step import Job, draw

from masa.controls.dealing import dealt
from masa.controls.plan import PredictedProblem
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction
from masa.rollout import RolloutRequest
from masa.rollout.servers.dispatch import Dispatcher
from masa.rollout.vllm.sampling import finished_rollout

ROOT = Path(__file__).resolve().parents[1]
CONNECTIONS = 256
PROBLEMS, OF_EACH, SOLUTION_TOKENS, META_TOKENS = 128, 16, 6251, 2293


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=int, default=64, help="divides the length of each synthetic rollout")
    parser.add_argument("--before", help="a commit; compare two processes that share a step's groups with it")
    parser.add_argument("--whole-scale", type=int, default=1, help="divides the lengths there")
    arguments = parser.parse_args()
    if arguments.before:
        _show_processes(arguments.before, arguments.whole_scale)
        return
    _show_logprobs(arguments.scale)
    _show_connections()
    _show_dealing()


def _show_logprobs(scale: int) -> None:
    lengths = [SOLUTION_TOKENS // scale, META_TOKENS // scale] * (PROBLEMS * OF_EACH)
    print("| vLLM's log-probs, all of a step | microseconds a token | bytes a token | seconds of 17.5 million tokens |")
    print("| --- | --- | --- | --- |")
    for name, outputs in {"a mapping a token": _mapped, "flat lists": _flat}.items():
        seconds, held = _measured(lambda outputs=outputs: [_rollout(outputs(length)) for length in lengths])  # type: ignore[misc]
        tokens = sum(lengths)
        print(f"| {name} | {seconds / tokens * 1e6:.2f} | {held / tokens:.0f} | {seconds / tokens * 17.5e6:.0f} |")
    print()


def _rollout(output: Any) -> tuple[Any, Any]:
    """The output, which vLLM holds until the batch is done at the latest, and the rollout made of it."""
    return output, finished_rollout(RolloutRequest("p", "solution", (1,), (0,), 10**6), 0, output, 0, 0.0)


def _mapped(length: int) -> Any:
    from vllm.logprobs import create_sample_logprobs

    return _output(length, create_sample_logprobs(False))


def _flat(length: int) -> Any:
    from vllm.logprobs import create_sample_logprobs

    return _output(length, create_sample_logprobs(True))


def _output(length: int, logprobs: Any) -> Any:
    """As vLLM's `LogprobsProcessor` fills it, a token after the other."""
    from vllm.logprobs import append_logprobs_for_next_position

    tokens = [token % 50_000 + 300 for token in range(length)]
    for token in tokens:
        append_logprobs_for_next_position(logprobs, [token], [-0.1 * (token % 7)], [None], token % 5 + 1, 0)
    completion = SimpleNamespace(token_ids=tokens, logprobs=logprobs, finish_reason="stop")
    return SimpleNamespace(outputs=[completion])


def _measured(make: Callable[[], Any]) -> tuple[float, int]:
    """CPU-seconds, and bytes that are held afterwards, each in a run of its own."""
    gc.collect()
    start = time.process_time()
    made = make()
    seconds = time.process_time() - start
    del made
    gc.collect()
    tracemalloc.start()
    made = make()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del made
    return seconds, held


class _Polling(Dispatcher):
    """Threads that look for work five times a second, as they did."""

    def take(self, server: str) -> int | None:
        with self._changed:
            while self._open and self._error is None:
                if self._may_work(server):
                    for queue, sample in self._candidates(server):
                        if self._may_make(server, sample):
                            queue.remove(sample)
                            return sample
                self._changed.wait(0.2)
            return None


def _show_connections() -> None:
    print("| servers | connections | CPU-seconds a second, polling | event-driven |")
    print("| --- | --- | --- | --- |")
    for servers in (2, 8):
        busy = " | ".join(f"{_waiting(kind, servers):.3f}" for kind in (_Polling, Dispatcher))
        print(f"| {servers} | {servers * CONNECTIONS} | {busy} |")
    print()


def _waiting(kind: type[Dispatcher], servers: int) -> float:
    """What connections cost that wait for the last response of a batch, in CPU-seconds a second."""
    names = [f"server {number}" for number in range(servers)]
    dispatcher = kind([1], names, lambda _: True)
    assert dispatcher.take(names[0]) == 0
    threads = [threading.Thread(target=dispatcher.take, args=(name,)) for name in names for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    dispatcher.wait(0.5)
    cpu, start = time.process_time(), time.perf_counter()
    while time.perf_counter() < start + 5:
        dispatcher.wait(0.5)
    found = (time.process_time() - cpu) / (time.perf_counter() - start)
    dispatcher.abort(RuntimeError("measured"))
    for thread in threads:
        thread.join()
    return found


def _show_dealing() -> None:
    print("| processes | by number | by predictions that are right | off by 0.3 | off by 0.6 |")
    print("| --- | --- | --- | --- | --- |")
    for processes in (8, 64):
        cells = [
            statistics.fmean(_slowest(processes, error, seed) for seed in range(20)) for error in (None, 0, 0.3, 0.6)
        ]
        print(f"| {processes} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")


def _slowest(processes: int, error: float | None, seed: int) -> float:
    """The most tokens that a process has to sample, by the mean; without ``error`` problems are dealt by number."""
    generator = random.Random(seed)
    tokens = {str(number): sum(one.solutions) for number, one in enumerate(draw(Job(), False, seed))}
    predicted = []
    for id, total in tokens.items():
        length = round(total / OF_EACH * generator.lognormvariate(0, error or 0))
        predictions = (MetaPrediction(length=length),) if error is not None else ()
        predicted.append(PredictedProblem(Problem(id, id, "1"), (), predictions))
    order = [one.problem for one in predicted] if error is None else dealt(predicted, 10**6, processes)
    loads = [sum(tokens[one.id] for one in order[process::processes]) for process in range(processes)]
    return max(loads) * processes / sum(loads)


STAGES = ("gather", "rows", "divide", "collate", "statistics")
# What a process does for its own rollouts; the rest it does for all of them, however many processes there are.
OF_ITS_OWN = ("own rollouts", "collate")


def _show_processes(commit: str, scale: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit, "masa"], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        sides = {f"at {commit}": _on_two_processes(Path(folder), scale), "now": _on_two_processes(ROOT, scale)}
    print(f"| of a process, the larger of two | {' | '.join(sides)} |")
    print("| --- | --- | --- |")
    for stage in STAGES:
        print(f"| {stage}, CPU-seconds | " + " | ".join(f"{one[f'{stage}, s']:.2f}" for one in sides.values()) + " |")
    for name, key in (
        ("its own rollouts and texts, MB", "own rollouts, held"),
        ("held after gathering, MB", "gather, held"),
        ("peak, MB", "statistics, peak"),
        ("gathered from each process, MB", "gathered, bytes"),
        ("fetched for training, MB", "fetched, bytes"),
    ):
        print(f"| {name} | " + " | ".join(f"{one[key] / 1e6:.1f}" for one in sides.values()) + " |")
    print()
    print("| processes | seconds before | seconds now | peak before, MB | peak now, MB |")
    print("| --- | --- | --- | --- | --- |")
    for processes in (2, 8, 64):
        cells = [_extrapolated(one, processes) for one in sides.values()]
        seconds, peaks = ([f"{cell[index]:.{2 - 2 * index}f}" for cell in cells] for index in (0, 1))
        print(f"| {processes} | {' | '.join(seconds)} | {' | '.join(peaks)} |")


def _extrapolated(found: dict[str, float], processes: int) -> tuple[float, float]:
    """CPU-seconds and peak megabytes of one of so many processes: what it does for its own rollouts, divided."""
    share = 2 / processes
    seconds = sum(found[f"{stage}, s"] * (share if stage in OF_ITS_OWN else 1) for stage in STAGES)
    own = found["own rollouts, held"] + found["fetched, bytes"]
    return seconds, (found["statistics, peak"] - own * (1 - share)) / 1e6


def _on_two_processes(tree: Path, scale: int) -> dict[str, float]:
    """The larger figure of the two processes, with the package of ``tree``."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(ROOT / "scripts" / "bookkeeping_ranks.py"), out, str(scale)]
        ranks = [
            subprocess.Popen(
                command,
                env={**os.environ, **shared, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
                | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]
        if any(rank.wait() for rank in ranks):
            raise SystemExit("a process of the measurement failed; what it said stands above")
        found = [json.loads((Path(out) / f"rank-{rank}.json").read_text()) for rank in range(2)]
    return {name: max(one[name] for one in found) for name in found[0]}


if __name__ == "__main__":
    main()

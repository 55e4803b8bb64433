"""Parts that are whole runs, started as users start them: ``python -m masa.train``, also by ``accelerate launch``."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

_SMALL = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=4",
    "problems.limit=64",
    "problems.eval_limit=8",
    "evaluation.num_samples=1",
    "evaluation.num_metas=1",
    "rewards.verifier_workers=1",
    "rollout.engine=transformers",
    "rollout.check_every=1",
    "tracking.figures=false",
)
# Kernels that give other last bits each time are left out, so that two runs can be compared bit for bit.
_DETERMINISTIC = (
    "import sys, torch; torch.use_deterministic_algorithms(True, warn_only=True); "
    "from masa.train import main; sys.exit(main(sys.argv[1:]))"
)


def quickstart(size: str, folder: Path) -> dict[str, Any]:
    """Three steps of the quickstart, evaluation and checkpoint included."""
    run, started = folder / "run", time.perf_counter()
    # The engine that every machine has; vLLM is a part of its own.
    options = ("rollout.engine=transformers",) if size == "gpu" else _SMALL
    _finish([sys.executable, "-m", *_train(run, 3), *options])
    rows = _rows(run, 3)
    return {
        "run_seconds": time.perf_counter() - started,
        "seconds_a_step": rows[-1]["time/step"],
        "accuracy": rows[-1].get("eval/accuracy", "not evaluated"),
    }


def resume(size: str, folder: Path) -> dict[str, Any]:
    """A run that is killed after its second step and resumed has the metrics and weights of one that was not."""
    options = [*_SMALL, "checkpoint.every=1", "model.attention=eager", "model.liger_kernel=off"]
    command = [sys.executable, "-c", _DETERMINISTIC, *_train(folder / "whole", 4)[1:], *options]
    _finish(command)
    killed = [sys.executable, "-c", _DETERMINISTIC, *_train(folder / "killed", 4)[1:], *options]
    _kill_after_step(killed, folder, 2)
    _finish([*killed, "--resume"])
    whole, resumed = _rows(folder / "whole", 4), _rows(folder / "killed", 4)
    different = [
        f"step {a['step']}: {key} {a[key]!r} and {b.get(key)!r}"
        for a, b in zip(whole, resumed, strict=True)
        for key in a
        if not key.startswith("time/") and a[key] != b.get(key)
    ]
    if different:
        raise AssertionError(f"{len(different)} metrics differ, first {different[0]}")
    files = [_weights(folder / name) for name in ("whole", "killed")]
    if files[0] != files[1]:
        raise AssertionError("the metrics are equal, weights or optimiser of the last checkpoint are not")
    return {"metrics": "equal", "weights_and_optimiser": "equal bit for bit"}


def zero2(size: str, folder: Path) -> dict[str, Any]:
    """The shipped launch file for ZeRO 2 with one process."""
    return _zero(size, folder, "node_zero2.yaml")


def zero3(size: str, folder: Path) -> dict[str, Any]:
    """The shipped launch file for ZeRO 3 with one process."""
    return _zero(size, folder, "node_zero3.yaml")


def _zero(size: str, folder: Path, launch_file: str) -> dict[str, Any]:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"configs/accelerate/{launch_file}"]
    launch += ["--num_processes", "1", "--main_process_port", "0"]
    run = folder / "run"
    options = [*_SMALL, "model.dtype=bfloat16", "evaluation.every=0"]
    _finish([*launch, "-m", *_train(run, 2), *options])
    rows = _rows(run, 2)
    answer = folder / "update.json"
    _finish([*launch, "-m", "acceptance.zero_update", size, str(answer)])
    return {
        "run_seconds_a_step": rows[-1]["time/step"],
        "run_difference_nats": rows[-1]["rollout/check_difference"],
        **json.loads(answer.read_text()),
    }


def _train(run: Path, steps: int) -> list[str]:
    """The arguments of ``python -m``."""
    return ["masa.train", "--config", "configs/quickstart.yaml", f"run.dir={run}", f"run.steps={steps}"]


def _finish(command: Sequence[str]) -> None:
    """Run to the end; the part fails with what a failed command said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment(), text=True)
    print(done.stdout)
    if done.returncode:
        raise AssertionError(f"{_name(command)} ended with exit code {done.returncode}: {_reason(done.stdout)}")


def _reason(output: str) -> str:
    """The line that says why, rather than the launcher's own that it ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [line for line in lines if ("Error" in line or line.startswith("masa:")) and "ChildFailed" not in line]
    return (said or lines or ["nothing was printed"])[-1]


def _kill_after_step(command: Sequence[str], folder: Path, step: int) -> None:
    metrics = folder / "killed" / "metrics.jsonl"
    with (folder / "killed.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=_environment())
    # The runner's limit ends a wait that is in vain.
    while not (metrics.exists() and f'"step":{step},' in metrics.read_text().replace(" ", "")):
        if process.poll() is not None:
            print((folder / "killed.log").read_text())
            raise AssertionError(f"the run that was to be killed ended with exit code {process.returncode} by itself")
        time.sleep(0.02)
    process.kill()
    process.wait()


def _rows(run: Path, steps: int) -> list[dict[str, Any]]:
    """The metrics of every step, all of them finite."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "policy/loss" in row]
    if not trained or rows[-1]["step"] != steps:
        raise AssertionError(f"the metrics end with step {rows[-1]['step'] if rows else 'none'}, expected {steps}")
    for row in trained:
        if not math.isfinite(row["policy/loss"]) or row["policy/skipped_updates"]:
            raise AssertionError(f"step {row['step']}: loss {row['policy/loss']}, an update was dropped")
    return rows


def _weights(run: Path) -> list[bytes]:
    newest = max((run / "checkpoints").glob("*/"), key=lambda one: one.name)
    return [one.read_bytes() for one in sorted(newest.rglob("*.safetensors"))]


def _name(command: Sequence[str]) -> str:
    modules = [after for before, after in pairwise(command) if before == "-m"]
    return " ".join(modules) or "masa.train"


def _environment() -> dict[str, str]:
    # cuBLAS gives the same bits each time only with a workspace of its own.
    return {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

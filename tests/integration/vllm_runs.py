"""Small engines and small whole runs with vLLM."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from small_policies import small_qwen3

from masa.config import load_config
from masa.rollout.factory import make_engine
from masa.tracking.keys import is_timing

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SMALL = (
    "rollout.kv_cache_gb=0.2",
    "rollout.max_batch_size=64",
    "rollout.check_every=1",
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=4",
    "problems.limit=64",
    "problems.eval_limit=8",
    "evaluation.every=2",
    "checkpoint.every=1",
    "rewards.verifier_workers=1",
    "tracking.figures=false",
    "run.threads=1",
)


ENGINE = ("rollout.engine=vllm", "rollout.kv_cache_gb=0.2", "rollout.max_batch_size=64")


def make_policy(*, tied: bool = True, seed: int = 0, **changes: int) -> Any:
    """A random Qwen3 policy that vLLM's CPU build supports; ``changes`` are of its configuration."""
    shape = {
        "vocab_size": 203,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 1024,
    }
    return small_qwen3(seed=seed, tie_word_embeddings=tied, **{**shape, **changes})


def make_vllm_engine(policy: Any, stop: int, *settings: str) -> Any:
    """A small in-process engine that has the policy's weights."""
    return make_engine(load_config(None, [*ENGINE, *settings]).rollout, policy, stop_ids=[stop])


def peak_memory(action: Callable[[], object]) -> int:
    """By how many bytes this process's resident memory rose at most while ``action`` ran (Linux)."""

    def status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    action()
    return status("VmHWM") - before


def start(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A run of the embedded world in ``folder``; what it prints goes to ``folder``.log."""
    command = [sys.executable, "-m", "masa.train", "--config", str(QUICKSTART), *SMALL, f"run.dir={folder}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with folder.with_suffix(".log").open("ab") as log:
        # A shell that runs tests in its background ignores Ctrl-C, and so would all that they start.
        listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, preexec_fn=listening)


def train(folder: Path, *arguments: str) -> None:
    """A run from beginning to end."""
    assert start(folder, *arguments).wait() == 0, said(folder)


def said(folder: Path) -> str:
    return folder.with_suffix(".log").read_text(errors="replace")[-3000:]


def wait_for_step(process: "subprocess.Popen[bytes]", folder: Path, step: int, seconds: float = 700.0) -> None:
    """Return as soon as the metrics of ``step`` are on disk."""
    deadline = time.monotonic() + seconds
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and f'"step":{step},' in metrics.read_text().replace(" ", "")):
        assert process.poll() is None, f"the run ended before step {step}: {said(folder)}"
        assert time.monotonic() < deadline, f"step {step} was not reached in time"
        time.sleep(0.01)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run, without what the clock says."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


def of_rollouts(row: dict[str, Any], *without: str) -> dict[str, Any]:
    """What a step's metrics say of its samples, their rewards and what was learned from them; nothing of engines."""
    groups = tuple(group for group in ("reward/", "meta/", "cost/", "control/", "policy/") if group not in without)
    engines = ("reward/verifier", "policy/engine")  # of log-probs in their last bits
    return {key: value for key, value in row.items() if key.startswith(groups) and not key.startswith(engines)}


def gone(processes: list[psutil.Process], seconds: float = 30.0) -> bool:
    """Whether all of ``processes`` end within ``seconds``."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]

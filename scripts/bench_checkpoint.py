"""Seconds that saving and resuming take on two processes, with this code and with an earlier commit, in one run.

    python scripts/bench_checkpoint.py --before b2dc5a7 [--rounds 3] [--launch cpu_zero3] [--layers 12] [--processes 2]

A Qwen3 with random weights in bfloat16 trains a few steps of the quickstart's problems under ``accelerate launch``,
with a checkpoint after each, and is resumed from the last. What is timed is the session's save and restore on the first
process, from where all processes stand together to where they do again; a restore includes giving the engine its
weights. The package as it was at the earlier commit comes out of git; the two sides run in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What ``accelerate launch`` starts on each process: `masa.train` with two methods that are timed.
TIMED = """
import json, os, sys, time
from masa.session import Session
from masa import train

def timed(name):
    method = getattr(Session, name)
    def call(self, *arguments, **options):
        self.accelerator.wait_for_everyone()
        started = time.perf_counter()
        answer = method(self, *arguments, **options)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            with open(os.environ["BENCH_OUT"], "a") as file:
                file.write(json.dumps([name, time.perf_counter() - started]) + chr(10))
        return answer
    setattr(Session, name, call)

timed("save")
timed("restore")
if __name__ == "__main__":
    sys.exit(train.main(sys.argv[1:]))
"""
SMALL = (
    "problems.limit=16",
    "problems.eval=null",
    "algorithm.num_problems=2",
    "algorithm.num_solutions=2",
    "algorithm.num_metas=2",
    "rollout.max_solution_tokens=8",
    "rollout.max_meta_tokens=8",
    "rollout.check_at_start=false",
    "rewards.verifier_workers=1",
    # A term that always has a gradient: an optimiser that never took a step has no moments to save.
    "algorithm.entropy_coefficient=0.01",
    "checkpoint.every=1",
    "checkpoint.keep=1",
    "tracking.figures=false",
    "run.threads=1",
)


def make_model(folder: Path, layers: int) -> int:
    """Write a Qwen3 with random weights and the embedded world's tokenizer; its number of parameters."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from masa.embedded import load_embedded_tokenizer

    tokenizer = load_embedded_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def measure(package: Path, model: Path, work: Path, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each save of a run, of the restore when it goes on, and the gigabytes of a checkpoint."""
    run, out, script = work / "run", work / "seconds.jsonl", work / "timed.py"
    script.write_text(TIMED, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(package), "BENCH_OUT": str(out), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    launch += [f"configs/accelerate/{arguments.launch}.yaml", "--main_process_port", "0"]
    launch += ["--num_processes", str(arguments.processes), "--mixed_precision", "bf16", str(script)]
    options = ["--config", "configs/quickstart.yaml", *SMALL, f"model.path={model}", f"run.dir={run}"]
    for more in (["run.steps=2"], ["run.steps=3", "--resume"]):
        done = subprocess.run([*launch, *options, *more], capture_output=True, text=True, env=environment, cwd=package)
        if done.returncode:
            sys.exit(f"the side at {package} failed:\n{done.stderr[-4000:]}")
    found: dict[str, list[float]] = {"save": [], "restore": []}
    for line in out.read_text(encoding="utf-8").splitlines():
        name, seconds = json.loads(line)
        found[name].append(seconds)
    newest = max((run / "checkpoints").glob("step_*"))
    found["gigabytes"] = [sum(path.stat().st_size for path in newest.rglob("*") if path.is_file()) / 1e9]
    return found


def row(name: str, sides: list[list[dict[str, list[float]]]]) -> str:
    """A line of the table: median seconds a gigabyte with the smallest and largest, before and now, and their ratio."""
    cells, medians = [], []
    for rounds in sides:
        each = [seconds / one["gigabytes"][0] for one in rounds for seconds in one[name]]
        medians.append(statistics.median(each))
        cells.append(f"{medians[-1]:.2f} ({min(each):.2f} to {max(each):.2f}, {len(each)} times)")
    return f"| {name} | {' | '.join(cells)} | {medians[1] / medians[0]:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument("--launch", default="cpu_zero3", help="a file of configs/accelerate, without .yaml")
    parser.add_argument("--layers", type=int, default=12, help="layers of 12.6 million parameters each")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        earlier = folder / "earlier"
        earlier.mkdir()
        git: Any = ["git", "archive", arguments.before, "masa", "configs"]
        archive = subprocess.run(git, cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(earlier)], input=archive, check=True)
        parameters = make_model(folder / "model", arguments.layers)
        sides: list[list[dict[str, list[float]]]] = [[], []]
        for number in range(arguments.rounds):
            for side, package in zip(sides, (earlier, ROOT), strict=True):
                with tempfile.TemporaryDirectory(dir=folder) as work:
                    side.append(measure(package, folder / "model", Path(work), arguments))
                print(f"round {number + 1}: {side[-1]}", file=sys.stderr, flush=True)
    size = sides[1][0]["gigabytes"][0]
    print(
        f"{parameters / 1e6:.0f} million parameters, {arguments.launch}, {arguments.processes} processes, {size:.2f} GB"
    )
    print(f"| seconds a GB | at {arguments.before} | now | ratio |")
    print("| --- | --- | --- | --- |")
    for name in ("save", "restore"):
        print(row(name, sides))


if __name__ == "__main__":
    main()

"""Seconds of a step of MASA-efficient beside the engine's own, with this code and with an earlier commit, in one run.

    python scripts/bench_flow.py --before ff1197d [--steps 4] [--latency 0.2] [--lanes 64] [--engine transformers]

``configs/quickstart_efficient.yaml`` with its controls at work from the first step. The verifier takes ``--latency``
seconds an answer, and answers ``--lanes`` questions at a time. The engine's own seconds are those inside of it (calls
of ``generate``, or of a stream's ``take``); a step that waits for nothing takes no more than these and the update. Then
the last step's requests are sampled once more, in one call: what metas that go first cost the engine.
The package as it was at the earlier commit comes out of git; the two sides run by turns.
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
# What each side runs: a training run whose verifier is late and whose engine is timed, whatever its interface.
TIMED = """
import json, math, sys, time
import masa.session
from masa import Callback, MASATrainer, load_config
from masa.rewards import VerifierPool
from masa.rollout.transformers.engine import TransformersEngine
from masa.rollout.vllm.engine import VllmEngine

latency, lanes, steps, out = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
busy, asked, engines, rows, again = {}, [], [], [], {}
verify, make_engine = VerifierPool.verify, masa.session.make_engine

def late(self, items):
    answered = verify(self, items)
    time.sleep(latency * math.ceil(len(items) / lanes))
    return answered

def noted_engine(*arguments, **options):
    engines.append(make_engine(*arguments, **options))
    return engines[-1]

def wrap(owner, name, *, times, notes):
    method = getattr(owner, name)
    def call(self, *arguments, **options):
        if notes:
            asked.extend(arguments[0])
        wall, cpu = time.perf_counter(), time.process_time()
        found = method(self, *arguments, **options)
        if times:
            busy["wall"] += time.perf_counter() - wall
            busy["cpu"] += time.process_time() - cpu
        return found
    setattr(owner, name, call)

class Rows(Callback):
    def on_step_begin(self, run):
        busy.update(wall=0.0, cpu=0.0)
        asked.clear()

    def on_rollouts(self, run):
        self.busy, requests = dict(busy), list(asked)
        if run.step == steps:
            cpu = time.process_time()
            groups = engines[0].generate(requests)
            again["cpu"] = time.process_time() - cpu
            again["tokens"] = sum(len(one.token_ids) for group in groups for one in group)

    def on_step_end(self, run):
        found = {name: run.metrics.get("time/" + name, 0.0) for name in ("step", "rollout", "verify", "update", "sync")}
        # Cloned experts are an update as well.
        found["update"] += run.metrics.get("time/clone", 0.0)
        tokens = run.metrics["cost/tokens_generated"]
        rows.append({**found, "tokens": tokens, "busy": self.busy["wall"], "cpu": self.busy["cpu"]})

VerifierPool.verify = late
masa.session.make_engine = noted_engine
busy.update(wall=0.0, cpu=0.0)
try:
    from masa.rollout.transformers.stream import TransformersStream
    from masa.rollout.vllm.stream import VllmStream
except ImportError:
    for engine in (TransformersEngine, VllmEngine):
        wrap(engine, "generate", times=True, notes=True)
else:
    for stream in (TransformersStream, VllmStream):
        wrap(stream, "take", times=True, notes=False)
        wrap(stream, "submit", times=True, notes=True)
config = load_config("configs/quickstart_efficient.yaml", sys.argv[5:])
MASATrainer(config, callbacks=[Rows()]).train()
with open(out, "w") as file:
    json.dump({"rows": rows[1:-1], "last": rows[-1], "again": again}, file)
"""
OPTIONS = (
    "controls.stabilised.after_step=0",
    "controls.gating.start=open",
    "controls.gating.audit_share=0.0",
    "problems.eval=null",
    "problems.limit=256",
    "rollout.check_at_start=false",
    "checkpoint.contents=model",
    "tracking.figures=false",
    "run.threads=1",
)


def measure(package: Path, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """What one side's run has noted; the first step, in which much is done for the first time, is left out."""
    script, out = work / "timed.py", work / "seconds.json"
    script.write_text(TIMED, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    numbers = [str(arguments.latency), str(arguments.lanes), str(arguments.steps), str(out)]
    options = [*OPTIONS, f"run.dir={work / 'run'}", f"run.steps={arguments.steps}", *arguments.options]
    command = [sys.executable, str(script), *numbers, *options, f"rollout.engine={arguments.engine}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package)
    if done.returncode:
        sys.exit(f"the side at {package} failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def line(name: str, found: dict[str, Any]) -> str:
    """A line of the table: medians over steps, and the same requests in one call."""
    rows = found["rows"]
    step, busy, update, verify = (
        statistics.median(row[key] for row in rows) for key in ("step", "busy", "update", "verify")
    )
    needed = statistics.median(row["step"] / (row["busy"] + row["update"]) for row in rows)
    last, again = found["last"], found["again"]
    cells = [f"{one:.2f}" for one in (step, busy, update, verify, needed)]
    one_call = f"{last['cpu']:.2f} | {again['cpu']:.2f} | {last['cpu'] / again['cpu']:.2f}"
    return f"| {name} | {' | '.join(cells)} | {one_call} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, help="the commit to compare with")
    parser.add_argument("--steps", type=int, default=6, help="steps of each run; at least 3")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that an answer takes to verify")
    parser.add_argument("--lanes", type=int, default=64, help="answers that are verified at a time")
    parser.add_argument("--engine", default="transformers", choices=("transformers", "vllm"))
    parser.add_argument("options", nargs="*", help="key=value, of the configuration")
    arguments = parser.parse_args()
    print("| side | step, s | engine, s | update, s | waited for verdicts, s | step / (engine + update)", end="")
    print(" | engine, CPU-s | in one call | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        earlier = Path(name) / "earlier"
        earlier.mkdir()
        git = ["git", "archive", arguments.before, "masa", "configs"]
        archive = subprocess.run(git, cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(earlier)], input=archive, check=True)
        for side, package in (("before", earlier), ("now", ROOT)):
            with tempfile.TemporaryDirectory(dir=name) as work:
                print(line(side, measure(package, Path(work), arguments)), flush=True)


if __name__ == "__main__":
    main()

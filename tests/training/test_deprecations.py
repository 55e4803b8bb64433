"""What `transformers` calls deprecated is not called by a run from its start to its resumption."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from small_run import QUICKSTART, SMALL

# Warnings, and what transformers logs once a process, of a whole run; one that names no culprit counts as ours.
_PROGRAM = """
import logging, sys, warnings

class Kept(logging.Handler):
    def emit(self, record):
        if "deprecat" in record.getMessage().lower():
            print("deprecated:", record.getMessage().replace("\\n", " "))

logging.getLogger("transformers").addHandler(Kept())
shown = warnings.showwarning

def show(message, category, filename, *rest):
    own = "/masa/" in filename or "transformers" in str(message)
    if own and issubclass(category, (FutureWarning, DeprecationWarning)):
        print("deprecated:", str(message).replace("\\n", " "))

warnings.simplefilter("always")
warnings.showwarning = show
from masa import MASATrainer, load_config

config = load_config(sys.argv[1], sys.argv[2:])
with MASATrainer(config) as trainer:
    list(trainer.steps(1))
    trainer.predict("Find the sum: a=1, b=2.")
MASATrainer(config).train(resume=True)
print("done")
"""


def test_a_run_calls_nothing_that_transformers_calls_deprecated(tmp_path: Path) -> None:
    few = ["run.steps=2", "evaluation.every=1", "model.gradient_checkpointing=true", f"run.dir={tmp_path / 'run'}"]
    tiny = ["rollout.max_solution_tokens=32", "rollout.max_meta_tokens=32", "tracking.figures=false"]
    command = [sys.executable, "-c", _PROGRAM, str(QUICKSTART), *SMALL, *few, *tiny]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
    assert [line for line in done.stdout.splitlines() if line.startswith("deprecated:")] == []

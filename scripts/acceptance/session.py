"""One acceptance: what the machine has, then part after part within a total time."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from acceptance.catalogue import Part
from acceptance.runner import Result, run_isolated

ROOT = Path(__file__).resolve().parents[2]
_MACHINE = Part("machine", "versions and devices", "acceptance.machine:describe", 0, 120, ())
# Set by launchers, and then believed by whatever is started here.
_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Acceptance:
    """Runs ``parts`` within ``seconds``.

    Args:
        parts: in the order in which they are tried.
        seconds: for all of them together; those that do not fit are reported as not run.
        on_cpu: hide the GPUs.
    """

    def __init__(self, parts: Sequence[Part], *, seconds: float, on_cpu: bool = False) -> None:
        self.parts = list(parts)
        self.seconds = seconds
        self.machine: dict[str, Any] = {}
        self._on_cpu = on_cpu

    @property
    def size(self) -> str:
        """``gpu``, or ``cpu`` for small sizes without one."""
        return "gpu" if self.machine.get("gpus") else "cpu"

    def run(self) -> Iterator[list[Result]]:
        """All results so far, after each part; the first is of the look at the machine itself."""
        deadline = time.monotonic() + self.seconds
        with tempfile.TemporaryDirectory(prefix="masa-acceptance-") as folder:
            looked = self._run(_MACHINE, _MACHINE.limit, Path(folder))
            self.machine = looked.figures
            results = [looked if looked.status == "failed" else Result("machine", "passed", looked.seconds, self._is())]
            yield results
            for part in self.parts:
                results = [*results, self._try(part, deadline, Path(folder))]
                yield results

    def _is(self) -> str:
        found = self.machine
        device = f"{found['gpus']} x {found['device']}" if found["gpus"] else "no GPU: rehearsed on the CPU"
        return f"{device}, torch {found['versions'].get('torch', 'not installed')}"

    def _try(self, part: Part, deadline: float, folder: Path) -> Result:
        installed = frozenset(name for name in part.packages if importlib.util.find_spec(name) is not None)
        missing = part.missing(installed, int(self.machine.get("gpus", 0)))
        if missing:
            return Result(part.name, "skipped", reason=missing)
        left = deadline - time.monotonic()
        if left < part.expected:
            return Result(part.name, "not run", reason=f"time: {max(left, 0):.0f} s left of {self.seconds:.0f}")
        result = self._run(part, min(part.limit, left), folder)
        if left < part.limit and result.seconds >= left:
            return Result(part.name, "not run", result.seconds, "time: stopped where the total ended", log=result.log)
        return result

    def _run(self, part: Part, seconds: float, folder: Path) -> Result:
        own = folder / part.name
        own.mkdir()
        command = [sys.executable, "-m", "acceptance.child", part.run, self.size, str(own)]
        return run_isolated(
            part.name,
            command,
            seconds=seconds,
            folder=folder,
            environment=self._environment(),
            working_directory=ROOT,
        )

    def _environment(self) -> dict[str, str]:
        """What parts and all that they start are given: masa from this checkout, no hub, no launcher's leftovers."""
        kept = {name: value for name, value in os.environ.items() if name not in _LAUNCHERS}
        paths = [str(ROOT), str(ROOT / "scripts"), *filter(None, [kept.get("PYTHONPATH")])]
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self._on_cpu else {}
        return {
            **kept,
            **hidden,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "disabled",
        }

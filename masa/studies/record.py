"""What a study keeps of a finished run: one small JSON file, from which all tables and figures are made."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masa.studies.plan import PlannedRun
from masa.tracking import keys
from masa.tracking.jsonl import plain, read_rows
from masa.tracking.windows import even_windows

# What is compared at equal amounts, and the metric that says how much a step spent of it.
COSTS = {
    "tokens": keys.TOKENS_GENERATED,
    "trained_tokens": keys.TOKENS_TRAINED,
    "flops": keys.FLOPS,
    "seconds": keys.STEP_SECONDS,
}
# Sums over the run that tables show.
TOTALS = (
    "cost/solution_tokens",
    "cost/meta_tokens",
    "cost/problems_drawn",
    "cost/problems_gated",
    "time/rollout",
    "time/update",
)
PARTS = 10


class RecordError(ValueError):
    """A record that cannot be used; the message names its file."""


@dataclass(frozen=True)
class Record:
    """One run: its options, where it ran, and its course.

    ``steps`` are those of the held-out evaluations, with the ``accuracy`` found there and what had been ``spent`` by
    then, for each of `COSTS`; what evaluations themselves cost is left out. ``course`` holds the means of the other
    metrics over each tenth of the run. ``flat_tokens`` estimates the solution tokens of groups of equal rewards, by
    their share of each step's groups.
    """

    study: str
    arm: str
    seed: int
    fingerprint: str
    options: dict[str, Any]
    environment: dict[str, Any]
    steps: list[int]
    accuracy: list[float]
    spent: dict[str, list[float]]
    totals: dict[str, float]
    flat_tokens: float
    course: dict[str, list[float | None]]


def make_record(run: PlannedRun, folder: Path) -> Record:
    """The record of a finished run directory."""
    rows = read_rows(folder / "metrics.jsonl")
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    steps: list[int] = []
    accuracy: list[float] = []
    spent: dict[str, list[float]] = {name: [] for name in COSTS}
    so_far = dict.fromkeys(COSTS, 0.0)
    for row in rows:
        for name, key in COSTS.items():
            so_far[name] += row.get(key) or 0.0
        if row.get(keys.HELD_OUT_ACCURACY) is not None:
            steps.append(int(row["step"]))
            accuracy.append(row[keys.HELD_OUT_ACCURACY])
            for name in COSTS:
                spent[name].append(round(so_far[name], 3))
    return Record(
        study=run.study,
        arm=run.arm,
        seed=run.seed,
        fingerprint=run.fingerprint,
        options=run.differences,
        environment=_environment(environment),
        steps=steps,
        accuracy=accuracy,
        spent=spent,
        totals={key: round(math.fsum(row.get(key) or 0.0 for row in rows), 3) for key in TOTALS}
        | {name: round(so_far[name], 3) for name in COSTS},
        flat_tokens=round(math.fsum(_flat_tokens(row) for row in rows), 1),
        course=_course(rows),
    )


def write_record(record: Record, path: Path) -> None:
    """Write a record so that a kill leaves the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".json.part")
    aside.write_text(json.dumps(plain(asdict(record)), indent=1) + "\n", encoding="utf-8")
    os.replace(aside, path)


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        RecordError: the file is none.
    """
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RecordError(f"{path} is no record of a run: {error}") from error


def _flat_tokens(row: Mapping[str, Any]) -> float:
    share = (row.get("rollout/solved_all") or 0.0) + (row.get("rollout/solved_none") or 0.0)
    return float((row.get("cost/solution_tokens") or 0.0) * share)


def _course(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Means over each tenth of the steps, of all metrics that are neither costs, times nor held-out."""
    trained = [row for row in rows if row["step"] > 0]
    names = sorted(
        {key for row in trained for key in row if key.startswith(("reward/", "rollout/", "meta/", "control/"))}
    )
    windows = even_windows(trained, PARTS)
    course: dict[str, list[float | None]] = {}
    for name in names:
        means: list[float | None] = []
        for window in windows:
            found = [row[name] for row in window if row.get(name) is not None]
            means.append(round(math.fsum(found) / len(found), 4) if found else None)
        course[name] = means
    return course


def _environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and machine, without the paths that a command line holds."""
    packages = environment.get("packages", {})
    return {
        "time": environment.get("time"),
        "python": environment.get("python"),
        "platform": environment.get("platform"),
        "cpu_count": environment.get("cpu_count"),
        "git": environment.get("git"),
        "packages": {
            name: packages[name] for name in ("masa-rl", "torch", "transformers", "numpy") if name in packages
        },
    }

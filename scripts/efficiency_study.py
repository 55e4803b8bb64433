"""What MASA-efficient costs and saves in the embedded world, beside plain GRPO and MASA, over several seeds.

    python scripts/efficiency_study.py --out runs/efficiency --seeds 0 1 2

Every run starts from the same warm-started policy and, for a seed, sees the problems in the same order. A run that has
finished is not repeated, and one that was interrupted is resumed, so the study can be stopped at any time, and split:
``--runs`` chooses among them, ``--report`` only writes the tables (``report.md`` and ``report.json`` in ``--out``).

The target of a seed is plain GRPO's final held-out accuracy, as the mean of its last two evaluations: one alone is too
noisy to aim at. A run has reached it where the moving mean over two evaluations first does. Tokens, FLOPs and seconds
are interpolated between evaluations, and what evaluations themselves cost is left out. GRPO is measured the same way.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
PLAIN, EFFICIENT = "quickstart", "quickstart_efficient"
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "grpo": ("quickstart_grpo", ()),
    "masa": (PLAIN, ()),
    "efficient": (EFFICIENT, ()),
    "efficient without gating": (EFFICIENT, ("controls.gating.enabled=false",)),
    "efficient without cutoff": (EFFICIENT, ("controls.cutoff.enabled=false",)),
    "efficient without expert": (EFFICIENT, ("controls.expert.enabled=false",)),
    "efficient without controls": (
        EFFICIENT,
        ("controls.gating.enabled=false", "controls.cutoff.enabled=false", "controls.expert.enabled=false"),
    ),
}
BASELINE = "grpo"
COSTS = {"tokens": "cost/tokens_generated", "flops": "cost/flops", "seconds": "time/step"}
ACCURACY = "eval/accuracy"
WINDOW = 2


@dataclass(frozen=True)
class Curve:
    """Held-out accuracy of one run against what had been spent by then."""

    steps: list[int]
    accuracy: list[float]
    spent: dict[str, list[float]]
    totals: dict[str, float]

    @property
    def final(self) -> float:
        return sum(self.accuracy[-WINDOW:]) / len(self.accuracy[-WINDOW:])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PROJECT / "runs" / "efficiency", help="folder of all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", nargs="+", choices=sorted(RUNS), default=list(RUNS))
    parser.add_argument("--report", action="store_true", help="start no run, write the tables of those that finished")
    parser.add_argument("overrides", nargs="*", help="section.key=value for every run; goes last, after --")
    options = parser.parse_args(arguments)
    if not options.report:
        for seed in options.seeds:
            for name in options.runs:
                run(options.out, name, seed, options.overrides)
    write_report(options.out, options.seeds)


def folder_of(out: Path, name: str, seed: int) -> Path:
    """Where a run lies."""
    return out / f"{name.replace(' ', '_')}-seed{seed}"


def run(out: Path, name: str, seed: int, overrides: Sequence[str]) -> None:
    """Train one run to its end, unless it is there already."""
    folder = folder_of(out.resolve(), name, seed)
    if (folder / "summary.json").exists():
        return
    config, changes = RUNS[name]
    command = [sys.executable, "-m", "masa.train", "--resume", "--config", f"configs/{config}.yaml"]
    settings = [f"run.dir={folder}", f"run.seed={seed}", "run.threads=1", "evaluation.every=10"]
    print(f"{name}, seed {seed}", flush=True)
    subprocess.run([*command, *settings, *changes, *overrides], check=True, cwd=PROJECT)


def read_curve(folder: Path) -> Curve:
    """The curve of a finished run."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    spent = dict.fromkeys(COSTS, 0.0)
    steps: list[int] = []
    accuracy: list[float] = []
    points: dict[str, list[float]] = {name: [] for name in COSTS}
    for row in rows:
        for name, key in COSTS.items():
            spent[name] += row.get(key) or 0.0
        if row.get(ACCURACY) is not None:
            steps.append(row["step"])
            accuracy.append(row[ACCURACY])
            for name in COSTS:
                points[name].append(spent[name])
    totals = {
        key: math.fsum(row.get(key) or 0.0 for row in rows)
        for key in (
            *COSTS.values(),
            "cost/solution_tokens",
            "cost/meta_tokens",
            "cost/problems_drawn",
            "cost/problems_gated",
            "time/meta_rollout",
            "time/solution_rollout",
            "time/rollout",
            "time/update",
            "time/clone",
        )
    }
    return Curve(steps, accuracy, points, totals)


def cost_to_reach(curve: Curve, target: float, name: str) -> float | None:
    """What had been spent where the moving mean of the accuracy first is at least ``target``; None if it never is."""
    windows = [curve.accuracy[max(0, at - WINDOW + 1) : at + 1] for at in range(len(curve.accuracy))]
    smooth = [math.fsum(window) / len(window) for window in windows]
    spent = curve.spent[name]
    for at, value in enumerate(smooth):
        if value >= target:
            if at == 0:
                return spent[0]
            share = (target - smooth[at - 1]) / (value - smooth[at - 1])
            return spent[at - 1] + share * (spent[at] - spent[at - 1])
    return None


def write_report(out: Path, seeds: Sequence[int]) -> None:
    """``report.md`` and ``report.json``: each run's final accuracy, cost, and cost to reach plain GRPO's accuracy."""
    found = {
        (name, seed): read_curve(folder_of(out, name, seed))
        for name in RUNS
        for seed in seeds
        if (folder_of(out, name, seed) / "summary.json").exists()
    }
    rows = [row for name in RUNS for row in _rows(name, seeds, found)]
    summary = [line for name in RUNS if (line := _summary(name, rows)) is not None]
    text = "\n".join(["# Efficiency in the embedded world", "", *_table(summary), "", *_table(rows), ""])
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(text)
    curves = {f"{name}/{seed}": asdict(curve) for (name, seed), curve in found.items()}
    (out / "report.json").write_text(json.dumps({"summary": summary, "runs": rows, "curves": curves}, indent=1))
    print(text)


def _rows(name: str, seeds: Sequence[int], found: dict[tuple[str, int], Curve]) -> list[dict[str, Any]]:
    rows = []
    for seed in seeds:
        curve, baseline = found.get((name, seed)), found.get((BASELINE, seed))
        if curve is None or baseline is None:
            continue
        row: dict[str, Any] = {"run": name, "seed": seed, "final accuracy": curve.final}
        for cost in COSTS:
            reached, needed = (cost_to_reach(one, baseline.final, cost) for one in (curve, baseline))
            row[f"{cost} to target"] = reached
            row[f"fewer {cost}"] = needed / reached if reached and needed else None
        totals = curve.totals
        row["all tokens"] = totals["cost/tokens_generated"]
        row["meta tokens"] = totals["cost/meta_tokens"]
        row["gated"] = totals["cost/problems_gated"] / totals["cost/problems_drawn"]
        row["all seconds"] = totals["time/step"]
        rows.append(row)
    return rows


def _summary(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Geometric means of the ratios over the seeds that reached the target, and how many did."""
    mine = [row for row in rows if row["run"] == name]
    if not mine:
        return None
    line: dict[str, Any] = {
        "run": name,
        "seeds": len(mine),
        "reached": sum(row["tokens to target"] is not None for row in mine),
        "final accuracy": sum(row["final accuracy"] for row in mine) / len(mine),
    }
    for cost in COSTS:
        ratios = [row[f"fewer {cost}"] for row in mine if row[f"fewer {cost}"]]
        line[f"fewer {cost}"] = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None
    for key in ("all tokens", "all seconds", "gated"):
        line[key] = sum(row[key] for row in mine) / len(mine)
    return line


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["No run has finished."]
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in (names, ["---"] * len(names), *cells)]


def _cell(value: Any) -> str:
    if value is None:
        return "never"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


if __name__ == "__main__":
    main()

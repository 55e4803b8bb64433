"""Measure the long world with plain GRPO alone: ``python -m masa.embedded.long.properties --config FILE``.

Trains the given configuration (without metas) once a seed, samples the policy before and after, and writes
``properties.json``. Nothing of a run with metas enters: the lengths of metas are those that the policies write when
asked, untrained on them. ``unmet`` says which of the bounds that the world was made for do not hold.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from masa.config import Config, ConfigError, load_config
from masa.embedded.long.measure import HINTS, open_sampler, summarize
from masa.embedded.long.problems import long_problems
from masa.embedded.warm_start import package_versions
from masa.tracking.jsonl import read_rows
from masa.tracking.windows import even_windows

PROPERTIES = Path(__file__).parent / "properties.json"
PROCESSOR_TIME = "processor_seconds_a_step.json"
G, M = 16, 8
WINDOWS = 5
MEASURED_PROBLEMS = 128
# What the world was made for: lowest and highest value allowed of each property.
BOUNDS: Mapping[str, tuple[float, float]] = {
    "parameters": (1e6, 4e6),
    "meta_share_lowest": (0.12, 0.18),
    "meta_share_highest": (0.12, 0.18),
    "flat_lowest": (0.35, 0.60),
    "flat_highest": (0.35, 0.60),
    "solved_all_lowest": (0.02, 1.0),
    "solved_none_lowest": (0.02, 1.0),
    "solved_all_change": (0.05, 1.0),
    "solved_none_change": (-1.0, -0.05),
    "final_accuracy": (0.5, 0.9),
    "rise_at_end": (0.01, 1.0),
    "shortest_percentile": (10, 60),
    "longest_percentile": (150, 999),
    "wrong_over_correct_length": (1.2, 10.0),
    "wrong_beyond_twice_usual": (0.05, 1.0),
    "gain_of_a_right_hint": (0.05, 1.0),
    "processor_seconds_a_step": (0.0, 4.8),
}


def measure(config: Path, seeds: Sequence[int], runs: Path) -> dict[str, Any]:
    """Train ``config`` with each seed in a folder of ``runs`` (finished runs are kept) and measure.

    Raises:
        ConfigError: the configuration has metas or controls.
    """
    checked = load_config(config)
    if checked.algorithm.meta:
        raise ConfigError(f"{config}: found algorithm.meta: true, allowed for these measurements: false")
    courses = [_course(_trained(config, seed, runs)) for seed in seeds]
    start = _sampled(checked, None)
    end = _sampled(checked, _final_checkpoint(_folder(config, seeds[0], runs)))
    # Between its first and last state, the policy's metas are taken to be of the mean length.
    meta_tokens = fmean((start["metas"]["tokens"], end["metas"]["tokens"]))
    windows = [
        {key: round(fmean(course["windows"][at][key] for course in courses), 4) for key in courses[0]["windows"][at]}
        for at in range(WINDOWS)
    ]
    for window in windows:
        window["meta_share"] = round(M * meta_tokens / (M * meta_tokens + G * window["solution_length"]), 4)
    found = {
        "command": f"python -m masa.embedded.long.properties --config {config} --seeds {' '.join(map(str, seeds))}",
        "versions": package_versions(),
        "machine": platform.platform(),
        "seeds": list(seeds),
        "start": start,
        "end": end,
        "windows": windows,
        "courses": courses,
    }
    return found | {"properties": _properties(found)}


def unmet(properties: Mapping[str, float]) -> list[str]:
    """The properties out of their bounds, in words."""
    return [
        f"{name} is {properties[name]}, wanted {low} to {high}"
        for name, (low, high) in BOUNDS.items()
        if not low <= properties[name] <= high
    ]


def _properties(found: Mapping[str, Any]) -> dict[str, float]:
    """The figures that `BOUNDS` speaks of, from what was measured."""
    windows, start, courses = found["windows"], found["start"], found["courses"]
    held_out = [list(course["held_out"].values()) for course in courses]
    return {
        "parameters": start["parameters"],
        "meta_share_lowest": min(one["meta_share"] for one in windows),
        "meta_share_highest": max(one["meta_share"] for one in windows),
        "flat_lowest": min(round(one["solved_all"] + one["solved_none"], 4) for one in windows),
        "flat_highest": max(round(one["solved_all"] + one["solved_none"], 4) for one in windows),
        "solved_all_lowest": min(one["solved_all"] for one in windows),
        "solved_none_lowest": min(one["solved_none"] for one in windows),
        "solved_all_change": round(windows[-1]["solved_all"] - windows[0]["solved_all"], 4),
        "solved_none_change": round(windows[-1]["solved_none"] - windows[0]["solved_none"], 4),
        "final_accuracy": round(fmean(fmean(one[-2:]) for one in held_out), 4),
        "rise_at_end": round(fmean(fmean(one[-2:]) - fmean(one[-4:-2]) for one in held_out), 4),
        "shortest_percentile": start["solutions"]["length_percentiles"]["1"],
        "longest_percentile": start["solutions"]["length_percentiles"]["99"],
        "wrong_over_correct_length": round(
            min(part["solutions"]["wrong_over_correct_length"] for part in (start, found["end"])), 4
        ),
        "wrong_beyond_twice_usual": min(
            part["solutions"]["wrong_beyond_twice_usual"] for part in (start, found["end"])
        ),
        "gain_of_a_right_hint": round(start["hints"]["right"]["pass_at_1"] - start["hints"]["none"]["pass_at_1"], 4),
        "processor_seconds_a_step": round(fmean(course["processor_seconds_a_step"] for course in courses), 2),
    }


def _folder(config: Path, seed: int, runs: Path) -> Path:
    return runs / f"{config.stem}-seed{seed}"


def _trained(config: Path, seed: int, runs: Path) -> Path:
    """The finished run of ``seed``; beside it, the processor time a step took, whatever else kept the machine busy.

    Start, evaluations and verifiers are part of it; of a run that was stopped, the steps since then count.
    """
    folder = _folder(config, seed, runs)
    if not (folder / PROCESSOR_TIME).exists():
        already = _steps_done(folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "masa.train", "--resume", "--config", str(config)]
        subprocess.run([*command, f"run.dir={folder}", f"run.seed={seed}"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        steps = max(1, _steps_done(folder) - already)
        (folder / PROCESSOR_TIME).write_text(json.dumps(round(seconds / steps, 2)))
    return folder


def _steps_done(folder: Path) -> int:
    """The step of a run's newest checkpoint; 0 where there is none."""
    from masa.checkpointing.checkpoint import list_checkpoints

    found = list_checkpoints(folder / "checkpoints")
    return found[-1][0] if found else 0


def _course(folder: Path) -> dict[str, Any]:
    """Means over each fifth of a run's steps, and its held-out accuracy by step."""
    rows = read_rows(folder / "metrics.jsonl")
    trained = [row for row in rows if row["step"] > 0]
    windows = []
    for part in even_windows(trained, WINDOWS):
        windows.append(
            {
                "first_step": part[0]["step"],
                "accuracy": fmean(row["reward/correctness"] for row in part),
                "solved_all": fmean(row["rollout/solved_all"] for row in part),
                "solved_none": fmean(row["rollout/solved_none"] for row in part),
                "solution_length": fmean(row["rollout/solution_length"] for row in part),
                "truncated": fmean(row["rollout/solution_truncated"] for row in part),
            }
        )
    return {
        "windows": windows,
        "held_out": {str(row["step"]): row["eval/accuracy"] for row in rows if row.get("eval/accuracy") is not None},
        "tokens_generated": sum(row["cost/tokens_generated"] for row in trained),
        "processor_seconds_a_step": json.loads((folder / PROCESSOR_TIME).read_text()),
    }


def _final_checkpoint(folder: Path) -> Path:
    from masa.checkpointing.checkpoint import list_checkpoints

    found = list_checkpoints(folder / "checkpoints")
    if not found:
        raise ConfigError(f"{folder} holds no checkpoint: checkpoint.every must be set")
    return found[-1][1]


def _sampled(config: Config, checkpoint: Path | None) -> dict[str, Any]:
    """What the policy of the configuration (or of a checkpoint of it) is like on held-out problems."""
    section = config.model if checkpoint is None else config.model.model_copy(update={"path": str(checkpoint)})
    sampler, policy = open_sampler(section, config.model)
    problems = long_problems("test", MEASURED_PROBLEMS)
    hints = {}
    for hint in HINTS:
        summary = summarize(sampler.solutions(problems, G // 4, hint))
        hints[hint] = {key: summary[key] for key in ("pass_at_1", "right_order_first", "length")}
    metas = sampler.metas(problems, M)
    return {
        "parameters": sum(parameter.numel() for parameter in policy.parameters()),
        "solutions": summarize(sampler.solutions(problems, G)),
        "hints": hints,
        "metas": {
            "tokens": round(fmean(tokens for tokens, _ in metas), 2),
            "complete": round(fmean(complete for _, complete in metas), 4),
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m masa.embedded.long.properties", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="plain GRPO on the long world")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/long_properties"), help="folder of the run directories")
    parser.add_argument("--out", type=Path, default=PROPERTIES, help="file to write; default: the one in the package")
    options = parser.parse_args(arguments)
    found = measure(options.config, options.seeds, options.runs)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["properties"], indent=1))
    for line in unmet(found["properties"]):
        print(f"not as wanted: {line}")


if __name__ == "__main__":
    main()

"""Run directories as training leaves them, made without training: three methods whose curves are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from masa.config import config_from_mapping, dump_config
from masa.tracking import jsonl
from masa.tracking.run_directory import RunDirectory
from masa.tracking.samples import Prediction, Sample

METHODS: dict[str, dict[str, Any]] = {
    "GRPO": {"algorithm": {"meta": False}},
    "MASA": {"algorithm": {"meta": True}},
    "MASA-efficient": {
        "algorithm": {"meta": True},
        "controls": {name: {"enabled": True} for name in ("expert", "gating", "cutoff")},
    },
}
_SPEED = {"GRPO": 0.02, "MASA": 0.035, "MASA-efficient": 0.05}
PROBLEMS = 6


def make_run(folder: Path, method: str, seed: int, steps: int = 40) -> Path:
    """One run directory of ``steps`` steps; accuracy rises from 0.3 as 1 - exp(-speed x step)."""
    directory = RunDirectory(folder)
    sections = {**METHODS[method], "run": {"seed": seed, "dir": str(folder), "steps": steps}}
    directory.create(_config_text(sections), resume=False)
    rng = np.random.default_rng(seed)
    offset = float(rng.normal(0, 0.02))
    jsonl.append_rows(directory.metrics, [{"step": 0, "eval/accuracy": 0.3 + offset, "time/evaluation": 2.0}])
    for step in range(1, steps + 1):
        skill = 0.3 + offset + 0.45 * (1 - math.exp(-_SPEED[method] * step))
        row = _metrics(method, step, skill, rng)
        if step % 5 == 0:
            row |= {"eval/accuracy": skill, "time/evaluation": 2.0}
        if method != "GRPO":
            directory.append_predictions(_predictions(step, steps, skill, rng))
            directory.append_samples(_samples(step, steps))
        jsonl.append_rows(directory.metrics, [row])
    rows = [_held_out(steps, number, 0.3 + 9 * _SPEED[method], rng) for number in range(40)]
    jsonl.append_rows(directory.path / "evaluation.jsonl", rows)
    directory.write_summary({"steps": steps})
    return folder


def _config_text(sections: dict[str, Any]) -> str:
    return dump_config(config_from_mapping(sections))


def _metrics(method: str, step: int, skill: float, rng: np.random.Generator) -> dict[str, Any]:
    def noisy(value: float) -> float:
        return float(np.clip(value + rng.normal(0, 0.04), 0, 1))

    share = 0.65 if method == "MASA-efficient" and step > 10 else 1.0
    solution_tokens, meta_tokens = 60000 * share, 0.0 if method == "GRPO" else 15000.0
    row: dict[str, Any] = {
        "step": step,
        "reward/correctness": noisy(skill),
        "rollout/correct_length": 60 - 10 * skill,
        "rollout/solution_length": 64 - 10 * skill,
        "cost/solution_tokens": solution_tokens,
        "cost/meta_tokens": meta_tokens,
        "cost/tokens_generated": solution_tokens + meta_tokens,
        "cost/tokens_trained": 0.8 * (solution_tokens + meta_tokens),
        "cost/flops": 2.5e12 * share,
        "time/step": 3.0 * share + (0.0 if method == "GRPO" else 0.5),
        "time/rollout": 2.0 * share,
        "time/update": 1.0,
    }
    if method == "GRPO":
        return row
    known = 1 - math.exp(-0.06 * step)
    row |= {
        "reward/r_meta": noisy(0.2 + 0.5 * known),
        "reward/r_length": noisy(0.2 + 0.5 * known),
        "reward/r_difficulty": noisy(0.15 + 0.55 * known),
        "reward/r_notion": noisy(0.3 + 0.4 * skill),
        "meta/predicted_pass_rate": noisy(0.5 + (skill - 0.5) * known),
        "meta/predicted_length": 40 + 15 * known,
        "meta/parse_rate": 0.98,
    }
    if method == "MASA-efficient":
        row |= {"control/gated_share": 0.0 if step <= 10 else noisy(0.35), "control/cut_share": noisy(0.1)}
        row |= {"control/gate_precision": 0.8}
    return row


def _predictions(step: int, steps: int, skill: float, rng: np.random.Generator) -> list[Prediction]:
    found = []
    for number in range(PROBLEMS):
        actual = float(rng.binomial(8, np.clip(skill + rng.normal(0, 0.25), 0, 1))) / 8
        known = step / steps
        rates = np.clip(known * actual + (1 - known) * rng.random(4) + rng.normal(0, 0.08, 4), 0, 1)
        lengths = tuple(int(n) for n in rng.normal(50, 8, round(8 * actual)).clip(10))
        centre = known * 50 + (1 - known) * 80
        found.append(
            Prediction(
                step=step,
                problem=f"sum-{step}-{number}",
                pass_rate=actual,
                correct_lengths=lengths,
                predicted_pass_rate=(*(round(8 * float(rate)) / 8 for rate in rates[:3]), None),
                predicted_length=(*(int(n) for n in rng.normal(centre, 10, 3).clip(5)), None),
            )
        )
    return found


def _samples(step: int, steps: int) -> list[Sample]:
    score = step / steps
    problem, prompt = f"sum-{step}-0", f"Solve: Find the sum: a={step}, b=2."
    rewards = {"r_meta": score, "r_length": score, "r_difficulty": score, "r_notion": score}
    meta = '<meta>Two small numbers.</meta>{"notions": ["running total"], "pass_rate": 6, "solution_length": 42}'
    solution = f"a={step}; b:{step}+2={step + 2}; Answer: \\boxed{{{step + 2}}} <script>alert(1)</script>"
    return [
        Sample(step, problem, "solution", prompt, solution, {"correctness": 1.0}, "stop", str(step + 2)),
        Sample(step, problem, "meta", f"Predict: sum {step}", meta, rewards, "stop", str(step + 2)),
    ]


def _held_out(step: int, number: int, skill: float, rng: np.random.Generator) -> dict[str, Any]:
    easy = (number % 10) / 10
    correct = [bool(one) for one in rng.random(4) < 0.5 * skill + 0.5 * easy]
    rate = sum(correct) / 4
    meta = {"pass_rate": round(8 * rate) / 8, "length": 50, "complete": True, "notions_kept": 2, "notions_right": 1,
            "r_length": 1.0, "r_difficulty": 1.0, "r_notion": 0.5, "r_meta": 0.8}  # fmt: skip
    return {
        "step": step,
        "problem": f"held-out-{number}",
        "source": "embedded-arithmetic",
        "correct": correct,
        "answers": ["7" if right else "8" for right in correct],
        "lengths": [int(n) for n in rng.integers(30, 70, 4)],
        "truncated": [False] * 4,
        "metas": [meta, {**meta, "pass_rate": None, "length": None, "complete": False}],
    }

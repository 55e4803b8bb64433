"""A whole GRPO step, TRL 1.16's GRPOTrainer (generation by transformers) beside masa: alternating runs, medians.

8 prompts x 16 completions of up to ``--limit`` tokens by the policy of `bench_policy.py`, which learned from text when
to stop; the same weights, prompts, temperature 1 and micro-batches of about the same size on both sides, float32, no
KL, rewards at random. ``--threads N`` sets torch's threads; wall-clock seconds stand beside.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_policy import load_policy, policy_folder, prompts

PROMPTS, COMPLETIONS, SKIPPED = 8, 16, 1
# A micro-batch of 16 rows, as TRL is given, of prompts of up to 39 and responses of up to 128 tokens.
MICRO_BATCH_TOKENS = 16 * 167
Seconds = dict[str, list[tuple[float, float]]]


class Meter:
    """CPU- and wall-clock seconds of the parts of steps."""

    def __init__(self) -> None:
        self.parts: Seconds = {"generation": [], "step": []}

    def measured(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            cpu, wall = time.process_time(), time.perf_counter()
            result = function(*arguments, **options)
            self.parts[part].append((time.process_time() - cpu, time.perf_counter() - wall))
            return result

        return run


def _measure_trl(options: argparse.Namespace) -> tuple[Meter, list[int]]:
    from transformers import TrainerCallback
    from trl_common import trl_trainer

    meter = Meter()
    lengths: list[int] = []
    numbers = random.Random(0)

    class StepClock(TrainerCallback):  # type: ignore[misc]
        start = (0.0, 0.0)

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.process_time(), time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            cpu, wall = self.start
            meter.parts["step"].append((time.process_time() - cpu, time.perf_counter() - wall))

    def reward(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths.extend(map(len, completion_ids))
        return [float(numbers.random() < 0.5) for _ in completions]

    trainer = trl_trainer(
        load_policy(),
        reward=reward,
        prompts=prompts(PROMPTS * (options.steps + SKIPPED), options.path),
        beta=0.0,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=PROMPTS,
        num_generations=COMPLETIONS,
        max_completion_length=options.limit,
        max_steps=options.steps + SKIPPED,
        learning_rate=1e-6,
        loss_type="dapo",
        epsilon_high=0.28,
        shuffle_dataset=False,
        seed=options.run,
    )
    trainer.add_callback(StepClock())
    trainer._generate = meter.measured("generation", trainer._generate)
    trainer.train()
    return meter, lengths


def _measure_masa(options: argparse.Namespace) -> tuple[Meter, list[int]]:
    from accelerate import Accelerator

    from masa.config.algorithm import OptimizerSection
    from masa.embedded import load_embedded_tokenizer
    from masa.policy.forward.policy_module import PolicyModule
    from masa.policy.objective.advantages import group_advantages
    from masa.policy.objective.presets import preset
    from masa.policy.update.optimizer import make_optimizer
    from masa.policy.update.updater import PolicyUpdater, TrainingRow
    from masa.rollout.engine import RolloutRequest
    from masa.rollout.transformers.engine import TransformersEngine

    meter = Meter()
    lengths: list[int] = []
    numbers = random.Random(0)
    model, tokenizer = load_policy(), load_embedded_tokenizer()
    section = OptimizerSection(micro_batch_tokens=MICRO_BATCH_TOKENS)
    module = PolicyModule(model, temperature=1.0)
    updater = PolicyUpdater(
        Accelerator(cpu=True),
        module,
        make_optimizer(module, section),
        section,
        preset("dapo").loss,
        constant_length=options.limit,
        total_updates=9,
    )
    engine = TransformersEngine(model, stop_ids=[tokenizer.eos_token_id])
    generate = meter.measured("generation", engine.generate)

    def step(number: int, texts: list[str]) -> None:
        first_seed = (options.run * 100 + number) * PROMPTS * COMPLETIONS
        requests = [
            RolloutRequest(
                problem_id=text,
                path=options.path,
                prompt_ids=tuple(tokenizer(text)["input_ids"]),
                seeds=tuple(range(first_seed + place * COMPLETIONS, first_seed + (place + 1) * COMPLETIONS)),
                max_new_tokens=options.limit,
            )
            for place, text in enumerate(texts)
        ]
        rollouts = [rollout for group in generate(requests) for rollout in group]
        lengths.extend(len(rollout.token_ids) for rollout in rollouts)
        rewards = [float(numbers.random() < 0.5) for _ in rollouts]
        advantages = group_advantages(rewards, [rollout.problem_id for rollout in rollouts]).tolist()
        rows = zip(rollouts, advantages, strict=True)
        updater.update([[TrainingRow(one.prompt_ids, one.token_ids, one.logprobs, value) for one, value in rows]])
        engine.update_weights(model, number)

    texts = prompts(PROMPTS * (options.steps + SKIPPED), options.path)
    for number in range(options.steps + SKIPPED):
        meter.measured("step", step)(number, texts[number * PROMPTS : (number + 1) * PROMPTS])
    return meter, lengths


def _child(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    meter, lengths = (_measure_trl if options.child == "trl" else _measure_masa)(options)
    # The first step pays for imports and caches.
    print(json.dumps({"seconds": {part: times[SKIPPED:] for part, times in meter.parts.items()}, "lengths": lengths}))


def _run(which: str, number: int, options: argparse.Namespace) -> dict[str, Any]:
    arguments = ["--child", which, "--run", str(number)]
    for name in ("steps", "threads", "limit", "path"):
        arguments += [f"--{name}", str(getattr(options, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _print(found: dict[str, list[dict[str, Any]]], limit: int) -> None:
    def median(which: str, part: str, kind: int) -> float:
        """Over all steps of all runs; the update is what is left of each step beside its generation."""
        steps = [step[kind] for run in found[which] for step in run["seconds"]["step"]]
        generations = [one[kind] for run in found[which] for one in run["seconds"]["generation"]]
        rest = [step - one for step, one in zip(steps, generations, strict=True)]
        return statistics.median({"step": steps, "generation": generations}.get(part, rest))

    for kind, name in enumerate(("CPU-seconds", "wall-clock seconds")):
        for part in ("step", "generation", "update and the rest"):
            theirs, ours = median("trl", part, kind), median("masa", part, kind)
            print(f"{name:18} {part:20} TRL {theirs:6.2f}   masa {ours:6.2f}   masa / TRL {ours / theirs:.2f}")
    for which, runs in found.items():
        lengths = np.array([length for run in runs for length in run["lengths"]])
        quarters = " / ".join(f"{value:.0f}" for value in np.percentile(lengths, [0, 25, 50, 75, 100]))
        print(
            f"{which:5} completions: {lengths.mean():.1f} tokens on average, quartiles {quarters}, "
            f"{np.mean(lengths == limit):.1%} as long as the limit"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", choices=["trl", "masa"], help=argparse.SUPPRESS)
    parser.add_argument("--run", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=3, help="steps measured in a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, default=128, help="the most new tokens")
    parser.add_argument("--path", choices=["solution", "meta"], default="solution", help="what the prompts ask for")
    options = parser.parse_args()
    if options.child:
        _child(options)
        return
    policy_folder()
    found: dict[str, list[dict[str, Any]]] = {"trl": [], "masa": []}
    for number in range(options.repeats):
        for which, runs in found.items():
            runs.append(_run(which, number, options))
    _print(found, options.limit)


if __name__ == "__main__":
    main()

"""A whole GRPO step, TRL 1.16's GRPOTrainer (generation by transformers) beside masa: alternating runs, medians.

8 prompts x 16 completions of up to 128 tokens with a natural spread of lengths, the same Qwen3-shaped policy of 3M
parameters, float32, no KL, rewards at random. ``--threads N`` sets torch's threads; wall-clock seconds stand beside.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

PROMPTS, COMPLETIONS, LIMIT, SKIPPED = 8, 16, 128, 1
Clock = Callable[[], float]


def _policy() -> Any:
    """Random weights, but for the token that ends a response: lengths spread over the range, about 50 on average."""
    from trl_common import qwen3

    from masa.embedded import load_embedded_tokenizer

    tokenizer = load_embedded_tokenizer()
    vocabulary = len(tokenizer)
    model = qwen3(hidden=192, layers=7, vocabulary=vocabulary, num_attention_heads=6, num_key_value_heads=2)
    weight = model.get_output_embeddings().weight
    with torch.no_grad():
        # One coordinate that all tokens share, so that every state has it, and that favours the end in the head.
        weight[:, 0] = 0.1
        shared = model.model(torch.randint(0, vocabulary, (4, 128))).last_hidden_state[..., 0].mean()
        weight[tokenizer.eos_token_id, 0] += math.log(vocabulary / 150) / shared
    return model


def _problems(count: int) -> list[str]:
    numbers = random.Random(0)
    return [f"{numbers.randint(10, 99)} + {numbers.randint(10, 99)} * {numbers.randint(2, 9)}" for _ in range(count)]


class Meter:
    """CPU- and wall-clock seconds of the parts of steps."""

    def __init__(self) -> None:
        self.parts: dict[str, list[tuple[float, float]]] = {"generation": [], "step": []}

    def measured(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            cpu, wall = time.process_time(), time.perf_counter()
            result = function(*arguments, **options)
            self.parts[part].append((time.process_time() - cpu, time.perf_counter() - wall))
            return result

        return run


def _measure_trl(steps: int) -> tuple[Meter, list[int]]:
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
        _policy(),
        reward=reward,
        prompts=_problems(PROMPTS * (steps + SKIPPED)),
        beta=0.0,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=PROMPTS,
        num_generations=COMPLETIONS,
        max_completion_length=LIMIT,
        max_steps=steps + SKIPPED,
        learning_rate=1e-6,
        loss_type="dapo",
        epsilon_high=0.28,
    )
    trainer.add_callback(StepClock())
    trainer._generate = meter.measured("generation", trainer._generate)
    trainer.train()
    return meter, lengths


def _measure_masa(steps: int) -> tuple[Meter, list[int]]:
    from accelerate import Accelerator

    from masa.config.schema import OptimizerSection
    from masa.embedded import load_embedded_tokenizer
    from masa.policy.advantages import group_advantages
    from masa.policy.optimizer import make_optimizer
    from masa.policy.policy_module import PolicyModule
    from masa.policy.presets import preset
    from masa.policy.update import PolicyUpdater, TrainingRow
    from masa.rollout.engine import RolloutRequest
    from masa.rollout.transformers import TransformersEngine
    from masa.rollout.weights import policy_weights

    meter = Meter()
    lengths: list[int] = []
    numbers = random.Random(0)
    model, tokenizer = _policy(), load_embedded_tokenizer()
    section = OptimizerSection(micro_batch_tokens=4096)
    module = PolicyModule(model, temperature=1.0)
    optimizer = make_optimizer(module, section)
    updater = PolicyUpdater(
        Accelerator(cpu=True), module, optimizer, section, preset("dapo").loss, constant_length=LIMIT, total_updates=9
    )
    engine = TransformersEngine(model, stop_ids=[tokenizer.eos_token_id])
    generate = meter.measured("generation", engine.generate)

    def step(number: int, texts: list[str]) -> None:
        requests = [
            RolloutRequest(
                problem_id=text,
                path="solution",
                prompt_ids=tuple(tokenizer(text)["input_ids"]),
                seeds=tuple(range(number * 1000 + place * COMPLETIONS, number * 1000 + (place + 1) * COMPLETIONS)),
                max_new_tokens=LIMIT,
            )
            for place, text in enumerate(texts)
        ]
        rollouts = [rollout for group in generate(requests) for rollout in group]
        lengths.extend(len(rollout.token_ids) for rollout in rollouts)
        rewards = [float(numbers.random() < 0.5) for _ in rollouts]
        advantages = group_advantages(rewards, [rollout.problem_id for rollout in rollouts]).tolist()
        rows = zip(rollouts, advantages, strict=True)
        updater.update([[TrainingRow(one.prompt_ids, one.token_ids, one.logprobs, value) for one, value in rows]])
        engine.update_weights(policy_weights(model), number)

    problems = _problems(PROMPTS * (steps + SKIPPED))
    for number in range(steps + SKIPPED):
        meter.measured("step", step)(number, problems[number * PROMPTS : (number + 1) * PROMPTS])
    return meter, lengths


def _child(which: str, steps: int, threads: int) -> None:
    torch.set_num_threads(threads)
    meter, lengths = (_measure_trl if which == "trl" else _measure_masa)(steps)
    # The first step pays for imports and caches.
    medians = {
        part: [statistics.median(one[kind] for one in values[SKIPPED:]) for kind in (0, 1)]
        for part, values in meter.parts.items()
    }
    print(json.dumps({**medians, "length": statistics.mean(lengths)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", choices=["trl", "masa"], help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=4, help="steps measured in a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.child:
        _child(options.child, options.steps, options.threads)
        return
    found: dict[str, list[dict[str, Any]]] = {"trl": [], "masa": []}
    for _ in range(options.repeats):
        for which, runs in found.items():
            arguments = ["--child", which, "--steps", str(options.steps), "--threads", str(options.threads)]
            done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout.strip().splitlines()[-1]))

    def median(which: str, part: str, kind: int) -> float:
        return statistics.median(run[part][kind] for run in found[which])

    for kind, name in enumerate(("CPU-seconds", "wall-clock seconds")):
        for part in ("step", "generation", "update and the rest"):
            theirs, ours = (
                median(which, "step", kind) - median(which, "generation", kind)
                if part.startswith("update")
                else median(which, part, kind)
                for which in ("trl", "masa")
            )
            print(f"{name:18} {part:20} TRL {theirs:6.2f}   masa {ours:6.2f}   masa / TRL {ours / theirs:.2f}")
    for which, runs in found.items():
        print(f"{which}: mean completion length {statistics.mean(run['length'] for run in runs):.1f} tokens")


if __name__ == "__main__":
    main()

"""The table of a dry run that says how long a step, an evaluation and the run take."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from masa.config import Config
from masa.planning.devices import Device, Speed, Utilization, speed_of
from masa.planning.engine_memory import engine_memory
from masa.planning.launch import Launch
from masa.planning.seconds import (
    Engines,
    GenerationSeconds,
    Samples,
    forward_flops,
    generation_seconds,
    update_flops,
)
from masa.planning.shapes import BYTES, DecoderShape
from masa.planning.tokens import evaluations
from masa.planning.training_state import Sharding, training_state
from masa.policy.objective.algorithm import resolve_algorithm
from masa.rollout.factory import choose_engine


@dataclass(frozen=True)
class Run:
    """What is planned: how the run is started, and its numbers, None where they are not known here.

    Args:
        longest: tokens of the longest prompt.
        steps: of the run.
        held_out: problems of an evaluation.
        utilization: shares of the device's speed that are reached.
    """

    launch: Launch
    sharding: Sharding
    device: Device
    longest: int
    steps: int | None
    held_out: int | None
    utilization: Utilization


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of a step by part; ``generation`` is None where the engine has no room for a sequence.

    ``ahead``: rollouts are sampled by servers while the policy learns.
    """

    generation: GenerationSeconds | None
    update: float
    reference: float
    old: float
    ahead: bool

    @property
    def total(self) -> float | None:
        if self.generation is None:
            return None
        learning = self.update + self.reference + self.old
        return max(self.generation.total, learning) if self.ahead else self.generation.total + learning


def step_samples(config: Config, longest: int) -> list[Samples]:
    """What a step samples, every response as long as its limit."""
    algorithm, rollout = config.algorithm, config.rollout
    problems = algorithm.num_problems
    solutions = Samples(problems * algorithm.num_solutions, problems, longest, rollout.max_solution_tokens)
    metas = Samples(problems * algorithm.num_metas, problems, longest, rollout.max_meta_tokens)
    return [solutions, metas] if algorithm.meta else [solutions]


def evaluation_samples(config: Config, problems: int, longest: int) -> list[Samples]:
    """What an evaluation of so many problems samples, every response as long as its limit."""
    section, rollout = config.evaluation, config.rollout
    solutions = Samples(problems * section.num_samples, problems, longest, config.held_out_solution_tokens)
    metas = Samples(problems * section.num_metas, problems, longest, rollout.max_meta_tokens)
    return [solutions, metas] if section.num_metas else [solutions]


def engines_of(config: Config, shape: DecoderShape, run: Run) -> Engines:
    """The engines of a run, and what they read in a pass."""
    section, memory = config.rollout, run.device.memory
    name = choose_engine(section, on_gpu=memory is not None, with_vllm=True if memory is not None else None)
    dtype = config.model.dtype if section.dtype == "policy" or name == "transformers" else section.dtype
    devices = 1 if name == "transformers" else section.tensor_parallel_size
    # The input embedding is a table, of which a token reads one row.
    read = (shape.parameters - (0 if shape.tied else shape.table)) * BYTES[dtype] // devices
    if name == "transformers":
        token_bytes, cache = 2 * shape.layers * shape.key_width * BYTES[dtype], None
    else:
        state = training_state(shape, config.model.dtype, run.sharding, on_gpu=memory is not None)
        training = state.between_updates if name == "vllm" else 0
        engine = engine_memory(shape, section, config.model.dtype, gpu=memory, training=training)
        token_bytes, cache = engine.token_bytes, engine.cache
    count = max(1, run.launch.processes // devices)
    if name == "vllm_server":
        count = len(section.servers) or section.num_servers
    return Engines(count, devices, read, token_bytes, cache, section.max_batch_size)


def step_seconds(config: Config, shape: DecoderShape, run: Run, sampling: Speed, learning: Speed) -> StepSeconds:
    """Seconds of a step.

    Args:
        sampling: speed that a device reaches in the engine's type.
        learning: the same in the type in which the update computes.
    """
    samples = step_samples(config, run.longest)
    rate = learning.flops * run.launch.processes
    forward = forward_flops(shape, samples) / rate
    parts = config.algorithm.updates_per_step
    return StepSeconds(
        generation=generation_seconds(shape, samples, engines_of(config, shape, run), sampling),
        update=update_flops(shape, samples, checkpointing=config.model.gradient_checkpointing) / rate,
        reference=forward if resolve_algorithm(config.algorithm).loss.needs_reference else 0.0,
        old=forward * (parts - 1) / parts,
        ahead=config.rollout.async_steps > 0 and choose_engine(config.rollout) == "vllm_server",
    )


def show_time(config: Config, shape: DecoderShape, run: Run, console: Console) -> None:
    """Print the seconds of a step, of an evaluation and of the run."""
    table = Table(title="Time, by arithmetic, at most: every response as long as its limit", show_header=False)
    sampling, learning = run_speeds(config, run)
    if sampling is None or learning is None:
        rows = {
            f"speed of a {run.device.name}": "unknown: give its GB, TFLOP/s and GB/s, as in --gpu 80,989,3350",
            "a step": "unknown",
            "the run": "unknown",
        }
    else:
        rows = _rows(config, shape, run, sampling, learning)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    redrawn = ", batches drawn again by dynamic sampling" if config.algorithm.dynamic_sampling.enabled else ""
    console.print(
        f"Not in these times: verification, new weights for engines, communication, checkpoints{redrawn}.",
        highlight=False,
    )


def duration(seconds: float | None) -> str:
    """Such as 0.8 s, 45 s, 12 min, 3.4 h, 5.1 days; unknown for None."""
    if seconds is None:
        return "unknown"
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48), ("days", 86400, float("inf"))):
        value = seconds / size
        if value < most:
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    raise ValueError(f"seconds: found {seconds}, allowed: a number")


def run_speeds(config: Config, run: Run) -> tuple[Speed | None, Speed | None]:
    """The speed of one process's device in the engine's type, and in the update's; None where it is not known."""
    dtype, engine = config.model.dtype, config.rollout.dtype
    threads = None
    if run.device.memory is None:
        threads = config.run.threads or max(1, (os.cpu_count() or 1) // run.launch.on_one_machine)
    sampling = speed_of(run.device, dtype if engine == "policy" else engine, threads=threads)
    learning = speed_of(run.device, "bfloat16" if run.sharding.autocast else dtype, threads=threads)
    return sampling, learning


def _rows(config: Config, shape: DecoderShape, run: Run, sampling: Speed, learning: Speed) -> dict[str, str]:
    share = run.utilization
    reached = sampling.reached(share)
    step = step_seconds(config, shape, run, reached, learning.reached(share))
    rows = {
        "speed of a process's device": f"{learning.flops / 1e12:,.3g} TFLOP/s, {sampling.bandwidth / 1e9:,.4g} GB/s: "
        f"{learning.source}",
        "reached of it (--utilization)": f"{share.operations:g} of the operations, {share.memory:g} of the bytes",
    }
    if step.generation is None:
        rows["generation of a step"] = "unknown: the engine's KV cache has no room for a sequence"
    else:
        generation = step.generation
        rows["sequences at once in an engine"] = f"{generation.at_once:,}"
        rows["generation of a step"] = (
            f"{duration(generation.total)}: {duration(generation.prompts)} prompts, "
            f"{duration(generation.responses)} responses"
        )
    rows["update of a step"] = duration(step.update)
    if step.reference:
        rows["reference model of a step"] = duration(step.reference)
    if step.old:
        rows["log-probs before the second update"] = duration(step.old)
    rows["a step"] = duration(step.total) + (", sampled while the policy learns" if step.ahead else "")
    return rows | _whole_run(config, shape, run, reached, step.total)


def _whole_run(config: Config, shape: DecoderShape, run: Run, sampling: Speed, step: float | None) -> dict[str, str]:
    steps = None if step is None or run.steps is None else step * run.steps
    if run.held_out == 0:
        return {"the run": duration(steps)}
    one = None
    if run.held_out:
        samples = evaluation_samples(config, run.held_out, run.longest)
        found = generation_seconds(shape, samples, engines_of(config, shape, run), sampling)
        one = None if found is None else found.total
    rows = {"an evaluation": duration(one)}
    if run.steps is None or steps is None or one is None:
        missing = " without the problems" if run.steps is None or run.held_out is None else ""
        known = "" if steps is None else f"; {run.steps:,} steps {duration(steps)}"
        return rows | {"the run": f"unknown{missing}{known}"}
    times = evaluations(run.steps, config.evaluation.every)
    return rows | {
        "the run": f"{duration(steps + times * one)}: {run.steps:,} steps {duration(steps)}, "
        f"{times} evaluations {duration(times * one)}"
    }

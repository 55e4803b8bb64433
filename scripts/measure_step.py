"""Seconds of a step that were measured, beside those that the simulator of `scripts/simulate_step.py` says.

    python scripts/measure_step.py [--steps 24] [--config configs/quickstart.yaml] [--set rollout.max_batch_size=64] ...

Takes the steps of two runs with the transformers engine by turns, of the configuration as it is and with
``rollout.partial``, and notes of each call of the engine's stream how long it took, how many tokens its batch drew, and
with how many rows; how long prompts took to be read; of each step how long everything beside the engine took; and of
each problem the lengths of its solutions and metas, and the step that began it. Every second step of the first run says
what the simulator is told: seconds a token, a row and a sequence, by least squares over the calls, and of the rest of a
step for each token that it trains on. With these, and with the lengths, it simulates the other steps, and those of the
run with ``partial``; neither was used for its numbers.

Seconds are those of the trainer's processor time, so that other work on the machine does not count; with one thread,
which is what it sets, they are the wall clock's of a quiet machine. Verifiers are processes of their own, and wait for
nothing here: verdicts take no time in the simulation, and what little the trainer waits for them is not counted either.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from step_events import Machine
from step_model import Flight, Job, Plan, Sampled, Step, simulate_step

from masa import Callback, MASATrainer, load_config
from masa.rollout.transformers.decoders import GrowingDecoder
from masa.rollout.transformers.stream import TransformersStream

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class StepRow:
    """Of one step: seconds of the trainer's processor, of them in the engine, and the tokens that it was trained on."""

    seconds: float
    engine: float
    tokens: int


@dataclass
class Measured:
    """A run. ``calls`` of the engine: tokens drawn one after the other, tokens in all, samples that ended, and
    seconds but for reading. ``read`` are tokens of prompts, and of samples that go on.

    ``problems``: by the step that began them, lengths of solutions and metas.
    """

    rows: list[StepRow] = field(default_factory=list)
    calls: list[list[tuple[int, int, int, float]]] = field(default_factory=list)
    read: int = 0
    read_seconds: float = 0.0
    problems: dict[int, list[Sampled]] = field(default_factory=lambda: defaultdict(list))


class Meter(Callback):
    """Notes what `Measured` holds, between the beginning of a step and its update."""

    def __init__(self) -> None:
        self.found = Measured()
        self._calls: list[tuple[int, int, int, float]] = []
        self._iterations = self._tokens = 0
        self._began = 0.0

    def on_step_begin(self, run: Any) -> None:
        self._calls, self._read_before, self._began = [], self.found.read_seconds, time.process_time()
        self._own = TransformersStream.take, GrowingDecoder.advance, GrowingDecoder.prefill
        take, advance, prefill = self._own

        def timed_take(stream: TransformersStream) -> Any:
            self._iterations = self._tokens = 0
            started, read = time.process_time(), self.found.read_seconds
            found = take(stream)
            seconds = time.process_time() - started - (self.found.read_seconds - read)
            self._calls.append((self._iterations, self._tokens, len(found), seconds))
            return found

        def counted_advance(decoder: GrowingDecoder, batch: Any, drawn: Any) -> None:
            self._iterations += 1
            self._tokens += len(drawn)
            advance(decoder, batch, drawn)

        def counted_prefill(decoder: GrowingDecoder, prompts: Sequence[Sequence[int]]) -> Any:
            started = time.process_time()
            batch = prefill(decoder, prompts)
            self.found.read += sum(map(len, prompts))
            self.found.read_seconds += time.process_time() - started
            return batch

        TransformersStream.take = timed_take  # type: ignore[method-assign]
        GrowingDecoder.advance = counted_advance  # type: ignore[method-assign]
        GrowingDecoder.prefill = counted_prefill  # type: ignore[method-assign]

    def on_update(self, run: Any) -> None:
        seconds = time.process_time() - self._began
        TransformersStream.take, GrowingDecoder.advance, GrowingDecoder.prefill = self._own  # type: ignore[method-assign]
        for group in run.groups:
            paths = (group.metas, group.solutions)
            metas, solutions = (tuple(float(len(one.token_ids)) for one in rollouts) for rollouts in paths)
            began = 1 + min(one.weight_version for rollouts in paths for one in rollouts)
            prompts = sum(len(rollouts[0].prompt_ids) for rollouts in paths if rollouts)
            self.found.problems[began].append(Sampled(metas, solutions, (0.0,) * len(solutions), prompts))
        tokens = sum(len(one.token_ids) for group in run.groups for one in (*group.solutions, *group.metas))
        engine = sum(call[-1] for call in self._calls) + self.found.read_seconds - self._read_before
        self.found.rows.append(StepRow(seconds, engine, tokens))
        self.found.calls.append(self._calls)


def measure(config_path: str, *several: Sequence[str]) -> list[tuple[Any, Measured]]:
    """The configuration with each list of overrides, and what was measured of its run; they step by turns."""
    fixed = ["rollout.engine=transformers", "run.threads=1", "tracking.figures=false", "checkpoint.every=0"]
    with tempfile.TemporaryDirectory() as folder:
        configs = [
            load_config(config_path, [*fixed, *overrides, f"run.dir={folder}/{number}", "problems.eval=null"])
            for number, overrides in enumerate(several)
        ]
        meters = [Meter() for _ in configs]
        trainers = [MASATrainer(one, callbacks=[meter]) for one, meter in zip(configs, meters, strict=True)]
        for _ in zip(*(trainer.steps() for trainer in trainers), strict=True):
            pass
    return [(config, meter.found) for config, meter in zip(configs, meters, strict=True)]


def calibrated(config: Any, found: Measured, steps: Sequence[int]) -> Machine:
    """A machine of the speeds of some of a run's steps, which are numbered from 0."""
    calls = np.array([call for step in steps for call in found.calls[step]])
    (token_seconds, row_seconds, sequence_seconds), *_ = np.linalg.lstsq(calls[:, :3], calls[:, 3], rcond=None)
    rows = [found.rows[step] for step in steps]
    rest = sum(row.seconds - row.engine for row in rows) / sum(row.tokens for row in rows)
    return Machine(
        gpus=1,
        rows=config.rollout.max_batch_size,
        token_seconds=float(token_seconds),
        row_seconds=float(row_seconds),
        read_seconds_per_token=found.read_seconds / found.read,
        seconds_per_sequence=float(sequence_seconds),
        update_seconds_per_token=rest,
    )


def simulated(config: Any, found: Measured, machine: Machine) -> list[Step]:
    """Each step of a run whose problems have the measured lengths."""
    partial = config.rollout.partial_share if config.rollout.partial else 1.0
    job = Job(problems=config.algorithm.num_problems)
    plan = Plan(streams=True, controls=False, partial=partial, max_age=config.rollout.partial_max_age)
    steps: list[Step] = []
    waiting: list[Flight] = []
    for step in range(1, len(found.rows) + 1):
        flights = [*waiting, *(Flight.of(one, step) for one in found.problems[step])]
        overdue = [one for one in waiting if step - one.step >= plan.max_age]
        one, waiting = simulate_step(job, machine, plan, flights, overdue)
        steps.append(one)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "quickstart.yaml"))
    parser.add_argument("--steps", type=int, default=24, help="of each run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of both runs")
    options = parser.parse_args()
    common = [*options.set, f"run.steps={options.steps}"]
    partial = ["rollout.partial=true", "algorithm.tis_cap=2"]
    (config, found), (part_config, part) = measure(options.config, common, [*common, *partial])
    # Things are made in the very first step.
    machine = calibrated(config, found, range(1, options.steps, 2))
    print(
        f"a token {machine.token_seconds * 1e3:.2f} ms, a row {machine.row_seconds * 1e6:.0f} us, a token that is read "
        f"{machine.read_seconds_per_token * 1e6:.0f} us, a sequence {machine.seconds_per_sequence * 1e3:.2f} ms; "
        f"beside the engine {machine.update_seconds_per_token * 1e6:.0f} us a token that is trained on"
    )
    print("| run | steps | engine, s a step | simulated | step, s | simulated | of it |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    # What a run leaves unfinished is never measured: the last steps with partial are left out.
    last = options.steps - part_config.rollout.partial_max_age
    for name, settings, run, steps in (
        ("partial off", config, found, range(2, options.steps, 2)),
        ("partial on", part_config, part, range(2, last)),
    ):
        says = simulated(settings, run, machine)
        measured, sampling = (
            statistics.fmean(getattr(run.rows[step], key) for step in steps) for key in ("seconds", "engine")
        )
        told, told_sampling = (
            statistics.fmean(getattr(says[step], key) for step in steps) for key in ("seconds", "sampling")
        )
        engine = f"{sampling:.2f} | {told_sampling:.2f}"
        print(f"| {name} | {len(steps)} | {engine} | {measured:.2f} | {told:.2f} | {told / measured:.0%} |")


if __name__ == "__main__":
    main()

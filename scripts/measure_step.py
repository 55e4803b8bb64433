"""Seconds of a step that were measured, beside those that the simulator of `scripts/simulate_step.py` says.

    python scripts/measure_step.py [--steps 24] [--config configs/quickstart.yaml] [--set rollout.max_batch_size=64] ...

Takes the steps of two runs with the transformers engine by turns, of the configuration as it is and with
``rollout.partial``, and notes of each pass of the engine how long it took, with how many rows that read how many
columns of the cache; of each call of its stream how long it took beside these passes; how long prompts took to be read,
padding and all; of each step how long everything beside the engine took; and of each problem the lengths of its
prompts, solutions and metas, and the step that began it. Every second step of the first run says what the simulator is
told: seconds a pass, a row, a column that a row reads, and a sequence that ends, by least squares over passes and
calls, and of the rest of a step for each token that it trains on. With these, and with the lengths, it simulates the
other steps, and those of the run with ``partial``; neither was used for its numbers.

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
from masa.rollout.transformers.decoders import Batch, GrowingDecoder
from masa.rollout.transformers.stream import TransformersStream

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class StepRow:
    """Of one step: seconds of the trainer's processor, of them in the engine, and the tokens that it was trained on.

    ``passes``: rows, columns of the cache that they read together, and seconds; ``calls``: passes, rows of all of them,
    samples that ended, and seconds beside passes and reading. ``read``: tokens, padding included, in so many seconds.
    """

    passes: list[tuple[int, int, float]] = field(default_factory=list)
    calls: list[tuple[int, int, int, float]] = field(default_factory=list)
    read: int = 0
    read_seconds: float = 0.0
    seconds: float = 0.0
    tokens: int = 0

    @property
    def engine(self) -> float:
        return sum(one[-1] for one in (*self.passes, *self.calls)) + self.read_seconds


@dataclass
class Measured:
    """A run. ``problems``: by the step that began them, lengths of solutions and metas."""

    rows: list[StepRow] = field(default_factory=list)
    problems: dict[int, list[Sampled]] = field(default_factory=lambda: defaultdict(list))


class Meter(Callback):
    """Notes what `Measured` holds, between the beginning of a step and its update."""

    def __init__(self) -> None:
        self.found = Measured()
        self._began = 0.0

    def on_step_begin(self, run: Any) -> None:
        self._row = row = StepRow()
        self._own = TransformersStream.take, GrowingDecoder.advance, GrowingDecoder.prefill
        take, advance, prefill = self._own

        def timed_take(stream: TransformersStream) -> Any:
            before, passes, started = row.engine, len(row.passes), time.process_time()
            found = take(stream)
            seconds = time.process_time() - started - (row.engine - before)
            own = row.passes[passes:]
            row.calls.append((len(own), sum(one[0] for one in own), len(found), seconds))
            return found

        def timed_advance(decoder: GrowingDecoder, batch: Batch, drawn: Any) -> None:
            rows, columns = len(drawn), batch.attended.shape[1] + 1
            blocks = [(one.rows.stop - one.rows.start, columns - one.first) for one in batch.blocks]
            read = sum(count * width for count, width in blocks or [(rows, columns)])
            started = time.process_time()
            advance(decoder, batch, drawn)
            row.passes.append((rows, read, time.process_time() - started))

        def timed_prefill(decoder: GrowingDecoder, prompts: Sequence[Sequence[int]]) -> Any:
            started = time.process_time()
            batch = prefill(decoder, prompts)
            row.read_seconds += time.process_time() - started
            row.read += len(prompts) * max(map(len, prompts))
            return batch

        TransformersStream.take = timed_take  # type: ignore[method-assign]
        GrowingDecoder.advance = timed_advance  # type: ignore[method-assign]
        GrowingDecoder.prefill = timed_prefill  # type: ignore[method-assign]
        self._began = time.process_time()

    def on_update(self, run: Any) -> None:
        self._row.seconds = time.process_time() - self._began
        TransformersStream.take, GrowingDecoder.advance, GrowingDecoder.prefill = self._own  # type: ignore[method-assign]
        for group in run.groups:
            paths = (group.metas, group.solutions)
            metas, solutions = (tuple(float(len(one.token_ids)) for one in rollouts) for rollouts in paths)
            began = 1 + min(one.weight_version for rollouts in paths for one in rollouts)
            prompts = (float(len(rollouts[0].prompt_ids)) if rollouts else 0.0 for rollouts in paths)
            self.found.problems[began].append(Sampled(metas, solutions, (0.0,) * len(solutions), *prompts))
        self._row.tokens = sum(len(one.token_ids) for group in run.groups for one in (*group.solutions, *group.metas))
        self.found.rows.append(self._row)


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


def passes_of(rows: Sequence[StepRow]) -> np.ndarray:
    """Rows, columns that they read together, and seconds of each pass."""
    return np.array([one for row in rows for one in row.passes])


def speeds_of(passes: np.ndarray, known: int) -> np.ndarray:
    """Seconds of a pass, of a row and, where two things of a pass are ``known``, of a column that a row reads."""
    found: np.ndarray = np.linalg.lstsq(_per_pass(passes, known), passes[:, 2], rcond=None)[0]
    return found


def _per_pass(passes: np.ndarray, known: int) -> np.ndarray:
    return np.column_stack([np.ones(len(passes)), passes[:, :known]])


def print_passes(told: Sequence[StepRow], off: Sequence[StepRow], on: Sequence[StepRow]) -> None:
    """What makes passes and reading with partial other than those without, and how much of it the speeds say."""
    passes = passes_of(on)
    by = {known: (_per_pass(passes, known) @ speeds_of(passes_of(told), known)).sum() for known in (1, 2)}
    shares = [f"{seconds / passes[:, 2].sum():.0%}" for seconds in by.values()]
    print(f"passes with partial: {shares[1]} of their seconds foretold by rows and columns, {shares[0]} by rows alone")
    for name, rows in (("off", off), ("on", on)):
        all_rows, columns, _ = passes_of(rows).sum(axis=0)
        read, seconds = (statistics.fmean(getattr(row, key) for row in rows) for key in ("read", "read_seconds"))
        print(
            f"partial {name}: {columns / all_rows:.0f} columns a row and pass; a step reads {read:,.0f} tokens of "
            f"prompts, padding included, in {seconds:.2f} s"
        )


def calibrated(config: Any, found: Measured, steps: Sequence[int]) -> Machine:
    """A machine of the speeds of some of a run's steps, which are numbered from 0."""
    rows = [found.rows[step] for step in steps]
    passes = passes_of(rows)
    calls = np.array([one for row in rows for one in row.calls])
    pass_seconds, row_seconds, cache_seconds = speeds_of(passes, 2).tolist()
    beside = np.linalg.lstsq(calls[:, :3], calls[:, 3], rcond=None)[0].tolist()
    rest = sum(row.seconds - row.engine for row in rows) / sum(row.tokens for row in rows)
    return Machine(
        gpus=1,
        rows=config.rollout.max_batch_size,
        token_seconds=pass_seconds + beside[0],
        row_seconds=row_seconds + beside[1],
        cache_seconds=cache_seconds,
        read_seconds_per_token=sum(row.read_seconds for row in rows) / sum(row.read for row in rows),
        seconds_per_sequence=beside[2],
        update_seconds_per_token=rest,
        pads=True,
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
    # What a run leaves unfinished is never measured: the last steps with partial are left out.
    last = options.steps - part_config.rollout.partial_max_age
    # Things are made in the very first step.
    machine = calibrated(config, found, range(1, options.steps, 2))
    print(
        f"a token {machine.token_seconds * 1e3:.2f} ms, a row {machine.row_seconds * 1e6:.0f} us, a column that a row "
        f"reads {machine.cache_seconds * 1e6:.2f} us, a sequence {machine.seconds_per_sequence * 1e3:.2f} ms, "
        f"a token of a prompt {machine.read_seconds_per_token * 1e6:.0f} us; "
        f"beside the engine {machine.update_seconds_per_token * 1e6:.0f} us a token that is trained on"
    )
    print_passes(found.rows[1::2], found.rows[2::2], part.rows[2:last])
    print("| run | steps | engine, s a step | simulated | step, s | simulated | of it |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
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

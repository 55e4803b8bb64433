"""How long a run will take, in one line: from its own steps where there are some, else by a dry run's arithmetic."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from masa.config import Config
from masa.planning.devices import Utilization, find_device
from masa.planning.launch import launch_at_work, sharding_of
from masa.planning.report import read_shape
from masa.planning.seconds import generation_seconds
from masa.planning.time_report import Run, engines_of, evaluation_samples, run_speeds, step_seconds
from masa.planning.tokens import evaluations
from masa.tracking import keys
from masa.tracking.durations import duration
from masa.tracking.metrics import finite_values

_NEWEST = 20


def estimated_time(
    config: Config,
    model_config: Any,
    *,
    longest: int,
    held_out: int,
    steps: tuple[int, int],
    recorded: Sequence[Mapping[str, Any]] = (),
) -> str | None:
    """The line of a banner; None where nothing can be known.

    Args:
        config: of the run.
        model_config: the model's, of `transformers`.
        longest: tokens of the longest prompt.
        held_out: problems of an evaluation.
        steps: the last step that is done, and the last one of the run.
        recorded: the metrics rows of a run that is resumed.
    """
    done, total = steps
    if done >= total:
        return None
    times = _evaluations_left(config, held_out, done, total)
    measured = _by_recorded_steps(recorded, total - done, times)
    if measured is not None:
        return measured
    try:
        seconds = _by_arithmetic(config, model_config, longest, held_out, total - done, times)
    except Exception:  # an estimate is a service; a model or a launch that it does not know is no mistake
        return None
    if seconds is None:
        return None
    cold = ", a cold start" if config.cold_start.enabled else ""
    return (
        f"Time: at most about {duration(seconds)}, an estimate by arithmetic as in a dry run: every response as long "
        f"as its limit, without verification, checkpoints{cold} and communication"
    )


def _evaluations_left(config: Config, held_out: int, done: int, total: int) -> int:
    if not held_out:
        return 0
    every = config.evaluation.every
    gone = 0 if done == 0 else 1 + sum(1 for step in range(1, done + 1) if every and step % every == 0)
    return max(1, evaluations(total, every) - gone)


def _by_recorded_steps(rows: Sequence[Mapping[str, Any]], steps: int, times: int) -> str | None:
    newest = finite_values(rows, keys.STEP_SECONDS)[-_NEWEST:]
    if not newest:
        return None
    each = sum(newest) / len(newest)
    evaluated = finite_values(rows, keys.EVALUATION_SECONDS)
    seconds = steps * each + (times * sum(evaluated) / len(evaluated) if evaluated else 0.0)
    steps_taken = "the newest step" if len(newest) == 1 else f"the newest {len(newest)} steps"
    each_took = duration(each) if len(newest) == 1 else f"{duration(each)} each"
    evaluations_too = " and the evaluations so far" if evaluated else ""
    return f"Time left: about {duration(seconds)}, an estimate from {steps_taken} ({each_took}){evaluations_too}"


def _by_arithmetic(
    config: Config, model_config: Any, longest: int, held_out: int, steps: int, times: int
) -> float | None:
    device = find_device(None)
    if device.memory is not None and device.sheet is None:
        return None  # its speed would have to be measured beside a model and an engine that fill it
    shape = read_shape(config, model_config, [])
    if shape is None:
        return None
    launch = launch_at_work(os.environ)
    run = Run(launch, sharding_of(launch, config), device, longest, steps, held_out, Utilization())
    sampling, learning = run_speeds(config, run)
    if sampling is None or learning is None:
        return None
    reached = sampling.reached(run.utilization)
    step = step_seconds(config, shape, run, reached, learning.reached(run.utilization)).total
    if step is None:
        return None
    if not times:
        return steps * step
    samples = evaluation_samples(config, held_out, longest)
    one = generation_seconds(shape, samples, engines_of(config, shape, run), reached)
    return None if one is None else steps * step + times * one.total

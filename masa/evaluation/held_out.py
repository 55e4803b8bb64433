"""Held-out accuracy and meta-awareness of the policy, measured during training with the metrics of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masa.config import Config
from masa.evaluation.measures.meta_awareness import meta_statistics
from masa.evaluation.measures.metrics import solution_statistics, values
from masa.evaluation.measures.outcomes import Outcome, by_source, outcome_of
from masa.problems import Problem
from masa.rewards.grading import GradedGroup, Grader, function_values
from masa.rollout.engine import RolloutEngine, Sampling
from masa.rollout.requests import RequestBuilder
from masa.tracking import keys
from masa.tracking.metrics import StepMetrics

# Metric of an evaluation -> its name during training, where training had the name first.
_NAMES = {
    "pass@1": keys.HELD_OUT_ACCURACY.removeprefix("eval/"),
    "mean_length": "solution_length",
    "median_length": "solution_length_median",
}


def evaluate_held_out(
    config: Config, problems: Sequence[Problem], builder: RequestBuilder, engine: RolloutEngine, grader: Grader
) -> list[GradedGroup]:
    """Graded rollouts of ``problems``. The seeds do not depend on the step: evaluations differ by the policy alone.

    A run without the meta path is asked for its predictions all the same: that is what MASA is compared with.
    """
    section = config.evaluation
    requests = builder.requests(
        problems,
        step="evaluation",
        num_solutions=section.num_samples,
        num_metas=section.num_metas,
        sampling=Sampling(temperature=section.temperature),
        max_solution_tokens=config.held_out_solution_tokens,
    )
    return grader.grade(problems, grader.sampled(engine, problems, requests), held_out=True)


def record_held_out(metrics: StepMetrics, groups: Sequence[GradedGroup]) -> None:
    """The metrics of all held-out problems under ``eval/``, and of each source, where several are, under its name.

    ``accuracy`` is pass@1 as the mean over problems of their pass rates. What cannot be computed (a correlation where
    one side does not vary) is left out. Reward functions that are asked here have their mean as ``eval/function_NAME``.
    """
    outcomes = [outcome_of(group) for group in groups]
    if not outcomes:
        return
    metrics.lasts(_named("eval", outcomes))
    sources = by_source(outcomes)
    if len(sources) > 1:
        for source, members in sources.items():
            metrics.lasts(_named(f"eval/{keys.source_name(source)}", members))
    for name, rewards in function_values(groups).items():
        metrics.means(f"eval/function_{name}", rewards)


def held_out_rows(step: int, groups: Sequence[GradedGroup]) -> list[dict[str, Any]]:
    """One row a problem for the run directory's evaluation.jsonl: what paired comparisons of runs are made from."""
    return [{"step": step, **outcome_of(group).row()} for group in groups]


def benchmark_problems(
    names: Sequence[str], data: dict[str, str], *, limit: int | None = None, declarations: Sequence[str] = ()
) -> list[Problem]:
    """The problems of the benchmarks named in ``evaluation.benchmarks``, to be evaluated beside ``problems.eval``.

    ``data`` maps benchmark names to local files, ``declarations`` are YAML files of further benchmarks. Each problem's
    source is its benchmark's name.

    Raises:
        ConfigError: a file of declarations that cannot be read, or a name that two of them declare.
        ProblemDataError: a name that is no benchmark or suite, or data that cannot be read.
    """
    from masa.evaluation.benchmarks import resolve_benchmarks
    from masa.evaluation.benchmarks.loading import DataChoice, load_benchmark
    from masa.evaluation.benchmarks.own import OwnBenchmarks, read_declarations, together

    own = OwnBenchmarks()
    for path in declarations:
        own = together(own, read_declarations(path), key="evaluation.declarations")
    choice = DataChoice(files={name: Path(path).expanduser() for name, path in data.items()}, limit=limit)
    chosen = resolve_benchmarks(names, own.benchmarks, own.suites)
    return [problem for benchmark in chosen for problem in load_benchmark(benchmark, choice)]


def _named(prefix: str, outcomes: Sequence[Outcome]) -> dict[str, float]:
    statistics = solution_statistics(outcomes)
    if any(outcome.metas for outcome in outcomes):
        statistics |= meta_statistics(outcomes)
    found = values(statistics, len(outcomes))
    return {f"{prefix}/{_NAMES.get(name, name)}": value for name, value in found.items() if math.isfinite(value)}

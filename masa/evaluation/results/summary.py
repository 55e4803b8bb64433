"""The results of an evaluation: one JSON object, from outcomes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from masa.evaluation.benchmarks import BENCHMARKS, SUITES
from masa.evaluation.benchmarks.benchmark import Benchmark
from masa.evaluation.measures.meta_awareness import (
    ControlThresholds,
    calibration_curve,
    calibration_error,
    cutoff_detection,
    gate_detection,
    meta_statistics,
)
from masa.evaluation.measures.metrics import compare_outcomes, estimates, samples_per_problem, solution_statistics
from masa.evaluation.measures.outcomes import Outcome
from masa.evaluation.measures.statistics import RESAMPLES


def benchmark_results(
    benchmark: Benchmark,
    outcomes: Sequence[Outcome],
    *,
    thresholds: ControlThresholds | None = None,
    ks: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    verifier: Mapping[str, int] | None = None,
    votes: bool = True,
) -> dict[str, Any]:
    """All metrics of one benchmark, each with its 95 % interval.

    ``verifier`` counts verdicts by status; ``votes`` says whether the responses have final answers to vote on.
    """
    thresholds = thresholds or ControlThresholds()
    problems = len(outcomes)
    statistics = solution_statistics(outcomes, ks, votes=votes)
    found: dict[str, Any] = {
        "title": benchmark.title,
        "problems": problems,
        "samples": samples_per_problem(outcomes),
        "metas": len(outcomes[0].metas),
        "tokens": sum(sum(outcome.lengths) for outcome in outcomes),
        "verdicts": dict(verifier or {}),
        "metrics": {key: one.row() for key, one in estimates(statistics, problems, resamples=resamples).items()},
    }
    if any(outcome.metas for outcome in outcomes):
        curve = calibration_curve(outcomes)
        meta = estimates(meta_statistics(outcomes), problems, resamples=resamples)
        found["meta"] = {
            "metrics": {key: one.row() for key, one in meta.items()},
            "calibration": curve,
            "calibration_error": calibration_error(curve),
            "gate": gate_detection(outcomes, thresholds).row(),
            "cutoff": cutoff_detection(outcomes, thresholds).row(),
        }
    return found


def comparison(
    ours: Mapping[str, Sequence[Outcome]], theirs: Mapping[str, Sequence[Outcome]], resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Paired differences in pass@1 (ours minus theirs) by benchmark, over the problems that both evaluated."""
    rows = {}
    for name, outcomes in ours.items():
        found = compare_outcomes(outcomes, theirs.get(name, ()), resamples=resamples)
        if found is not None:
            rows[name] = {**found.difference.row(), "p_value": found.p_value, "problems": found.problems}
    return rows


def all_results(
    settings: Mapping[str, Any], benchmarks: Mapping[str, Mapping[str, Any]], comparisons: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of results.json.

    ``results`` repeats every metric under the flat keys that readers of lm-evaluation-harness files know
    (``"pass@1,none"`` and ``"pass@1_stderr,none"``), ``benchmarks`` holds the intervals and the meta-awareness.
    """
    return {
        "model_name": settings["model"]["path"],
        "results": {name: _flat(found) for name, found in benchmarks.items()},
        "n-samples": {name: {"original": BENCHMARKS[name].rows if name in BENCHMARKS else None,
                             "effective": found["problems"]}
                      for name, found in benchmarks.items()},
        "suites": _suites(benchmarks, settings["own"]["suites"]),
        "benchmarks": dict(benchmarks),
        "comparisons": dict(comparisons),
        "config": dict(settings),
    }  # fmt: skip


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"alias": found["title"]}
    groups = {"": found["metrics"], "meta/": found.get("meta", {}).get("metrics", {})}
    for prefix, metrics in groups.items():
        for key, one in metrics.items():
            flat[f"{prefix}{key},none"] = one["value"]
            flat[f"{prefix}{key}_stderr,none"] = one["error"]
    return flat


def _suites(benchmarks: Mapping[str, Mapping[str, Any]], own: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Mean of pass@1 over the benchmarks of each suite that was evaluated as a whole."""
    suites = {}
    for suite, members in {**SUITES, **own}.items():
        if all(member in benchmarks for member in members):
            values = [benchmarks[member]["metrics"]["pass@1"]["value"] for member in members]
            suites[suite] = {"pass@1": math.fsum(values) / len(values), "benchmarks": len(members)}
    return suites

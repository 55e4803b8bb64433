"""Evaluation tables: benchmarks by method with intervals over problems, and paired differences to the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from masa.evaluation.benchmarks import BENCHMARKS
from masa.evaluation.measures.meta_awareness import meta_statistics
from masa.evaluation.measures.metrics import samples_per_problem
from masa.evaluation.measures.outcomes import Outcome
from masa.evaluation.measures.pass_at_k import majority_vote, pass_at_k
from masa.evaluation.measures.statistics import Estimate, bootstrap, mean_of, paired_difference
from masa.reporting.groups import RunGroup, baseline_of
from masa.reporting.tables import GAP, Row, Table

# Reports are drawn often; a tenth of an evaluation's resamples moves a bound by less than a digit that is shown.
_RESAMPLES = 1999


@dataclass(frozen=True)
class Entry:
    """One model state under comparison: a group at one evaluation; per seed, the outcomes of one benchmark."""

    label: str
    color: str
    outcomes: Sequence[Sequence[Outcome]]
    is_baseline: bool


def evaluation_tables(groups: Sequence[RunGroup]) -> list[Table]:
    """For each benchmark: accuracy, paired differences, meta-awareness; held-out problems of training come first."""
    tables = []
    for name, entries in _by_benchmark(groups).items():
        title = BENCHMARKS[name].title if name in BENCHMARKS else name
        tables.append(_accuracy_table(title, name, entries))
        if (paired := _paired_table(title, entries)) is not None:
            tables.append(paired)
        if any(outcome.metas for entry in entries for seed in entry.outcomes for outcome in seed):
            tables.append(_meta_table(title, entries))
    return tables


def _by_benchmark(groups: Sequence[RunGroup]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    if not groups:
        return found
    baseline = baseline_of(groups)
    for group in groups:
        held_out = [run.held_out for run in group.runs if run.held_out]
        if held_out:
            entry = Entry(group.label, group.color, held_out, group is baseline)
            found.setdefault("Held-out problems at the end of training", []).append(entry)
    for group in groups:
        names = dict.fromkeys(evaluation.name for run in group.runs for evaluation in run.evaluations)
        for number, evaluation_name in enumerate(names):
            chosen = [one for run in group.runs for one in run.evaluations if one.name == evaluation_name]
            label = f"{group.label}, {evaluation_name}" if len(names) > 1 or group.trained else group.label
            for benchmark in dict.fromkeys(name for one in chosen for name in one.outcomes):
                seeds = [one.outcomes[benchmark] for one in chosen if one.outcomes.get(benchmark)]
                if seeds:
                    is_baseline = group is baseline and number == len(names) - 1
                    found.setdefault(benchmark, []).append(Entry(label, group.color, seeds, is_baseline))
    return found


def shared_problems(seeds: Sequence[Sequence[Outcome]]) -> list[list[Outcome]]:
    """For each problem that all seeds have, its outcomes by seed, in the first seed's order."""
    by_id = [{outcome.problem: outcome for outcome in outcomes} for outcomes in seeds]
    return [
        [members[outcome.problem] for members in by_id]
        for outcome in seeds[0]
        if all(outcome.problem in members for members in by_id)
    ]


def per_problem(seeds: Sequence[Sequence[Outcome]], measure: Callable[[Outcome], float]) -> dict[str, float]:
    """A measure of each shared problem, as the mean over seeds."""
    return {group[0].problem: float(np.mean([measure(one) for one in group])) for group in shared_problems(seeds)}


def _accuracy_table(title: str, name: str, entries: Sequence[Entry]) -> Table:
    samples = min(samples_per_problem(entry.outcomes[0]) for entry in entries)
    ks = sorted({1, samples, *(k for k in (4, 8, 32) if k <= samples)})
    votes = not (name in BENCHMARKS and BENCHMARKS[name].verifier == "code")
    columns = ["seeds", "problems", *(f"pass@{k}" for k in ks)]
    if votes and samples > 1:
        columns.append(f"majority@{samples}")
    columns += ["mean length", "truncated"]
    rows = []
    for entry in entries:
        cells = [str(len(entry.outcomes)), f"{len(shared_problems(entry.outcomes)):,}"]
        cells += [_rate(_estimate(entry, _pass_at(k))) for k in ks]
        if votes and samples > 1:
            cells.append(_rate(_estimate(entry, lambda one: majority_vote(one.answers, one.correct))))
        cells.append(_number(_estimate(entry, lambda one: float(np.mean(one.lengths)))))
        cells.append(_rate(_estimate(entry, lambda one: float(np.mean(one.truncated)))))
        rows.append(Row(entry.label, cells, entry.color))
    return Table(
        "method",
        columns,
        rows,
        title=title,
        note="Rates in per cent, lengths in tokens; in brackets 95 % bootstrap intervals over problems. Each problem "
        "counts with its mean over seeds.",
    )


def _paired_table(title: str, entries: Sequence[Entry]) -> Table | None:
    """Differences in pass@1 to the baseline's (or the first) entry; None where there is nothing to compare."""
    baseline = next((entry for entry in entries if entry.is_baseline), entries[0])
    theirs = per_problem(baseline.outcomes, lambda one: one.pass_rate)
    rows = []
    for entry in entries:
        ours = per_problem(entry.outcomes, lambda one: one.pass_rate)
        shared = [problem for problem in ours if problem in theirs]
        if entry is baseline or not shared:
            continue
        found = paired_difference([ours[p] for p in shared], [theirs[p] for p in shared], resamples=_RESAMPLES)
        better = sum(ours[p] > theirs[p] for p in shared)
        worse = sum(ours[p] < theirs[p] for p in shared)
        p_value = "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
        cells = [f"{len(shared):,}", _rate(found.difference, signed=True), p_value, f"{better:,} / {worse:,}"]
        rows.append(Row(entry.label, cells, entry.color))
    if not rows:
        return None
    return Table(
        "method",
        ["shared problems", "difference in pass@1", "p (permutation)", "problems better / worse"],
        rows,
        title=f"{title}: paired differences to {baseline.label}",
        note="Points of pass@1 on the same problems. The two-sided p-value and the 95 % interval in brackets come "
        "from one sign-flip permutation test: the interval holds every difference that the test does not reject.",
    )


def _meta_table(title: str, entries: Sequence[Entry]) -> Table:
    named = {
        "pass rate r": ("pass_rate_pearson", _number),
        "pass rate ρ": ("pass_rate_spearman", _number),
        "pass rate error": ("pass_rate_error", _rate),
        "length r": ("length_pearson", _number),
        "length error": ("length_error", _number),
        "notion precision": ("notion_precision", _rate),
        "parsed": ("parse_rate", _rate),
    }
    rows = []
    for entry in entries:
        # Predictions of all seeds stand beside each other: each was made, and is judged, on its own policy.
        outcomes = [outcome for seed in entry.outcomes for outcome in seed]
        statistics: Mapping[str, object] = meta_statistics(outcomes) if any(one.metas for one in outcomes) else {}
        cells = []
        for key, shown in named.values():
            statistic = statistics.get(key)
            value = bootstrap(statistic, len(outcomes), resamples=499) if statistic else Estimate(math.nan)  # type: ignore[arg-type]
            cells.append(shown(value))
        rows.append(Row(entry.label, cells, entry.color))
    return Table(
        "method",
        list(named),
        rows,
        title=f"{title}: meta-awareness",
        note="Correlation and mean absolute error of predictions, errors of pass rates in points and of lengths in "
        "tokens; in brackets 95 % bootstrap intervals over problems.",
    )


def _pass_at(k: int) -> Callable[[Outcome], float]:
    return lambda one: float(pass_at_k(len(one.correct), sum(one.correct), k))


def _estimate(entry: Entry, measure: Callable[[Outcome], float]) -> Estimate:
    values = list(per_problem(entry.outcomes, measure).values())
    return bootstrap(mean_of(values), len(values), resamples=_RESAMPLES) if values else Estimate(math.nan)


def _rate(value: Estimate, *, signed: bool = False) -> str:
    return _shown(value, "{:+.1f}" if signed else "{:.1f}", 100.0)


def _number(value: Estimate) -> str:
    return _shown(value, "{:.2f}" if abs(value.value) <= 1 else "{:,.0f}", 1.0)


def _shown(value: Estimate, form: str, scale: float) -> str:
    if math.isnan(value.value):
        return GAP
    text = form.format(scale * value.value)
    if math.isnan(value.low):
        return text
    return f"{text} [{form.format(scale * value.low)}, {form.format(scale * value.high)}]"

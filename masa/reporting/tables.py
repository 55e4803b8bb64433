"""Tables of the report: what the runs came to, what they cost, how they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.reporting.curves import (
    Spread,
    last_step_with,
    last_value,
    mean_over,
    over_problems,
    reached,
    spread,
    total,
    value_before,
)
from masa.reporting.groups import RunGroup, baseline_of, differences
from masa.reporting.runs import Run
from masa.tracking import keys
from masa.tracking.durations import duration
from masa.tracking.metrics import mean_of_tenth

GAP = "–"
NOT_MEASURED = "not measured"
_NO_METAS = "no metas"


@dataclass(frozen=True)
class Row:
    """``label`` and, where it stands for a group, its colour; one text a column."""

    label: str
    cells: Sequence[str]
    color: str = ""


@dataclass(frozen=True)
class Table:
    """``columns`` names the cells; the first column (the labels) is ``first``."""

    first: str
    columns: Sequence[str]
    rows: Sequence[Row]
    title: str = ""
    note: str = ""


def overview_table(groups: Sequence[RunGroup]) -> Table:
    """What each group came to: accuracy before and after, self-alignment in the first and last tenth."""
    rows = []
    for group in (group for group in groups if group.trained):
        cells = [
            _runs_and_seeds(group),
            f"{max(run.last_step for run in group.runs):,}",
            _accuracy_before(group),
            _accuracy_after(group),
        ]
        for key in (keys.R_DIFFICULTY, keys.R_LENGTH, keys.R_NOTION):
            first, last = (
                spread([_tenth(run.metrics, key, which) for run in group.runs]) for which in ("first", "last")
            )
            cells.append(_NO_METAS if math.isnan(last.mean) else f"{first.mean:.2f} → {last.mean:.2f}")
        rows.append(Row(group.label, cells, group.color))
    return Table(
        "method",
        ["runs", "steps", "accuracy before", "accuracy after", "r_difficulty", "r_length", "r_notion"],
        rows,
        note="Held-out pass@1 in per cent. Several seeds: their mean ± half of the 95 % interval by Student's t. One "
        "run: in brackets its 95 % bootstrap interval over problems, which says nothing about other seeds. Rewards: "
        "means of the first and the last tenth of the steps.",
    )


def _runs_and_seeds(group: RunGroup) -> str:
    """How many runs, and their seeds: a lone `0` would read as no run at all."""
    seeds = ", ".join(map(str, group.seeds))
    return f"{len(group.runs)} (seed{'s' if len(group.seeds) > 1 else ''} {seeds})" if seeds else str(len(group.runs))


def _accuracy_before(group: RunGroup) -> str:
    return _accuracy_of(group, {id(run): 0 for run in group.runs}, value_before)


def _accuracy_after(group: RunGroup) -> str:
    """The last accuracy measured in training, with its step where training went on after it."""
    steps = {id(run): last_step_with(run.metrics, keys.HELD_OUT_ACCURACY) for run in group.runs}
    text = _accuracy_of(group, steps, last_value)
    early = sorted({steps[id(run)] for run in group.runs if 0 < steps[id(run)] < run.last_step})
    return f"{text} (step {', '.join(map(str, early))})" if early else text


def _accuracy_of(
    group: RunGroup, steps: Mapping[int, int], measure: Callable[[Sequence[Mapping[str, Any]], str], float]
) -> str:
    values = [measure(run.metrics, keys.HELD_OUT_ACCURACY) for run in group.runs]
    if all(math.isnan(value) for value in values):
        return NOT_MEASURED
    if len(group.runs) > 1:
        return per_cent(spread(values))
    (run,) = group.runs
    found = over_problems(run, steps[id(run)], values[0])
    text = f"{100 * found.mean:.1f}"
    return text if math.isnan(found.low) else f"{text} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def cost_table(groups: Sequence[RunGroup]) -> Table:
    """Tokens, FLOPs and seconds of each group."""
    sums: Sequence[tuple[str, Callable[[Run], float], Callable[[float], str]]] = (
        ("solution tokens", lambda run: total(run.metrics, "cost/solution_tokens"), count),
        ("meta tokens", lambda run: total(run.metrics, "cost/meta_tokens"), count),
        ("tokens generated", lambda run: total(run.metrics, keys.TOKENS_GENERATED), count),
        ("tokens trained", lambda run: total(run.metrics, "cost/tokens_trained"), count),
        ("FLOPs", lambda run: total(run.metrics, "cost/flops"), scientific),
        ("training", lambda run: total(run.metrics, keys.STEP_SECONDS), seconds),
        ("of it rollouts", _rollout_seconds, seconds),
        ("of it updates", lambda run: total(run.metrics, "time/update"), seconds),
        ("evaluation", lambda run: total(run.metrics, keys.EVALUATION_SECONDS), seconds),
    )
    rows = [
        Row(
            group.label,
            [shown(spread([measure(run) for run in group.runs]).mean) for _, measure, shown in sums],
            group.color,
        )
        for group in groups
        if group.trained
    ]
    return Table("method", [name for name, _, _ in sums], rows, note="Whole runs, means over seeds.")


def paths_table(groups: Sequence[RunGroup]) -> Table:
    """What a problem costs by path: rollouts, the tokens of one, and the metas' share; empty without metas."""
    trained = [group for group in groups if group.trained]
    if not any(total(run.metrics, "cost/meta_tokens") > 0 for group in trained for run in group.runs):
        return Table("method", [], [])
    means: Sequence[tuple[str, Callable[[Run], float]]] = (
        ("tokens of a solution", lambda run: mean_over(run.metrics, "rollout/solution_length")),
        ("tokens of a meta", lambda run: mean_over(run.metrics, "rollout/meta_length")),
        ("solution tokens a problem drawn", lambda run: _a_problem(run, "cost/solution_tokens")),
        ("meta tokens a problem drawn", lambda run: _a_problem(run, "cost/meta_tokens")),
    )
    rows = []
    for group in trained:
        cells = [_number(spread([measure(run) for run in group.runs]).mean) for _, measure in means]
        shares = [
            total(run.metrics, "cost/meta_tokens") / total(run.metrics, keys.TOKENS_GENERATED) for run in group.runs
        ]
        rows.append(Row(group.label, [*cells, per_cent(spread(shares))], group.color))
    return Table(
        "method",
        [*(name for name, _ in means), "metas, % of all tokens"],
        rows,
        title="Tokens by path",
        note="Means over the steps of whole runs and over seeds; a problem drawn is one solved or gated.",
    )


def reached_table(groups: Sequence[RunGroup]) -> Table:
    """What each group had spent when it first had the baseline's final held-out accuracy; empty without accuracies."""
    trained = [group for group in groups if group.trained]
    if len(trained) < 2:
        return Table("method", [], [])
    baseline = baseline_of(trained)
    target = spread([last_value(run.metrics, keys.HELD_OUT_ACCURACY) for run in baseline.runs]).mean
    if math.isnan(target):
        return Table("method", [], [])
    rows = [Row(group.label, _reached_cells(group, baseline, target), group.color) for group in trained]
    return Table(
        "method",
        ["seeds that reached it", "steps", "tokens generated", "less by", "seconds of training", "less by"],
        rows,
        title=f"To {baseline.label}'s final accuracy",
        note=f"What had been spent at the first evaluation with a held-out accuracy of at least {100 * target:.1f} %, "
        f"the mean that {baseline.label} ends with; means over the seeds that reached it, and by which factor that is "
        f"less than what the whole runs of {baseline.label} spent.",
    )


def differences_table(groups: Sequence[RunGroup]) -> Table:
    """The configuration keys in which the groups differ."""
    found = differences(groups)
    labels = [group.label for group in groups if group.trained]
    rows = [Row(key, [GAP if value is None else str(value) for value in values]) for key, values in found.items()]
    return Table("key", labels, rows, note="Seeds and paths apart, these keys tell the methods apart.")


def runs_table(groups: Sequence[RunGroup]) -> Table:
    """Every directory that the report was made from."""
    rows = [
        Row(
            group.label,
            [
                GAP if run.seed is None else str(run.seed),
                run.name or GAP,
                run.path.name,
                str(run.last_step) if run.metrics else GAP,
                _accuracy(last_value(run.metrics, keys.HELD_OUT_ACCURACY)) if run.metrics else GAP,
                ", ".join(evaluation.name for evaluation in run.evaluations) or GAP,
                "yes" if run in group.runs else f"no: seed {run.seed} is there already",
            ],
            group.color,
        )
        for group in groups
        for run in (*group.runs, *group.repeats)
    ]
    columns = ["seed", "name", "folder", "steps", "accuracy after", "evaluations", "counted"]
    return Table("method", columns, rows)


def count(value: float) -> str:
    """``1.24 M``: a number of tokens."""
    if math.isnan(value):
        return GAP
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def scientific(value: float) -> str:
    """``3.1 × 10¹⁵``."""
    if math.isnan(value) or value <= 0:
        return GAP
    exponent = math.floor(math.log10(value))
    return f"{value / 10**exponent:.2f} × 10{str(exponent).translate(str.maketrans('0123456789-', '⁰¹²³⁴⁵⁶⁷⁸⁹⁻'))}"


def seconds(value: float) -> str:
    return GAP if math.isnan(value) else duration(value)


def per_cent(value: Spread) -> str:
    """``45.3 ± 1.2``, a rate in per cent with half of its interval."""
    if math.isnan(value.mean):
        return GAP
    text = f"{100 * value.mean:.1f}"
    return text if math.isnan(value.low) else f"{text} ± {100 * (value.high - value.low) / 2:.1f}"


def _reached_cells(group: RunGroup, baseline: RunGroup, target: float) -> list[str]:
    steps = [reached(run.metrics, target, "step") for run in group.runs]
    there = sum(not math.isnan(step) for step in steps)
    cells = [f"{there} of {len(steps)}", GAP if not there else f"{spread(steps).mean:.0f}"]
    for key, against, shown in (
        (keys.TOKENS_GENERATED, "tokens", count),
        (keys.STEP_SECONDS, "seconds", seconds),
    ):
        ours = spread([reached(run.metrics, target, against) for run in group.runs]).mean  # type: ignore[arg-type]
        whole = spread([total(run.metrics, key) for run in baseline.runs]).mean
        known = ours > 0 and not math.isnan(whole)
        cells += [shown(ours), f"{whole / ours:.2f}×" if known else GAP]
    return cells


def _a_problem(run: Run, key: str) -> float:
    drawn = total(run.metrics, "cost/problems_drawn")
    return total(run.metrics, key) / drawn if drawn else math.nan


def _number(value: float) -> str:
    return GAP if math.isnan(value) else f"{value:,.1f}"


def _rollout_seconds(run: Run) -> float:
    """One call for both paths, or the two calls of a step whose metas come first."""
    names = ("time/rollout", "time/meta_rollout", "time/solution_rollout")
    whole = total(run.metrics, names[0])
    if not math.isnan(whole):
        return whole
    parts = [value for name in names[1:] if not math.isnan(value := total(run.metrics, name))]
    return math.fsum(parts) if parts else math.nan


def _tenth(rows: Sequence[Mapping[str, Any]], key: str, which: Any) -> float:
    value = mean_of_tenth([row for row in rows if row["step"] > 0], key, which)
    return math.nan if value is None else value


def _accuracy(value: float) -> str:
    return NOT_MEASURED if math.isnan(value) else f"{100 * value:.1f} %"

"""Tables and the figure of a study, made from its records alone: ``results.md`` and ``accuracy.png`` beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from masa.reporting.curves import Spread, spread
from masa.reporting.figure import Panel, ReportFigure, write_png
from masa.studies.comparison import (
    WINDOW,
    ArmResult,
    BySeed,
    compare,
    cost_to_reach,
    final_accuracy,
    mean,
    mean_record,
    oracle_saving,
    smoothed,
)
from masa.studies.gate_balance import gate_balance
from masa.studies.plan import Study
from masa.studies.record import Record, RecordError, read_record
from masa.tracking.environment import commit_name
from masa.tracking.figure_style import style

COSTS = {"tokens": "generated tokens", "trained_tokens": "training tokens", "seconds": "seconds"}
RESULTS, FIGURE = "results.md", "accuracy.png"
_GRID = 60


def read_records(folder: Path, study: Study) -> dict[str, dict[int, Record]]:
    """The study's records that are there, by arm (in the study's order) and seed.

    Raises:
        RecordError: a file that is no record.
    """
    found: dict[str, dict[int, Record]] = {}
    for arm in study.arms:
        for seed in study.seeds:
            path = folder / f"{arm}-seed{seed}.json"
            if path.exists():
                found.setdefault(arm, {})[seed] = read_record(path)
    return found


def has_baseline(study: Study, folder: Path) -> bool:
    """Whether a run of the arm that the others are compared with has a record."""
    return any((folder / f"{study.baseline}-seed{seed}.json").exists() for seed in study.seeds)


def write_study_report(name: str, study: Study, folder: Path) -> Path:
    """Write tables and figure of the records in ``folder``; the path of the tables comes back.

    Raises:
        RecordError: the baseline has no record, or a file is none.
    """
    arms = read_records(folder, study)
    if study.baseline not in arms:
        raise RecordError(
            f"{folder} holds no record of the baseline {study.baseline!r}, so there is nothing to compare"
        )
    results = compare(arms, study.baseline, list(COSTS))
    text = [
        f"# {study.title}",
        "",
        f"`python -m masa.study configs/studies/{name}.yaml` trained these runs and wrote this page.",
        "",
    ]
    text += _about(arms, study)
    text += ["## Accuracy", "", *_accuracy_table(results, study), "", _accuracy_note(study), ""]
    text += ["## Cost of the baseline's accuracy", "", *_saving_table(results, study), "", _saving_note(study), ""]
    text += ["Curves averaged over the seeds, where an arm has run with all of the baseline's:", ""]
    text += [*_averaged_table(arms, study), ""]
    text += ["## What a run consists of", "", *_course_table(arms, study), ""]
    text += _gate_lines(arms, study)
    text += _oracle_lines(arms, study)
    text += [f"![Accuracy against cost]({FIGURE})", ""]
    write_png(_figure(arms, study), folder / FIGURE)
    path = folder / RESULTS
    path.write_text("\n".join(text), encoding="utf-8")
    return path


def _about(arms: Mapping[str, BySeed], study: Study) -> list[str]:
    records = [record for by_seed in arms.values() for record in by_seed.values()]
    platforms = sorted({f"{one.environment['platform']}, {one.environment['cpu_count']} CPUs" for one in records})
    versions = sorted({", ".join(f"{k} {v}" for k, v in one.environment["packages"].items()) for one in records})
    commits = sorted({commit_name(one.environment.get("git"), 8) or "unknown" for one in records})
    planned = len(study.arms) * len(study.seeds)
    return [
        f"{len(records)} of {planned} runs, seeds {', '.join(map(str, study.seeds))}. Machine: {'; '.join(platforms)}. "
        f"Software: {'; '.join(versions)}. Commits: {', '.join(commits)}.",
        "",
    ]


def _accuracy_table(results: Sequence[ArmResult], study: Study) -> list[str]:
    head = ["arm", "seeds", "final accuracy", f"gain over {study.baseline}"]
    head += [f"at equal {label}" for label in COSTS.values()] + [f"gain at equal {label}" for label in COSTS.values()]
    rows = [
        [_title(one.arm, study), str(len(one.seeds)), _shown(one.final), _shown(one.gain, signed=True)]
        + [_shown(one.at_equal[cost]) for cost in COSTS]
        + [_shown(one.gain_at_equal[cost], signed=True) for cost in COSTS]
        for one in results
    ]
    return _table(head, rows)


def _saving_table(results: Sequence[ArmResult], study: Study) -> list[str]:
    head = ["arm", "seeds that reach it"]
    head += [f"times fewer {label}" for label in COSTS.values()]
    head += [f"times fewer {label}, strict" for label in COSTS.values()]
    rows = [
        [_title(one.arm, study), f"{one.reached['tokens']} of {len(one.seeds)}"]
        + [_shown(one.saving[cost], digits=2) for cost in COSTS]
        + [_shown(one.strict_saving[cost], digits=2) for cost in COSTS]
        for one in results
    ]
    return _table(head, rows)


def _averaged_table(arms: Mapping[str, BySeed], study: Study) -> list[str]:
    """The curves averaged over the seeds, read like one run: less noisy than each seed's, and without an interval."""
    base = mean_record(list(arms[study.baseline].values()))
    target = final_accuracy(base)
    head = ["arm", "final accuracy", f"generated tokens to {target:.3f}", "times fewer", "seconds to it", "times fewer"]
    rows = []
    for arm, by_seed in arms.items():
        if set(by_seed) != set(arms[study.baseline]):
            continue
        one = mean_record(list(by_seed.values()))
        row = [_title(arm, study), f"{final_accuracy(one):.3f}"]
        for cost in ("tokens", "seconds"):
            needed = cost_to_reach(one, target, cost)
            known = not math.isnan(needed) and needed > 0
            row += [f"{needed:,.0f}" if known else "never", f"{base.spent[cost][-1] / needed:.2f}" if known else "-"]
        rows.append(row)
    return _table(head, rows)


def _course_table(arms: Mapping[str, BySeed], study: Study) -> list[str]:
    head = ["arm", "generated tokens", "of them metas", "solved by all", "solved by none", "problems gated", "seconds"]
    rows = []
    for arm, by_seed in arms.items():
        records = list(by_seed.values())
        rows.append(
            [
                _title(arm, study),
                f"{mean([one.totals['tokens'] for one in records]):,.0f}",
                _percent(mean([one.totals["cost/meta_tokens"] / one.totals["tokens"] for one in records])),
                _first_and_last(records, "rollout/solved_all"),
                _first_and_last(records, "rollout/solved_none"),
                _percent(
                    mean([one.totals["cost/problems_gated"] / one.totals["cost/problems_drawn"] for one in records])
                ),
                f"{mean([one.totals['seconds'] for one in records]):,.0f}",
            ]
        )
    return _table(head, rows)


def _gate_lines(arms: Mapping[str, BySeed], study: Study) -> list[str]:
    """The balance of every gate of the study beside its break-even line; nothing where no arm gates."""
    base = list(arms[study.baseline].values())
    found = {arm: gate_balance(list(by_seed.values()), base) for arm, by_seed in arms.items()}
    balances = {arm: balance for arm, balance in found.items() if balance is not None}
    if not balances:
        return []
    head = [
        "arm",
        "metas over solutions r",
        "gated q",
        "precision p",
        "break-even q",
        "times the informative groups a token",
        "measured",
    ]
    rows = [
        [_title(arm, study)]
        + [f"{value:.2f}" for value in (one.ratio, one.gated, one.precision, one.break_even, one.saving, one.measured)]
        for arm, one in balances.items()
    ]
    informative = next(iter(balances.values())).informative
    note = (
        f"r is in tokens, of one drawn problem's metas over one solved problem's solutions. Of the baseline's groups "
        f"u = {informative:.2f} are informative. It breaks even at q = r / (1 - (1 - p) / u) (inf: never) and has "
        "(1 - q (1 - p) / u) / (1 - q + r) times the baseline's informative groups for each token. Tokens that a "
        "cutoff saves are not part of it."
    )
    return ["### The gate's balance", "", *_table(head, rows), "", note, ""]


def _oracle_lines(arms: Mapping[str, BySeed], study: Study) -> list[str]:
    """The most that a gate could save the baseline, at the length of the metas that other arms wrote."""
    metas = [
        (one.totals["cost/meta_tokens"], one.totals["cost/problems_drawn"] * one.options.get("algorithm.num_metas", 16))
        for by_seed in arms.values()
        for one in by_seed.values()
        if one.totals["cost/meta_tokens"] and _has_all_metas(one)
    ]
    if not metas:
        return []
    length = math.fsum(tokens for tokens, _ in metas) / math.fsum(count for _, count in metas)
    base = list(arms[study.baseline].values())
    savings = [
        f"{count} metas a problem {mean([oracle_saving(one, length, count) for one in base]):.2f}"
        for count in (0, 2, 4, 8)
    ]
    share = mean([one.flat_tokens / one.totals["tokens"] for one in base])
    return [
        f"Groups of equal rewards took {_percent(share)} of the tokens of {_title(study.baseline, study)}. Had every "
        f"one of them been foreseen from the first step on, it would have generated this many times fewer, with metas "
        f"of {length:.1f} tokens: {'; '.join(savings)}.",
        "",
    ]


def _has_all_metas(record: Record) -> bool:
    """Whether each drawn problem had M metas: no option spared any."""
    spares = ("algorithm.num_metas_when_calibrated", "controls.selection.keep_predictions")
    return not any(record.options.get(option) for option in spares)


def _accuracy_note(study: Study) -> str:
    return (
        f"Means over seeds with 95 % intervals by Student's t; gains are paired by seed. Accuracy is the mean of "
        f"{WINDOW} evaluations in a row. The equal amount of a seed is what its least costly arm spent in the whole "
        "run; "
        "what evaluations cost is left out."
    )


def _saving_note(study: Study) -> str:
    return (
        f"What {_title(study.baseline, study)} spent in its whole run, divided by what the arm had spent when it first "
        "reached that run's final accuracy; strict: divided into what the baseline itself had spent when it first was "
        "there. Geometric means over the seeds that reach it, with 95 % intervals; above 1 is a saving."
    )


def _figure(arms: Mapping[str, BySeed], study: Study) -> ReportFigure:
    panels = [
        Panel(_drawing(arms, study, cost, label), f"Held-out accuracy of each arm against {label}.")
        for cost, label in COSTS.items()
    ]
    return ReportFigure("accuracy", study.title, "", panels)


def _drawing(arms: Mapping[str, BySeed], study: Study, cost: str, label: str) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for number, (arm, by_seed) in enumerate(arms.items()):
            x, means = _mean_curve(list(by_seed.values()), cost)
            color = f"C{number % 10}"
            axes.plot(x, [one.mean for one in means], color=color, label=_title(arm, study), linewidth=1.4)
            axes.fill_between(x, [one.low for one in means], [one.high for one in means], color=color, alpha=0.12)
        style(axes, "", label, "held-out accuracy")
        axes.legend(fontsize=6, frameon=False)

    return draw


def _mean_curve(records: Sequence[Record], cost: str) -> tuple[list[float], list[Spread]]:
    """The moving mean of the accuracy over the seeds at equal amounts, up to where every seed has come."""
    end = min(one.spent[cost][-1] for one in records)
    x = np.linspace(0.0, end, _GRID)
    values = [np.interp(x, one.spent[cost], smoothed(one)) for one in records]
    return x.tolist(), [spread([float(v[i]) for v in values]) for i in range(_GRID)]


def _title(arm: str, study: Study) -> str:
    return study.arms[arm].title or arm


def _first_and_last(records: Sequence[Record], key: str) -> str:
    """Mean share over the first and over the last tenth of the steps."""
    first, last = (mean([value for one in records if (value := one.course[key][at]) is not None]) for at in (0, -1))
    return f"{_percent(first)} to {_percent(last)}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def _shown(value: Spread, *, signed: bool = False, digits: int = 3) -> str:
    if math.isnan(value.mean):
        return "-"
    form = f"{'+' if signed else ''}.{digits}f"
    if math.isnan(value.low):
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} ({value.low:{form}} to {value.high:{form}})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]

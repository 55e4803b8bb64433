"""What a reader must know before comparing the runs of a report: other problems, few seeds, one run twice."""

from __future__ import annotations

from collections.abc import Sequence

from masa.reporting.groups import RunGroup

FEW_SEEDS = 3
"""Fewer seeds than this say little about what another seed would give."""


def notices(groups: Sequence[RunGroup]) -> list[str]:
    """Sentences for the head of the page; none where there is nothing to warn of."""
    found = [other_problems(groups), _few_seeds(groups), *(_repeats(group) for group in groups)]
    return [sentence for sentence in found if sentence]


def other_problems(groups: Sequence[RunGroup]) -> str:
    """Which groups were evaluated on other held-out problems than the first; empty where all had the same.

    Problems are compared where the runs wrote them down (evaluation.jsonl); a run that did not is left out.
    """
    sets = {group.label: problems for group in groups if group.trained and (problems := _held_out(group))}
    if len(sets) < 2:
        return ""
    (first, reference), *others = sets.items()
    told = [
        f"{label} on {len(problems):,} ({len(problems & reference):,} of them the same)"
        for label, problems in others
        if problems != reference
    ]
    if not told:
        return ""
    return (
        f"The methods were evaluated on different held-out problems: {first} on {len(reference):,}, {', '.join(told)}. "
        "Their accuracies cannot be compared; the paired differences use the shared problems alone."
    )


def _held_out(group: RunGroup) -> frozenset[str]:
    return frozenset(
        outcome.problem for run in group.runs for outcomes in run.held_out_by_step.values() for outcome in outcomes
    )


def _few_seeds(groups: Sequence[RunGroup]) -> str:
    trained = [group for group in groups if group.trained]
    few = [group for group in trained if len(group.runs) < FEW_SEEDS]
    # A single run is compared with nothing.
    if not few or (len(trained) == 1 and len(few[0].runs) == 1):
        return ""
    told = ", ".join(f"{group.label} {_seeds(len(group.runs))}" for group in few)
    return (
        f"Few seeds: {told}. Runs of one method differ from seed to seed, so a difference between methods may come "
        f"from the seeds alone; with {FEW_SEEDS} or more seeds of each method the report shows how large it is."
    )


def _seeds(count: int) -> str:
    return "has 1 seed" if count == 1 else f"has {count} seeds"


def _repeats(group: RunGroup) -> str:
    if not group.repeats:
        return ""
    names = ", ".join(run.path.name for run in group.repeats)
    return (
        f"{group.label}: {names} repeats a seed that another run has. It is the same sample of the method, so it is "
        "listed and not counted."
    )

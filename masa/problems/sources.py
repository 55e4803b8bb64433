"""The sources that ``problems.train`` names: one, or several with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from masa.config.schema import ProblemsSection
from masa.problems.errors import ProblemDataError
from masa.problems.gym import GYM_VERIFIER
from masa.problems.loading import load_problems
from masa.problems.mixture import MixedSampler, Sampler
from masa.problems.problem import Problem
from masa.problems.report import LoadReport
from masa.problems.sampling import ProblemSampler
from masa.problems.statements import statement_key


@dataclass(frozen=True)
class TrainingProblems:
    """All training problems, and which of several sources each came from.

    ``part_of`` maps a problem's id to the index of its source in ``weights``; both are empty where there is one source.
    """

    problems: list[Problem]
    reports: list[LoadReport]
    weights: tuple[float, ...] = ()
    part_of: Mapping[str, int] = field(default_factory=dict)


def load_training_problems(section: ProblemsSection) -> TrainingProblems:
    """Load ``problems.train``; a source's own ``limit`` and then ``problems.limit`` bound what is taken of it.

    Raises:
        ProblemDataError: as `load_problems`, or one problem that two sources hold under one id.
    """
    named = isinstance(section.train, str)
    entries: list[tuple[str, float, int | None]] = (
        [(section.train, 1.0, None)]
        if isinstance(section.train, str)
        else [(one.source, one.weight, one.limit) for one in section.train]
    )
    problems: list[Problem] = []
    reports = []
    part_of: dict[str, int] = {}
    for part, (source, _, limit) in enumerate(entries):
        loaded = load_problems(
            source,
            split=section.train_split,
            columns=section.columns or None,
            verifier=section.verifier,
            on_bad_row=section.on_bad_row,
            limit=min((one for one in (limit, section.limit) if one is not None), default=None),
        )
        for problem in loaded.problems:
            if problem.id in part_of:
                first = entries[part_of[problem.id]][0]
                raise ProblemDataError(
                    f"problems.train: {first!r} and {source!r} both hold the problem {problem.id!r}; name each data "
                    "set once"
                )
        part_of |= {problem.id: part for problem in loaded.problems}
        problems += loaded.problems
        reports.append(loaded.report)
    if named:
        return TrainingProblems(problems, reports)
    return TrainingProblems(problems, reports, tuple(weight for _, weight, _ in entries), part_of)


def make_sampler(
    problems: Sequence[Problem],
    weights: Sequence[float],
    part_of: Mapping[str, int],
    batch_size: int,
    seed: int,
) -> Sampler:
    """The order of the training problems that are left of ``part_of``; without ``weights`` all of them alike.

    A source of which no problem is left takes no part.
    """
    if not weights:
        return ProblemSampler(problems, batch_size, seed)
    parts = [([one for one in problems if part_of[one.id] == part], weight) for part, weight in enumerate(weights)]
    return MixedSampler([part for part in parts if part[0]], batch_size, seed)


def without_held_out(train: Sequence[Problem], held_out: Sequence[Problem]) -> list[Problem]:
    """``train`` less the generated problems that are also held out: a small task repeats itself under any seed."""
    kept_out = {statement_key(problem.statement) for problem in held_out if problem.verifier == GYM_VERIFIER}
    return [
        problem
        for problem in train
        if problem.verifier != GYM_VERIFIER or statement_key(problem.statement) not in kept_out
    ]

"""Readable samples: a group's best and worst meta-predictions, with the truth and the solutions beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from masa.reporting.groups import RunGroup
from masa.reporting.runs import Run
from masa.rewards.meta_prediction import MetaKeys, MetaPrediction, parse_meta_prediction

SHOWN = 3
_LONGEST_TEXT = 6000


@dataclass(frozen=True)
class SolutionSample:
    """One solution as it was written; ``correct`` None: the row does not say."""

    text: str
    correct: bool | None


@dataclass(frozen=True)
class MetaSample:
    """One meta-prediction: what was asked, what it says, what happened. Lengths in tokens."""

    step: int
    seed: int | None
    problem: str
    answer: str
    response: str
    prediction: MetaPrediction
    rewards: Mapping[str, float]
    pass_rate: float | None
    correct_lengths: tuple[int, ...]
    solutions: tuple[SolutionSample, ...]

    @property
    def score(self) -> float:
        return self.rewards.get("r_meta", 0.0)


@dataclass(frozen=True)
class SampleSet:
    """What is shown of one group."""

    label: str
    color: str
    best: Sequence[MetaSample]
    worst: Sequence[MetaSample]


@dataclass(frozen=True)
class SolvedSample:
    """One problem of a step with its solutions."""

    step: int
    seed: int | None
    problem: str
    answer: str
    solutions: tuple[SolutionSample, ...]


@dataclass(frozen=True)
class SolvedSet:
    """Solutions of one group."""

    label: str
    color: str
    problems: Sequence[SolvedSample]


_Sample = TypeVar("_Sample", MetaSample, SolvedSample)


def solution_sets(groups: Sequence[RunGroup], shown: int = SHOWN) -> list[SolvedSet]:
    """Problems of each group's last recorded steps with their solutions: what the trained policy writes."""
    sets = []
    for group in groups:
        found = [sample for run in group.runs for sample in solved_samples(run)]
        last = sorted(found, key=lambda one: -one.step)
        if last:
            sets.append(SolvedSet(group.label, group.color, _distinct(last, shown)))
    return sets


def solved_samples(run: Run) -> list[SolvedSample]:
    """The solutions in a run's samples.jsonl, by step and problem."""
    return [
        SolvedSample(
            step,
            run.seed,
            _cut(str(rows[0].get("prompt", ""))),
            _cut(str(rows[0].get("answer", ""))),
            _solutions(rows),
        )
        for (step, _), rows in _solution_rows(run).items()
    ]


def _solution_rows(run: Run) -> dict[tuple[int, str], list[Mapping[str, Any]]]:
    """The rows of solutions, by step and problem."""
    found: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for row in run.samples:
        if row.get("path") == "solution":
            found.setdefault((row["step"], row["problem"]), []).append(row)
    return found


def _solutions(rows: Sequence[Mapping[str, Any]]) -> tuple[SolutionSample, ...]:
    return tuple(SolutionSample(_cut(str(row.get("response", ""))), _correct(row)) for row in rows)


def sample_sets(groups: Sequence[RunGroup], shown: int = SHOWN) -> list[SampleSet]:
    """The best and worst meta-predictions of each group that made any, by r_meta, each problem at most once.

    Of equal scores the later step is shown, since it is the trained policy that readers ask about.
    """
    sets = []
    for group in groups:
        found = [sample for run in group.runs for sample in meta_samples(run)]
        if found:
            best = _distinct(sorted(found, key=lambda one: (-one.score, -one.step)), shown)
            taken = {one.problem for one in best}
            rest = [one for one in found if one.problem not in taken]
            worst = _distinct(sorted(rest, key=lambda one: (one.score, -one.step)), shown)
            sets.append(SampleSet(group.label, group.color, best, worst))
    return sets


def meta_samples(run: Run) -> list[MetaSample]:
    """The meta-predictions in a run's samples.jsonl, joined with what predictions.jsonl says of their problems."""
    truths = {(row["step"], row["problem"]): row for row in run.predictions}
    solutions = _solution_rows(run)
    found = []
    for row in run.samples:
        if row.get("path") != "meta":
            continue
        key = (row["step"], row["problem"])
        truth, own = truths.get(key, {}), solutions.get(key, [])
        found.append(
            MetaSample(
                step=int(row["step"]),
                seed=run.seed,
                problem=_cut(str(own[0]["prompt"] if own else row.get("prompt", ""))),
                answer=_cut(str(row.get("answer", ""))),
                response=_cut(str(row.get("response", ""))),
                prediction=_parse(str(row.get("response", "")), run),
                rewards={name: float(value or 0.0) for name, value in (row.get("reward") or {}).items()},
                pass_rate=truth.get("pass_rate"),
                correct_lengths=tuple(truth.get("correct_lengths") or ()),
                solutions=_solutions(own),
            )
        )
    return found


def _parse(text: str, run: Run) -> MetaPrediction:
    section = run.section("prompts")
    named = section.get("meta_keys") or {}
    known = MetaKeys()
    keys = MetaKeys(
        (named.get("notions", "notions"), *known.notions),
        (named.get("pass_rate", "pass_rate"), *known.pass_rate),
        (named.get("solution_length", "solution_length"), *known.length),
    )
    return parse_meta_prediction(text, keys=keys, pass_rate_total=int(section.get("pass_rate_total") or 8))


def _correct(row: Mapping[str, Any]) -> bool | None:
    value = (row.get("reward") or {}).get("correctness")
    return None if value is None else value >= 1


def _distinct(samples: Sequence[_Sample], count: int) -> list[_Sample]:
    found: dict[str, _Sample] = {}
    for sample in samples:
        found.setdefault(sample.problem, sample)
    return list(found.values())[:count]


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"

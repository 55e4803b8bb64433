"""The metrics of one benchmark: accuracy and lengths, each with a bootstrap interval over problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from masa.evaluation.measures.outcomes import Outcome
from masa.evaluation.measures.pass_at_k import majority_vote, pass_at_k, powers_of_two
from masa.evaluation.measures.statistics import (
    RESAMPLES,
    Estimate,
    Floats,
    Indices,
    PairedDifference,
    Statistic,
    bootstrap,
    mean_of,
    paired_difference,
)


def solution_statistics(
    outcomes: Sequence[Outcome], ks: Sequence[int] | None = None, *, votes: bool = True
) -> dict[str, Statistic]:
    """The solution metrics as statistics over problems: pass@k, majority vote, lengths in tokens, truncation rate.

    ``pass@1``, always there, is the mean over problems of the mean over samples (avg@n). ``ks`` beyond the samples of
    a problem are left out; by default they are the powers of two. ``votes`` false leaves the majority vote
    out, for answers that cannot be compared (programs).

    Raises:
        ValueError: no outcome, or a different number of samples from problem to problem.
    """
    samples = samples_per_problem(outcomes)
    counts = np.array([sum(outcome.correct) for outcome in outcomes])
    wanted = sorted({1, *(k for k in ks or powers_of_two(samples) if k <= samples)})
    statistics: dict[str, Statistic] = {f"pass@{k}": mean_of(pass_at_k(samples, counts, k)) for k in wanted}
    if votes:
        voted = [majority_vote(outcome.answers, outcome.correct) for outcome in outcomes]
        statistics[f"majority@{samples}"] = mean_of(voted)
    lengths = np.array([outcome.lengths for outcome in outcomes], dtype=np.float64)
    statistics["mean_length"] = mean_of(lengths.mean(axis=1))
    statistics["median_length"] = _median_of(lengths)
    statistics["truncated"] = mean_of([np.mean(outcome.truncated) for outcome in outcomes])
    return statistics


def samples_per_problem(outcomes: Sequence[Outcome]) -> int:
    """n, the same for every problem.

    Raises:
        ValueError: no outcome, or a different number of samples from problem to problem.
    """
    found = sorted({len(outcome.correct) for outcome in outcomes})
    if len(found) != 1 or found[0] < 1:
        raise ValueError(f"every problem needs the same number of samples, found {found or 'no problem'}")
    return found[0]


def estimates(
    statistics: Mapping[str, Statistic], problems: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """Value and 95 % interval of each statistic; all see the same resamples of problems."""
    return {
        name: bootstrap(statistic, problems, resamples=resamples, seed=seed) for name, statistic in statistics.items()
    }


def values(statistics: Mapping[str, Statistic], problems: int) -> dict[str, float]:
    """Values alone, without intervals: what a training step has time for."""
    everyone = np.arange(problems)[None]
    return {name: float(statistic(everyone)[0]) for name, statistic in statistics.items()}


def compare_outcomes(
    a: Sequence[Outcome], b: Sequence[Outcome], *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference | None:
    """pass@1 of ``a`` minus ``b`` on the problems that both have; None where they share none."""
    others = {outcome.problem: outcome.pass_rate for outcome in b}
    shared = [(outcome.pass_rate, others[outcome.problem]) for outcome in a if outcome.problem in others]
    if not shared:
        return None
    return paired_difference(*zip(*shared, strict=True), resamples=resamples, seed=seed)


def _median_of(lengths: Floats) -> Statistic:
    """The median over all samples of the drawn problems."""

    def median(indices: Indices) -> Floats:
        # A batch of resamples times samples per problem would be large; a few rows at a time are not.
        rows = max(1, 2_000_000 // max(1, indices.shape[1] * lengths.shape[1]))
        parts = [
            np.median(lengths[indices[start : start + rows]].reshape(len(indices[start : start + rows]), -1), axis=1)
            for start in range(0, len(indices), rows)
        ]
        return np.concatenate(parts)

    return median

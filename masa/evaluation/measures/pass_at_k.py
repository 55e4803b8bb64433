"""Estimators over the n samples of one problem: pass@k and majority vote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def pass_at_k(samples: int, correct: ArrayLike, k: int) -> Floats:
    """Unbiased pass@k of problems with ``correct`` right ones among ``samples`` (Chen et al. 2021, arXiv 2107.03374).

    1 - C(n - c, k) / C(n, k): the probability that k samples drawn without replacement hold a correct one. Computed as
    the product over i < k of 1 - c / (n - i), which does not overflow.

    Raises:
        ValueError: k outside [1, n], or a count outside [0, n].
    """
    counts = np.asarray(correct, dtype=np.float64)
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples is not defined, k from 1 to {samples} allowed")
    if counts.size and not (counts.min() >= 0 and counts.max() <= samples):
        raise ValueError(f"found {counts.min():g} to {counts.max():g} correct samples of {samples}")
    taken = np.arange(k)
    # A factor that is not positive means that every draw of k meets a correct sample.
    factors = np.maximum(1 - counts[..., None] / (samples - taken), 0.0)
    return np.asarray(1 - factors.prod(axis=-1))


def powers_of_two(samples: int) -> list[int]:
    """The k for which pass@k is usually reported: 1, 2, 4, ... up to ``samples``, and ``samples`` itself."""
    ks = [2**power for power in range(samples.bit_length()) if 2**power <= samples]
    return ks if samples in ks else [*ks, samples]


def majority_vote(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """Whether the most frequent answer is correct: 1, 0, or the share of correct ones among answers tied for first.

    Answers that were judged correct are one answer however they are written; samples without an answer do not vote,
    and 0 is given where none votes.
    """
    votes: dict[str | None, int] = {}
    for answer, right in zip(answers, correct, strict=True):
        # None stands for the gold answer here: it is no text a wrong answer could have.
        if right or answer is not None:
            key = None if right else answer
            votes[key] = votes.get(key, 0) + 1
    if not votes:
        return 0.0
    most = max(votes.values())
    leaders = [key for key, count in votes.items() if count == most]
    return float(None in leaders) / len(leaders)

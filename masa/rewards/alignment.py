"""The self-alignment rewards r_length, r_difficulty, r_notion and r_meta (MASA, arXiv 2510.03259, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from masa.rewards.meta_prediction import MetaPrediction
from masa.rewards.notions import NotionMatch, notion_form, notions_in_texts

NotionCount = Literal["count", "rate"]


@dataclass(frozen=True)
class SolutionGroup:
    """What the G solutions of one problem measured.

    ``pass_rate`` (d_sol) is the correct fraction, ``correct_lengths`` (l_correct) the token counts of the correct
    solutions, ``problem_text`` the bare statement: no instruction, no template, no meta prompt.

    Raises:
        ValueError: a pass rate outside [0, 1].
    """

    pass_rate: float
    correct_lengths: Sequence[int] = ()
    correct_texts: Sequence[str] = ()
    incorrect_texts: Sequence[str] = ()
    problem_text: str = ""

    def __post_init__(self) -> None:
        _check_rate("pass_rate", self.pass_rate)


@dataclass(frozen=True)
class MetaWeights:
    """Shares of the components in r_meta, normalised by their sum; 0 switches a component off.

    Raises:
        ValueError: a weight that is negative or not finite, or three zeros.
    """

    length: float = 1.0
    difficulty: float = 1.0
    notion: float = 1.0

    def __post_init__(self) -> None:
        for name in ("length", "difficulty", "notion"):
            weight = getattr(self, name)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"meta weight {name} is {weight}, a finite number of at least 0 needed")
        if self.total == 0:
            raise ValueError("all three meta weights are 0; at least one must be positive")

    @property
    def total(self) -> float:
        return self.length + self.difficulty + self.notion


@dataclass(frozen=True)
class MetaReward:
    """r_meta (``total``) and its components, each in [0, 1]; components of weight 0 are measured all the same."""

    total: float
    length: float
    difficulty: float
    notion: float

    def __float__(self) -> float:
        return self.total


def length_reward(length: float | None, correct_lengths: Sequence[float]) -> float:
    """r_length: 1 if min(l_correct) <= l_pred <= max(l_correct), bounds included, else 0.

    0 as well where no solution is correct, or nothing was predicted (None).
    """
    if length is None or len(correct_lengths) == 0:
        return 0.0
    return 1.0 if min(correct_lengths) <= length <= max(correct_lengths) else 0.0


def difficulty_reward(pass_rate: float | None, actual: float, base: float = 0.01) -> float:
    """r_difficulty = base ** |d_pred - d_sol|, both rates in [0, 1]; 0 where nothing was predicted (None).

    Raises:
        ValueError: a rate outside [0, 1], or a base outside (0, 1].
    """
    if not 0 < base <= 1:
        raise ValueError(f"difficulty base is {base}, a number above 0 and at most 1 needed")
    _check_rate("actual pass rate", actual)
    if pass_rate is None:
        return 0.0
    _check_rate("predicted pass rate", pass_rate)
    # The smallest base may underflow to 0, which is in range; the exact match stays exactly 1.
    return float(base ** abs(pass_rate - actual))


def notion_reward(
    notions: Sequence[str] | None,
    correct_texts: Sequence[str],
    incorrect_texts: Sequence[str],
    problem_text: str = "",
    count: NotionCount = "count",
    match: NotionMatch = "form",
) -> float:
    """r_notion: the mean over predicted notions of 1[f_count(n, correct) - f_count(n, incorrect) > 0].

    f_count is the number of texts that contain n (``count="count"``, as published) or that number divided by the
    number of such texts (``"rate"``; 0 without texts). Notions that occur in ``problem_text`` are left out first; none
    left, or none predicted: 0. Notions that differ only in case, plural or spacing are one notion; with ``match``
    ``lemma`` also those that differ only in inflection.

    Raises:
        ValueError: ``count`` is neither ``count`` nor ``rate``, or ``match`` neither ``form`` nor ``lemma``.
        ConfigError: ``match`` is ``lemma``, and its lemmatiser is not installed.
    """
    group = SolutionGroup(0.0, (), correct_texts, incorrect_texts, problem_text)
    return _notion_rewards([notions], group, count, match)[0]


def meta_reward(
    prediction: MetaPrediction,
    group: SolutionGroup,
    weights: MetaWeights | None = None,
    base: float = 0.01,
    count: NotionCount = "count",
    match: NotionMatch = "form",
) -> MetaReward:
    """r_meta = (w_l r_length + w_d r_difficulty + w_n r_notion) / (w_l + w_d + w_n); equal weights as published.

    A field that was not found makes its component 0, and a prediction without any field gets 0.
    """
    return score_metas([prediction], group, weights, base, count, match)[0]


def score_metas(
    predictions: Sequence[MetaPrediction],
    group: SolutionGroup,
    weights: MetaWeights | None = None,
    base: float = 0.01,
    count: NotionCount = "count",
    match: NotionMatch = "form",
) -> list[MetaReward]:
    """``meta_reward`` of each of the M predictions of one problem; the G texts are scanned once for all of them."""
    weights = weights or MetaWeights()
    rewards = []
    for prediction, notion in zip(
        predictions, _notion_rewards([p.notions for p in predictions], group, count, match), strict=True
    ):
        length = length_reward(prediction.length, group.correct_lengths)
        difficulty = difficulty_reward(prediction.pass_rate, group.pass_rate, base)
        weighted = weights.length * length + weights.difficulty * difficulty + weights.notion * notion
        rewards.append(MetaReward(min(1.0, weighted / weights.total), length, difficulty, notion))
    return rewards


def _notion_rewards(
    predicted: Sequence[Sequence[str] | None], group: SolutionGroup, count: NotionCount, match: NotionMatch
) -> list[float]:
    if count not in ("count", "rate"):
        raise ValueError(f"notion count is {count!r}, one of 'count', 'rate' needed")
    forms = [dict.fromkeys(filter(None, (notion_form(one, match) for one in notions or ()))) for notions in predicted]
    every = dict.fromkeys(form for notions in forms for form in notions)
    given = notions_in_texts(every, [group.problem_text], match)[0]
    candidates = [form for form in every if form not in given]
    correct = notions_in_texts(candidates, group.correct_texts, match)
    incorrect = notions_in_texts(candidates, group.incorrect_texts, match)
    # Cross-multiplied, so that equal rates compare as equal integers.
    by_rate = count == "rate"
    correct_scale = max(1, len(incorrect)) if by_rate else 1
    incorrect_scale = max(1, len(correct)) if by_rate else 1
    credited = {
        form
        for form in candidates
        if sum(form in text for text in correct) * correct_scale
        > sum(form in text for text in incorrect) * incorrect_scale
    }
    rewards = []
    for notions in forms:
        left = [form for form in notions if form not in given]
        rewards.append(sum(form in credited for form in left) / len(left) if left else 0.0)
    return rewards


def _check_rate(name: str, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"{name} is {rate}, a number from 0 to 1 needed")

"""The grader: rollouts in, rewards under the configured weights, base and count out."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from masa.config import load_config
from masa.problems import Problem
from masa.rewards import Verdict
from masa.rewards.grading import Grader
from masa.rollout import Rollout

PROBLEM = Problem("p", "Find the area.", "4")
# Three of four are right. "square" and "area" are in two of the three, and in the only one that is wrong.
SOLUTIONS = ("area of a square: right", "area of a square: right", "guessed: right", "area of a square: wrong")


class Characters:
    """A tokenizer for which a token is a character."""

    def batch_decode(self, sequences: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        return ["".join(map(chr, ids)) for ids in sequences]


class ReadsTheLastWord:
    def verify(self, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        right = [item["response"].endswith("right") for item in items]
        return [Verdict(correct=one, status="correct" if one else "incorrect") for one in right]


def _rollouts(path: Any, texts: Sequence[str]) -> list[Rollout]:
    return [
        Rollout("p", path, index, (5,), tuple(map(ord, text)), (0.0,) * len(text), "stop", 0, 0.0)
        for index, text in enumerate(texts)
    ]


def _r_meta(notion: str, *options: str) -> float:
    """Of a prediction whose length is right, whose pass rate is off by a half, and that has one notion."""
    tokenizer: Any = Characters()
    grader = Grader(load_config(None, list(options)), tokenizer, ReadsTheLastWord())
    metas = _rollouts("meta", [f'{{"notions": ["{notion}"], "pass_rate": "2/8", "solution_length": 20}}'])
    (group,) = grader.grade([PROBLEM], [metas, _rollouts("solution", SOLUTIONS)])
    return group.meta_rewards[0].total


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], (1 + 0.1 + 1) / 3),  # 0.01 ** 0.5 is 0.1
        (["rewards.difficulty_base=0.25"], (1 + 0.5 + 1) / 3),
        (["rewards.notion_count=rate"], (1 + 0.1 + 0) / 3),  # 2/3 of the right ones, 1/1 of the wrong ones
        (["rewards.meta_weights.notion=0"], (1 + 0.1) / 2),
        (["rewards.meta_weights.length=2", "rewards.meta_weights.difficulty=5"], (2 * 1 + 5 * 0.1 + 1) / 8),
    ],
)
def test_metas_are_rewarded_under_the_configured_weights_base_and_count(options: list[str], expected: float) -> None:
    assert _r_meta("square", *options) == pytest.approx(expected)


def test_a_notion_that_the_statement_names_earns_nothing() -> None:
    assert _r_meta("area") == pytest.approx((1 + 0.1 + 0) / 3)

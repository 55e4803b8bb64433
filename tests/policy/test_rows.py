"""Training rows: whose reward is whose advantage, and who is masked."""

import pytest
from graded_groups import graded_group

from masa.config.algorithm import AlgorithmSection, OverlongSection
from masa.flow.rows import training_rows
from masa.policy.objective.parameters import AdvantageParameters
from masa.rewards import MetaReward

DIFFERENCES = AdvantageParameters(scale="none")


def _metas(*totals: float) -> list[MetaReward]:
    """Components that order the metas otherwise than r_meta does."""
    return [MetaReward(total, 1 - total, 1 - total, 1 - total) for total in totals]


GROUPS = [graded_group(0, (1.0, 0.0, 0.0, 0.0), _metas(0.9, 0.3)), graded_group(1, (0.5, 1.5), _metas(0.2, 0.6, 0.1))]
SOLUTION_ADVANTAGES = [0.75, -0.25, -0.25, -0.25], [-0.5, 0.5]
META_ADVANTAGES = [0.3, -0.3], [-0.1, 0.3, -0.2]


def test_solutions_and_metas_of_a_problem_are_advantage_groups_of_their_own() -> None:
    (rows,) = training_rows(GROUPS, DIFFERENCES, AlgorithmSection())
    expected = [
        value for pair in zip(SOLUTION_ADVANTAGES, META_ADVANTAGES, strict=True) for part in pair for value in part
    ]
    assert [row.advantage for row in rows] == pytest.approx(expected)
    rollouts = [rollout for group in GROUPS for rollout in (*group.solutions, *group.metas)]
    assert [(row.token_ids, row.rollout_logprobs) for row in rows] == [
        (one.token_ids, one.logprobs) for one in rollouts
    ]


def test_all_rows_of_a_problem_belong_to_one_of_several_updates() -> None:
    parts = training_rows(GROUPS, DIFFERENCES, AlgorithmSection(updates_per_step=2))
    for part, solutions, metas in zip(parts, SOLUTION_ADVANTAGES, META_ADVANTAGES, strict=True):
        assert [row.advantage for row in part] == pytest.approx([*solutions, *metas])


@pytest.mark.parametrize("asked", [True, False])
def test_truncated_rollouts_of_either_path_are_masked_where_it_is_asked_and_no_others(asked: bool) -> None:
    group = graded_group(0, (1.0, 0.0, 0.0), _metas(0.9, 0.3), ends=("length", "stop", "cutoff"))
    section = AlgorithmSection(overlong=OverlongSection(mask_truncated=asked))
    (rows,) = training_rows([group], DIFFERENCES, section)
    assert [row.masked for row in rows] == [asked, False, False, asked, False]
    # They count in the mean of their group all the same.
    assert rows[1].advantage == pytest.approx(-1 / 3)

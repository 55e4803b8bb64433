"""Two processes share what they know of their rollouts, and send tokens only to where they are needed."""

import json
from pathlib import Path
from typing import Any

import pytest
from token_ranks import PROBLEMS, group_of
from two_processes import run_on_two_processes

from masa.rewards.grading import ELSEWHERE

Ranks = list[dict[str, Any]]
OWN = [[one.id for one in PROBLEMS[rank::2]] for rank in range(2)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    folder = tmp_path_factory.mktemp("ranks")
    run_on_two_processes(Path(__file__).with_name("token_ranks.py"), str(folder), timeout=200)
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def test_every_process_knows_all_groups_and_has_the_tokens_of_its_own(ranks: Ranks) -> None:
    for rank, found in enumerate(ranks):
        assert found["order"] == [one.id for one in PROBLEMS]
        assert found["statistics"] == [True] * len(PROBLEMS)
        for problem in PROBLEMS:
            group, own = group_of(problem), problem.id in OWN[rank]
            for name, expected in (
                ("tokens", [one.token_ids for one in group.solutions]),
                ("logprobs", [one.logprobs for one in group.metas]),
            ):
                whole = [list(one) for one in expected]
                assert found[name][problem.id] == (whole if own else [f"in {1 - rank}: {len(one)}" for one in whole])


def test_rollouts_of_a_prompt_share_it_as_one_object_after_gathering(ranks: Ranks) -> None:
    assert all(found["one prompt a path"] for found in ranks)


def test_the_first_process_gets_the_texts_that_it_shows_and_no_others(ranks: Ranks) -> None:
    texts = ranks[0]["texts"]
    assert texts["p0"] == [list(group_of(PROBLEMS[0]).solution_texts), list(group_of(PROBLEMS[0]).meta_texts)]
    # Of the second problem the worst solution and the worst meta are shown, of the others nothing.
    assert texts["p1"] == [["solution 0 of p1", ELSEWHERE, ELSEWHERE], ["meta 0 of p1", ELSEWHERE]]
    assert texts["p3"] == [[ELSEWHERE] * 3, [ELSEWHERE] * 2]
    # Of the first problem the first ones and the best ones are shown.
    assert ranks[1]["texts"]["p0"] == [["solution 0 of p0", ELSEWHERE, ELSEWHERE], ["meta 0 of p0", "meta 1 of p0"]]


def test_each_process_gets_the_rows_that_it_trains_on_bit_for_bit(ranks: Ranks) -> None:
    rows = 5 * len(PROBLEMS)
    first, second = (set(found["planned"]) for found in ranks)
    assert first | second == set(range(rows))
    assert not first & second
    own = [{5 * number + index for number in range(rank, 6, 2) for index in range(5)} for rank in range(2)]
    for rank, (found, planned) in enumerate(zip(ranks, (first, second), strict=True)):
        assert found["rows are whole"]
        assert planned - own[rank], "some rows come from the other process"
        assert found["others stay"] == rows - len(planned | own[rank])


def test_a_process_without_rows_joins_with_the_first_token_of_the_first_row(ranks: Ranks) -> None:
    whole = [list(group_of(PROBLEMS[0]).solutions[0].token_ids)]
    assert [found["instead"] for found in ranks] == [whole, [whole[0][:1]]]


def test_rollouts_that_are_spread_come_together_at_the_first_process(ranks: Ranks) -> None:
    assert [found["kept"] for found in ranks] == [9, 9]
    assert [found["at first"] for found in ranks] == [[True] * 18, []]


def test_what_a_process_has_already_is_not_sent_and_what_none_has_is_an_error(ranks: Ranks) -> None:
    for found in ranks:
        assert found["nothing is sent"]
        assert found["lost"] == "response 0 of 1: no process has its tokens any more"

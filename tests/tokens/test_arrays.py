"""Token ids and log-probs are read as the tuples they were, and take 4 bytes each."""

import copy
import pickle
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from masa.rollout import Rollout, RolloutRequest
from masa.tokens.arrays import LogProbs, TokenIds
from masa.tokens.elsewhere import Elsewhere, ElsewhereError

IDS = (5, 1, 150_000)


@pytest.mark.parametrize(
    "given", [IDS, list(IDS), np.array(IDS), np.array(IDS, np.int32), torch.tensor(IDS), TokenIds(IDS)]
)
def test_token_ids_are_those_of_the_sequence_array_or_tensor_that_is_given(given: Any) -> None:
    ids = TokenIds(given)
    assert ids == IDS
    assert ids == list(IDS)
    assert [type(one) for one in (ids[0], ids[-1], *ids)] == [int] * 5
    assert (len(ids), ids[1], ids[-1], ids[1:], list(ids), ids.index(1), 5 in ids, 6 in ids) == (
        *(3, 1, 150_000, (1, 150_000), list(IDS), 1),
        *(True, False),
    )
    assert ids != (5, 1)
    assert ids != (5, 1, 2)
    assert ids != "text"
    assert not TokenIds()
    with pytest.raises(IndexError):
        ids[3]


def test_token_ids_take_the_place_of_their_tuple_in_a_dictionary() -> None:
    assert {IDS: "found"}[TokenIds(IDS)] == "found"  # type: ignore[index]
    assert len({IDS, TokenIds(IDS), TokenIds(IDS[:2])}) == 2


def test_log_probs_equal_numbers_that_are_the_same_in_float32() -> None:
    logprobs = LogProbs((-0.1, -2.0))
    assert logprobs == (-0.1, -2.0)
    assert logprobs == [-0.1, -2.0]
    assert logprobs == LogProbs(torch.tensor([-0.1, -2.0]))
    assert logprobs != (-0.1, -2.001)
    assert logprobs != (-0.1,)
    assert logprobs != ("a", "b")
    assert list(logprobs) == [float(np.float32(-0.1)), -2.0]
    assert LogProbs((float("nan"),)) == LogProbs((float("nan"),))


def test_nothing_is_copied_on_the_way_to_numpy_and_nothing_can_be_changed() -> None:
    given = np.array(IDS, np.int32)
    ids = TokenIds(given)
    given[0] = 7
    array = np.asarray(ids)
    assert ids == IDS
    assert np.asarray(ids) is array
    assert array.dtype == np.int32
    assert np.shares_memory(array, np.asarray(ids[1:]))
    assert np.asarray(ids, dtype=np.int64).tolist() == list(IDS)
    assert np.array(ids).flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 7
    with pytest.raises(TypeError):
        ids[0] = 7  # type: ignore[index]


def test_pickles_hold_4_bytes_a_number_and_copies_are_the_same_object() -> None:
    for array in (TokenIds(range(10_000)), LogProbs([-0.5] * 10_000)):
        data = pickle.dumps(array)
        assert len(data) < 40_200
        assert pickle.loads(data) == array
        assert hash(pickle.loads(data)) == hash(array)
        assert copy.deepcopy(array) is array
        assert len(repr(array)) < 100


@pytest.mark.parametrize(
    ("kind", "given", "error", "found"),
    [
        (TokenIds, (0.5, 1.5), TypeError, "values of the type float64"),
        (TokenIds, (1, 2**31), ValueError, "found 2147483648, allowed: -2,147,483,648 to 2,147,483,647"),
        (TokenIds, torch.tensor([-(2**40)]), ValueError, "found -1099511627776"),
        (TokenIds, ((1, 2),), ValueError, r"found an array of shape \(1, 2\), allowed: one dimension"),
        (LogProbs, (None, -1.0), TypeError, "values of the type object"),
        (LogProbs, ("-1.0",), TypeError, "values of the type <U4"),
    ],
)
def test_what_is_no_sequence_of_such_numbers_is_an_error(
    kind: Any, given: Any, error: type[Exception], found: str
) -> None:
    with pytest.raises(error, match=found):
        kind(given)


def test_a_rollout_keeps_arrays_and_samples_of_a_request_share_its_prompt() -> None:
    request = RolloutRequest("p", "solution", (1, 2, 3), (0, 1), 9)
    rollouts = [
        Rollout("p", "solution", index, request.prompt_ids, [4, 5], torch.tensor([-0.5, -1.0]), "stop", 0, 0.1)  # type: ignore[arg-type]
        for index in range(2)
    ]
    assert all(one.prompt_ids is request.prompt_ids for one in rollouts)
    first = rollouts[0]
    assert isinstance(first.token_ids, TokenIds)
    assert isinstance(first.logprobs, LogProbs)
    assert replace(first, index=1).token_ids is first.token_ids
    sent = pickle.loads(pickle.dumps(rollouts))
    assert sent == rollouts
    assert sent[0].prompt_ids is sent[1].prompt_ids
    with pytest.raises(ValueError, match="2 tokens but 1 log-probs"):
        replace(first, logprobs=(-0.5,))


def test_numbers_of_another_process_have_a_length_and_say_where_they_are() -> None:
    numbers = Elsewhere(3, 6251)
    assert len(numbers) == 6251
    assert numbers
    reads: list[Any] = [list, np.asarray, tuple, lambda one: one[0], lambda one: one[:1], lambda one: 3 in one]
    for read in reads:
        with pytest.raises(ElsewhereError, match="6251 tokens were sampled by process 3 and are only there"):
            read(numbers)


def test_arrays_become_tensors_without_a_warning() -> None:
    from masa.policy.batching.collate import TokenRow, collate, collate_behind_prompts, pack

    rows = [TokenRow(TokenIds((1, 2)), TokenIds(ids)) for ids in ((3, 4, 5), (6,))]
    plain = [TokenRow((1, 2), ids) for ids in ((3, 4, 5), (6,))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for layout in (collate, pack, collate_behind_prompts):
            batch, expected = layout(rows), layout(plain)
            assert torch.equal(batch.input_ids, expected.input_ids)
            assert torch.equal(batch.target_ids, expected.target_ids)
            aligned = batch.align([LogProbs((-0.1, -0.2, -0.3)), LogProbs((-0.4,))])
            assert torch.equal(aligned, expected.align([(-0.1, -0.2, -0.3), (-0.4,)]))

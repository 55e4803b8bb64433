"""Samples that are put aside go on in another stream: where they were, with the random numbers that come next."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_policies import small_qwen3

from masa.rollout.engine import Finished, Rollout, RolloutRequest
from masa.rollout.stream import RoundStream
from masa.rollout.transformers.decoders import Batch
from masa.rollout.transformers.engine import TransformersEngine

LIMIT = 40


@pytest.fixture(scope="module")
def model() -> Any:
    sizes = {"vocab_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2}
    return small_qwen3(**sizes, initializer_range=0.3, tie_word_embeddings=False, pad_token_id=None)


def _requests() -> list[RolloutRequest]:
    return [
        RolloutRequest(
            str(number), "solution", tuple(range(2, 4 + 3 * number)), tuple(range(5 * number, 5 * number + 4)), LIMIT
        )
        for number in range(4)
    ]


def _rest(request: RolloutRequest, found: dict[int, Rollout]) -> RolloutRequest:
    """What is missing of a request: the samples that were put aside, and those that had not begun."""
    left = [index for index in range(len(request.seeds)) if index not in found or not found[index].has_ended]
    seeds = tuple(request.seeds[index] for index in left)
    return replace(request, seeds=seeds, begun=tuple(found.get(index) for index in left))


def _until_cancelled(engine: Any, requests: Sequence[RolloutRequest], takes: int) -> dict[tuple[int, int], Rollout]:
    found: list[Finished] = []
    with engine.stream() as stream:
        stream.submit(requests)
        for _ in range(takes):
            found += stream.take()
        found += stream.cancel(range(len(requests)))
        assert stream.take() == []
    places = [(one.number, one.rollout.index) for one in found]
    assert len(set(places)) == len(places)
    return {place: one.rollout for place, one in zip(places, found, strict=True)}


def _gone_on(
    engine: Any, requests: Sequence[RolloutRequest], found: dict[tuple[int, int], Rollout]
) -> list[list[Rollout]]:
    """All samples of ``requests``: those that had ended, and those that go on now."""
    of_each = [
        {index: one for (number, index), one in found.items() if number == place} for place in range(len(requests))
    ]
    open_ones = [
        (request, own)
        for request, own in zip(requests, of_each, strict=True)
        if sum(one.has_ended for one in own.values()) < len(request.seeds)
    ]
    rests = [_rest(request, own) for request, own in open_ones]
    for (request, own), rest, group in zip(open_ones, rests, engine.generate(rests), strict=True):
        own |= {
            request.seeds.index(rest.seeds[one.index]): replace(one, index=request.seeds.index(rest.seeds[one.index]))
            for one in group
        }
    return [[own[index] for index in sorted(own)] for own in of_each]


@pytest.mark.parametrize("rows", [2, 5, 64])
@pytest.mark.parametrize("takes", [1, 3, 6])
def test_tokens_do_not_depend_on_when_a_sample_was_put_aside(model: Any, rows: int, takes: int) -> None:
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=rows)
    whole = engine.generate(_requests())
    found = _until_cancelled(engine, _requests(), takes)
    aside = [one for one in found.values() if not one.has_ended]
    assert aside
    for (number, index), one in found.items():
        assert one.token_ids == whole[number][index].token_ids[: len(one.token_ids)]
    again = _gone_on(engine, _requests(), found)
    for group, expected in zip(again, whole, strict=True):
        for one, other in zip(group, expected, strict=True):
            assert (one.token_ids, one.finish_reason, one.index) == (other.token_ids, other.finish_reason, other.index)
            torch.testing.assert_close(
                torch.tensor([*one.logprobs]), torch.tensor([*other.logprobs]), rtol=0, atol=1e-5
            )
            assert one.went_on == ()


def test_each_token_says_which_weights_drew_it_however_often_a_sample_went_on(model: Any) -> None:
    engine = TransformersEngine(model, stop_ids=[40], max_batch_size=8)
    (request,) = _requests()[:1]
    found: dict[tuple[int, int], Rollout] = {}
    for version in (3, 4, 5):
        engine.update_weights(model, version)
        rest = _rest(request, {index: one for (_, index), one in found.items()})
        engine_stream = engine.stream()
        with engine_stream as stream:
            # A short sample beside them says when to put the others aside.
            stream.submit([rest, RolloutRequest("clock", "meta", (5,), (7,), 6)])
            ended = stream.take()
            assert [one.request.problem_id for one in ended] == ["clock"]
            for one in stream.cancel([0]):
                found[0, one.rollout.index] = one.rollout
    assert {one.weight_version for one in found.values()} == {3}
    assert {one.went_on for one in found.values()} == {((6, 4), (12, 5))}
    assert {tuple(one.pieces()) for one in found.values()} == {((3, 6), (4, 6), (5, 6))}
    engine.update_weights(model, 9)
    (last,) = engine.generate([_rest(request, {index: one for (_, index), one in found.items()})])
    assert {tuple(one.pieces()) for one in last} == {((3, 6), (4, 6), (5, 6), (9, LIMIT - 18))}


def test_other_requests_go_on_when_one_is_cancelled_and_take_its_rows(model: Any) -> None:
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=4)
    whole = engine.generate(_requests())
    found: list[Finished] = []
    with engine.stream() as stream:
        stream.submit(_requests())
        found += stream.take()
        stream.cancel([0, 2])
        while ended := stream.take():
            found += ended
    after = [one for one in found[1:] if one.number in (0, 2)]
    assert not after
    for number in (1, 3):
        got = sorted((one.rollout.index, one.rollout.token_ids) for one in found if one.number == number)
        assert got == [(one.index, one.token_ids) for one in whole[number]]


def test_what_waits_for_a_row_is_cancelled_without_a_token_and_keeps_what_it_had(model: Any) -> None:
    engine = TransformersEngine(model, stop_ids=[40], max_batch_size=1)
    first, second = _requests()[0], _requests()[1]
    with engine.stream() as stream:
        stream.submit([replace(first, seeds=(1,), max_new_tokens=3)])
        (done,) = stream.take()
    begun = replace(done.rollout, finish_reason="aside")
    with engine.stream() as stream:
        stream.submit(
            [replace(second, seeds=(4,)), replace(first, seeds=(9, 1), begun=(None, begun), max_new_tokens=30)]
        )
        stream.take()
        # Row 1 of 1 is free: nothing of the second request has been drawn.
        (kept,) = stream.cancel([1])
        assert (kept.number, kept.rollout.index, kept.rollout.token_ids) == (1, 1, begun.token_ids)
        assert stream.take() == []


def test_a_stream_in_rounds_cancels_what_waits_for_the_next_round() -> None:
    asked: list[str] = []

    def sample(requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        asked.extend(one.problem_id for one in requests)
        return [
            [Rollout(one.problem_id, "solution", 0, one.prompt_ids, (3,), (-1.0,), "stop", 0, 0.0)] for one in requests
        ]

    begun = Rollout("c", "solution", 0, (5,), (3, 3), (-1.0, -1.0), "aside", 0, 0.0)
    with RoundStream(sample) as stream:
        stream.submit([RolloutRequest(name, "solution", (5,), (1,), 8) for name in "ab"])
        stream.submit([RolloutRequest("c", "solution", (5,), (1,), 8, begun=(begun,))])
        assert [one.rollout for one in stream.cancel([0, 2])] == [begun]
        assert [(one.number, one.request.problem_id) for one in stream.take()] == [(1, "b")]
    assert asked == ["b"]


def test_a_request_with_nothing_left_to_draw_is_refused() -> None:
    begun = Rollout("p", "solution", 0, (5,), (3, 3), (-1.0, -1.0), "aside", 0, 0.0)
    with pytest.raises(ValueError, match="has 2 tokens, and max_new_tokens is 2"):
        RolloutRequest("p", "solution", (5,), (1,), 2, begun=(begun,))
    with pytest.raises(ValueError, match="1 samples have begun or not, 2 are asked for"):
        RolloutRequest("p", "solution", (5,), (1, 2), 8, begun=(begun,))


def test_samples_that_have_come_far_and_prompts_stand_in_blocks_of_rows_and_keep_their_tokens(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(model, stop_ids=[40], max_batch_size=64)
    requests = [RolloutRequest(str(n), "solution", (2, 3 + n), tuple(range(9 * n, 9 * n + 8)), 90) for n in range(6)]
    whole = engine.generate(requests)
    with engine.stream() as stream:
        stream.submit([*requests[:3], RolloutRequest("clock", "meta", (5,), (7,), 50)])
        stream.take()
        begun = [one.rollout for one in stream.cancel([0, 1, 2])]
    assert {len(one.token_ids) for one in begun} == {50}
    blocks: list[int] = []
    own = Batch.find_blocks
    monkeypatch.setattr(Batch, "find_blocks", lambda self: (own(self), blocks.append(len(self.blocks)))[0])
    going_on = [
        replace(request, begun=tuple(one for one in begun if one.problem_id == request.problem_id))
        for request in requests[:3]
    ]
    found = engine.generate([*requests[3:], *going_on])
    assert blocks[0] == 2
    assert min(blocks) == 0, "once the long ones have ended all rows need about the same columns"
    for group, expected in zip([*found[3:], *found[:3]], whole, strict=True):
        assert [one.token_ids for one in group] == [one.token_ids for one in expected]
        for one, other in zip(group, expected, strict=True):
            torch.testing.assert_close(
                torch.tensor([*one.logprobs]), torch.tensor([*other.logprobs]), rtol=0, atol=1e-4
            )

"""Requests that come while others are being decoded: rows for them, the same tokens, and the same bits each time."""

from typing import Any

import pytest
import torch
from small_policies import small_qwen3

from masa.rollout.engine import Finished, Rollout, RolloutRequest, Sampling
from masa.rollout.transformers.decoders import Batch
from masa.rollout.transformers.engine import TransformersEngine

LIMIT = 80


@pytest.fixture(scope="module")
def model() -> Any:
    sizes = {"vocab_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2}
    return small_qwen3(**sizes, initializer_range=0.3, tie_word_embeddings=False, pad_token_id=None)


def _request(number: int, samples: int = 4, limit: int = LIMIT, **options: Any) -> RolloutRequest:
    prompt = tuple(2 + place % 30 for place in range(1 + 5 * number % 17))
    seeds = tuple(range(100 * number, 100 * number + samples))
    return RolloutRequest(str(number), "solution", prompt, seeds, limit, **options)


def _chained(model: Any, rows: int, starts: int, follow: int) -> tuple[list[Finished], list[tuple[str, ...]]]:
    """Each request that has wholly ended is followed by another one, with longer prompts and limits, so many times."""
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=rows)
    found: list[Finished] = []
    takes: list[tuple[str, ...]] = []
    with engine.stream() as stream:
        stream.submit([_request(number, limit=12) for number in range(starts)])
        left = dict.fromkeys(range(starts), 4)
        following = starts
        while ended := stream.take():
            found += ended
            takes.append(tuple(f"{one.number}/{one.rollout.index}" for one in ended))
            for one in ended:
                left[one.number] -= 1
                if not left[one.number] and following < starts + follow:
                    (number,) = stream.submit([_request(following)])
                    left[number] = len(one.request.seeds)
                    following += 1
    assert not any(left.values())
    return found, takes


def _exact(model: Any, rollout: Rollout) -> None:
    ids = torch.tensor([[*rollout.prompt_ids, *rollout.token_ids]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits[0, len(rollout.prompt_ids) - 1 : -1].log_softmax(-1)
    chosen = expected.gather(1, torch.tensor([*rollout.token_ids])[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor([*rollout.logprobs]), chosen, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [3, 8, 64])
def test_what_is_submitted_later_has_the_tokens_it_has_in_one_call_and_exact_log_probs(model: Any, rows: int) -> None:
    found, _ = _chained(model, rows, starts=3, follow=5)
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=rows)
    requests = [_request(number, limit=12 if number < 3 else LIMIT) for number in range(8)]
    together = engine.generate(requests)
    assert len(found) == sum(map(len, together))
    by_place = {(one.request.problem_id, one.rollout.index): one.rollout for one in found}
    for request, group in zip(requests, together, strict=True):
        for one in group:
            assert by_place[request.problem_id, one.index].token_ids == one.token_ids
            _exact(model, by_place[request.problem_id, one.index])


@pytest.mark.parametrize("rows", [3, 64])
def test_the_same_requests_at_the_same_moments_give_the_same_bits(model: Any, rows: int) -> None:
    first, second = (_chained(model, rows, starts=3, follow=5) for _ in range(2))
    assert first[1] == second[1]
    assert [one.rollout.logprobs for one in first[0]] == [one.rollout.logprobs for one in second[0]]


def test_a_later_request_gets_rows_beside_those_that_are_being_decoded(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    own = Batch.add_rows
    monkeypatch.setattr(Batch, "add_rows", lambda self, count: (rows.append(count), own(self, count))[1])
    engine = TransformersEngine(model, stop_ids=[40], max_batch_size=64)
    order: list[int] = []
    with engine.stream() as stream:
        stream.submit([_request(0, limit=4), _request(1, limit=60)])
        assert {one.number for one in stream.take()} == {0}
        stream.submit([_request(2, samples=8, limit=30)])
        while ended := stream.take():
            order += [one.number for one in ended]
            for one in ended:
                _exact(model, one.rollout)
    assert rows == [4], "eight samples, and the rows of the four that had just ended"
    assert order == [2] * 8 + [1] * 4


def test_rows_are_given_out_in_the_order_of_submission(model: Any) -> None:
    engine = TransformersEngine(model, stop_ids=[40], max_batch_size=1)
    with engine.stream() as stream:
        stream.submit([_request(0, samples=1, limit=3)])
        stream.submit([_request(1, samples=2, limit=2)])
        order = [stream.take()[0].number]
        stream.submit([_request(2, samples=1, limit=9)])
        while ended := stream.take():
            order += [one.number for one in ended]
    assert order == [0, 1, 1, 2]


def test_other_sampling_parameters_wait_until_the_batch_has_ended(model: Any) -> None:
    engine = TransformersEngine(model, stop_ids=[40], max_batch_size=8)
    with engine.stream() as stream:
        stream.submit([_request(0, limit=3), _request(1, limit=9), _request(2, limit=2, sampling=Sampling(0.5))])
        order = []
        while ended := stream.take():
            order.append(sorted({one.number for one in ended}))
    assert order == [[0], [1], [2]]


def test_a_model_whose_rows_cannot_be_given_away_is_decoded_in_waves_of_what_has_come(model: Any) -> None:
    wanted, _ = _chained(model, 8, starts=3, follow=5)
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=8)
    engine.check_decoding()
    assert engine._decoder is not None
    engine._decoder.refills = False
    found = []
    with engine.stream() as stream:
        stream.submit([_request(number, limit=12) for number in range(3)])
        following = 3
        while ended := stream.take():
            found += ended
            if following < 8:
                stream.submit([_request(following)])
                following += 1
    tokens = {(one.request.problem_id, one.rollout.index): one.rollout.token_ids for one in wanted}
    assert {(one.request.problem_id, one.rollout.index): one.rollout.token_ids for one in found} == tokens


def test_a_stream_with_nothing_to_sample_gives_nothing(model: Any) -> None:
    with TransformersEngine(model, stop_ids=[1]).stream() as stream:
        assert stream.take() == []
        assert stream.submit([]) == range(0)
        assert stream.take() == []

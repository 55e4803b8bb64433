"""Sampling in this process: exact log-probs, seeds that decide, and nothing spent on sequences that have ended."""

from typing import Any

import pytest
import torch
from small_policies import small_qwen3

from masa.rollout.engine import Rollout, RolloutRequest
from masa.rollout.transformers.decode_attention import blocks_of
from masa.rollout.transformers.decoders import GrowingDecoder
from masa.rollout.transformers.engine import TransformersEngine
from masa.rollout.transformers.kv_cache import GROWTH, GrowingCache

LIMIT = 80  # more than one block of the cache


@pytest.fixture(scope="module")
def model() -> Any:
    sizes = {"vocab_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2}
    return small_qwen3(**sizes, initializer_range=0.3, tie_word_embeddings=False, pad_token_id=None)


def _requests(samples: int = 8) -> list[RolloutRequest]:
    """Prompts of different lengths; the samples end one after the other."""
    prompts = [(5, 6, 7), (8,), (9, 10, 11, 12, 13, 14)]
    return [
        RolloutRequest(str(place), "solution", prompt, tuple(range(100 * place, 100 * place + samples)), LIMIT)
        for place, prompt in enumerate(prompts)
    ]


def _generate(model: Any, requests: list[RolloutRequest], **options: Any) -> list[Rollout]:
    engine = TransformersEngine(model, stop_ids=[1], **options)
    return [rollout for group in engine.generate(requests) for rollout in group]


def test_the_lengths_of_these_samples_are_spread_out(model: Any) -> None:
    rollouts = _generate(model, _requests())
    assert len({len(one.token_ids) for one in rollouts}) > 10
    assert {one.finish_reason for one in rollouts} == {"stop", "length"}


def test_log_probs_are_those_of_one_pass_over_the_whole_sequence(model: Any) -> None:
    for one in _generate(model, _requests()):
        ids = torch.tensor([[*one.prompt_ids, *one.token_ids]])
        with torch.no_grad():
            expected = model(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
        chosen = expected.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(one.logprobs), chosen, rtol=1e-4, atol=1e-4)


def test_a_sample_is_the_same_whatever_is_sampled_beside_it(model: Any) -> None:
    together = {(one.problem_id, one.index): one.token_ids for one in _generate(model, _requests())}
    in_threes = {(one.problem_id, one.index): one.token_ids for one in _generate(model, _requests(), max_batch_size=3)}
    assert together == in_threes


def test_sequences_that_have_ended_cost_nothing(model: Any) -> None:
    computed: list[int] = []
    hook = model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: computed.append(inputs[0].numel()))
    try:
        rollouts = _generate(model, _requests())
    finally:
        hook.remove()
    decoded = sum(computed[1:])  # the first pass is over the prompts
    needed = sum(len(one.token_ids) - 1 for one in rollouts)
    assert needed <= decoded <= 1.05 * needed + len(computed)
    assert decoded < 0.7 * len(rollouts) * LIMIT


def _without_refilling(model: Any, **options: Any) -> TransformersEngine:
    engine = TransformersEngine(model, stop_ids=[1], **options)
    engine.check_decoding()
    assert engine._decoder is not None
    engine._decoder.refills = False
    return engine


def _passes(model: Any, engine: TransformersEngine, requests: list[RolloutRequest]) -> list[int]:
    """The token positions of each pass that sampling takes."""
    computed: list[int] = []
    hook = model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: computed.append(inputs[0].numel()))
    try:
        engine.generate(requests)
    finally:
        hook.remove()
    return computed


def test_a_row_that_ends_is_given_to_the_next_sample(model: Any) -> None:
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=4)
    rollouts = [one for group in engine.generate(_requests()) for one in group]
    passes = _passes(model, engine, _requests())
    in_waves = _passes(model, _without_refilling(model, max_batch_size=4), _requests())
    tokens = sum(len(one.token_ids) for one in rollouts)
    read = sum(len(request.prompt_ids) for request in _requests())
    # Two prompts are cut in two by the end of a batch and read twice; no row is decoded that nobody needs.
    assert sum(passes) <= tokens + 2 * read
    assert len(passes) < 0.8 * len(in_waves)


def test_the_same_requests_are_decoded_alike_to_the_last_bit(model: Any) -> None:
    first, second = (_generate(model, _requests(), max_batch_size=5) for _ in range(2))
    assert [one.logprobs for one in first] == [one.logprobs for one in second]
    assert [one.token_ids for one in first] == [one.token_ids for one in second]


@pytest.mark.parametrize(("rows", "samples", "limit"), [(1, 1, 20), (3, 2, 20), (48, 16, LIMIT)])
def test_log_probs_in_refilled_rows_are_those_of_whole_sequences(
    model: Any, rows: int, samples: int, limit: int
) -> None:
    # Prompts of one token and of more tokens than any sequence before them, and enough rows for blocks of like lengths.
    prompts = [(5, 6), (8,), tuple(2 + place % 30 for place in range(90)), (9, 10, 11), (12,)]
    requests = [
        RolloutRequest(str(place), "solution", prompt, tuple(range(100 * place, 100 * place + samples)), limit)
        for place, prompt in enumerate(prompts)
    ]
    for one in _generate(model, requests, max_batch_size=rows):
        ids = torch.tensor([[*one.prompt_ids, *one.token_ids]])
        with torch.no_grad():
            expected = model(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
        chosen = expected.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(one.logprobs), chosen, rtol=1e-4, atol=1e-4)


def test_limits_of_their_own_and_samples_of_one_token_end_where_they_should(model: Any) -> None:
    requests = [
        RolloutRequest(str(limit), "solution", (5, 6, 7), (limit, 50 + limit), limit) for limit in (1, 2, 30, 1, 4, 7)
    ]
    engine = TransformersEngine(model, stop_ids=[40], max_batch_size=3)
    lengths = [[len(one.token_ids) for one in group] for group in engine.generate(requests)]
    assert lengths == [[request.max_new_tokens] * 2 for request in requests]


def test_a_cache_whose_rows_cannot_be_given_away_is_decoded_in_waves(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [one.token_ids for one in _generate(model, _requests())]

    def forgetful(self: GrowingCache, rows: torch.Tensor, *_: Any) -> None:
        for layer in self.layers:
            layer.keys[rows] = 1.0

    monkeypatch.setattr(GrowingCache, "refill", forgetful)
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=4)
    engine.check_decoding()
    assert engine._decoder is not None
    assert not engine._decoder.refills
    assert [one.token_ids for group in engine.generate(_requests()) for one in group] == wanted


def test_rows_of_like_lengths_are_blocks_that_read_their_own_columns() -> None:
    lengths = torch.tensor([500] * 20 + [60] * 30 + [3] * 14)
    blocks = blocks_of(lengths, 512)
    assert [(block.rows.start, block.rows.stop, block.first) for block in blocks] == [(0, 32, 12), (32, 64, 452)]
    assert blocks_of(torch.full((64,), 500), 512) == ()


def test_columns_that_no_row_uses_leave_a_full_cache(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    columns: list[int] = []
    own = GrowingDecoder.advance

    def noting(self: GrowingDecoder, batch: Any, drawn: torch.Tensor) -> None:
        own(self, batch, drawn)
        columns.append(batch.attended.shape[1])

    monkeypatch.setattr(GrowingDecoder, "advance", noting)
    _generate(model, _requests(samples=16), max_batch_size=4)
    assert len(columns) > 3 * LIMIT
    assert max(columns) <= LIMIT + 6 + GROWTH


def test_rows_of_a_cache_are_kept_with_what_they_hold() -> None:
    cache = GrowingCache()
    states = torch.arange(6.0)[:, None, None, None].expand(6, 2, 3, 4)
    cache.update(states, -states, 0)
    order = cache.keep(torch.tensor([False, True, False, True, True, False]))
    assert sorted(order.tolist()) == [1, 3, 4]
    keys, values = cache.update(states[:3, :, :1] + 10, states[:3, :, :1], 0)
    assert keys[:, 0, :3, 0].tolist() == [[float(one)] * 3 for one in order]
    assert torch.equal(values[:, :, :3], -keys[:, :, :3])
    assert keys[:, 1, 3, 2].tolist() == [10, 11, 12]


def test_each_rollout_is_told_of_when_it_ends_and_not_at_the_end(model: Any) -> None:
    told: list[tuple[str, Rollout]] = []
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=4)
    groups = engine.generate(_requests(), lambda request, rollout: told.append((request.problem_id, rollout)))
    assert sorted((id, one.index) for id, one in told) == [(str(id), index) for id in range(3) for index in range(8)]
    assert {id(one) for _, one in told} == {id(one) for group in groups for one in group}
    # The first sample is one of the longest: others have ended before it.
    assert told[0][1].seconds < max(one.seconds for _, one in told)
    assert told[0][1] is not groups[0][0]

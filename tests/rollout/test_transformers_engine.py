"""Sampling in this process: exact log-probs, seeds that decide, and nothing spent on sequences that have ended."""

from typing import Any

import pytest
import torch
from small_policies import small_qwen3

from masa.rollout.engine import Rollout, RolloutRequest
from masa.rollout.kv_cache import GrowingCache
from masa.rollout.transformers import TransformersEngine

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

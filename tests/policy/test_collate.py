from __future__ import annotations

from functools import cache

import pytest
import torch
from small_policies import small_qwen3
from torch import Tensor

from masa.policy.batching.collate import TokenBatch, TokenRow, collate, pack
from masa.policy.forward.logprobs import chunked_logprobs
from masa.policy.objective.losses import loss_normalizer, policy_loss
from masa.policy.objective.parameters import LossParameters

ROWS = [
    TokenRow((1, 2, 3), (10, 11)),
    TokenRow((4,), (12, 13, 14, 15), counted=(True, False, False, True)),
    TokenRow((5, 6, 7, 8, 9), (16,)),
]


def test_padded_tensors_by_hand() -> None:
    batch = collate(ROWS, pad_token_id=99)
    assert batch.input_ids.tolist() == [[1, 2, 3, 10, 99], [4, 12, 13, 14, 99], [5, 6, 7, 8, 9]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert batch.response_mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 1], [1, 0, 0, 0]]
    assert batch.target_ids.tolist() == [10, 11, 12, 15, 16]
    # The state at token 3 predicts 10, that at 10 predicts 11, at 4 12, at 14 15, at 9 16.
    assert batch.input_ids.flatten()[batch.hidden_index].tolist() == [3, 10, 4, 14, 9]
    assert batch.response_index.tolist() == [0, 1, 4, 7, 8]


def test_packed_tensors_by_hand() -> None:
    batch = pack(ROWS)
    assert batch.input_ids.tolist() == [[1, 2, 3, 10, 4, 12, 13, 14, 5, 6, 7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 4]]
    assert batch.attention_mask is None
    assert batch.input_ids.flatten()[batch.hidden_index].tolist() == [3, 10, 4, 14, 9]
    padded = collate(ROWS)
    for name in ("response_mask", "target_ids", "response_index"):
        assert torch.equal(getattr(batch, name), getattr(padded, name))


def test_values_of_counted_tokens_go_to_their_places_and_gradients_come_back() -> None:
    batch = collate(ROWS)
    values = torch.arange(1.0, 6.0, requires_grad=True)
    rows = batch.to_rows(values)
    assert rows.tolist() == [[1, 2, 0, 0], [3, 0, 0, 4], [5, 0, 0, 0]]
    (rows * 2).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [2.0] * 5


def test_values_of_response_tokens_are_aligned_with_the_mask() -> None:
    batch = collate(ROWS)
    aligned = batch.align([(-1.0, -2.0), (-3.0, -4.0, -5.0, -6.0), (-7.0,)])
    assert aligned.tolist() == [[-1, -2, 0, 0], [-3, -4, -5, -6], [-7, 0, 0, 0]]
    with pytest.raises(ValueError, match="row 1 has 5 values for at most 4 response tokens"):
        batch.align([(-1.0,), (0.0,) * 5, (0.0,)])
    with pytest.raises(ValueError, match="1 rows of values for a batch of 3"):
        batch.align([(-1.0,)])


def test_a_batch_moves_whole() -> None:
    for batch in (collate(ROWS), pack(ROWS)):
        moved = batch.to("meta")
        assert {moved.input_ids.device.type, moved.target_ids.device.type} == {"meta"}
        assert (moved.attention_mask is None) == (batch.attention_mask is None)


def test_a_row_with_no_counted_token_is_allowed() -> None:
    batch = collate([TokenRow((1,), (2, 3), counted=(False, False))])
    assert batch.response_mask.sum() == 0
    assert batch.target_ids.shape == batch.hidden_index.shape == (0,)


def test_empty_rows_and_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="0 prompt and 1 response tokens"):
        TokenRow((), (1,))
    with pytest.raises(ValueError, match="1 prompt and 0 response tokens"):
        TokenRow((1,), ())
    with pytest.raises(ValueError, match="1 counted flags for 2 response tokens"):
        TokenRow((1,), (1, 2), counted=(True,))
    for build in (collate, pack):
        with pytest.raises(ValueError, match="at least one row"):
            build([])


@cache
def tiny_policy() -> torch.nn.Module:
    sizes = {"vocab_size": 120, "hidden_size": 32, "intermediate_size": 48}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return small_qwen3(**sizes, **heads, initializer_range=0.3, attn_implementation="sdpa")


def random_rows(count: int) -> list[TokenRow]:
    generator = torch.Generator().manual_seed(1)

    def draw(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(0, 120, (length,), generator=generator).tolist()

    return [TokenRow(draw(1, 12), draw(1, 30)) for _ in range(count)]


def row_logprobs(batch: TokenBatch, attention_mask: Tensor | None) -> Tensor:
    model = tiny_policy()
    hidden = model.model(  # type: ignore[operator, union-attr]
        input_ids=batch.input_ids, attention_mask=attention_mask, position_ids=batch.position_ids, use_cache=False
    ).last_hidden_state
    logprobs, _ = chunked_logprobs(batch.counted_hidden(hidden), model.lm_head.weight, batch.target_ids)  # type: ignore[union-attr, arg-type]
    return batch.to_rows(logprobs)


def test_packed_padded_and_unmasked_rows_have_the_log_probs_of_each_row_alone() -> None:
    rows = random_rows(6)
    padded, packed = collate(rows), pack(rows)
    expected = row_logprobs(padded, padded.attention_mask)
    for index, row in enumerate(rows):
        alone = row_logprobs(collate([row]), None)[0]
        torch.testing.assert_close(expected[index, : len(row.token_ids)], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(row_logprobs(packed, None), expected, rtol=1e-5, atol=1e-5)
    # Padding on the right is invisible to causal attention.
    torch.testing.assert_close(row_logprobs(padded, None), expected, rtol=1e-5, atol=1e-5)


def test_the_log_prob_of_a_row_is_the_one_of_the_models_own_head() -> None:
    row = random_rows(1)[0]
    ids = torch.tensor([[*row.prompt_ids, *row.token_ids]])
    scores = tiny_policy()(input_ids=ids).logits[0].log_softmax(-1)
    expected = [scores[len(row.prompt_ids) + t - 1, token].item() for t, token in enumerate(row.token_ids)]
    assert row_logprobs(collate([row]), None)[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
def test_the_gradient_is_the_same_packed_padded_or_row_by_row(aggregation: str) -> None:
    rows = random_rows(5)
    advantages = torch.tensor([1.0, -0.5, 0.3, -1.2, 0.7])
    params = LossParameters(aggregation=aggregation)  # type: ignore[arg-type]
    normalizer = loss_normalizer(params.aggregation, [len(row.token_ids) for row in rows], 30)

    def gradient(batches: list[tuple[TokenBatch, Tensor]]) -> Tensor:
        model = tiny_policy()
        model.zero_grad()
        for batch, advantage in batches:
            logprobs = row_logprobs(batch, batch.attention_mask)
            policy_loss(
                logprobs, None, advantage, batch.response_mask, params=params, normalizer=normalizer
            ).loss.backward()
        return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])

    expected = gradient([(collate([row]), advantages[index : index + 1]) for index, row in enumerate(rows)])
    for batches in (
        [(collate(rows), advantages)],
        [(pack(rows), advantages)],
        [(collate(rows[:2]), advantages[:2]), (pack(rows[2:]), advantages[2:])],
    ):
        actual = gradient(batches)
        assert float((actual - expected).norm() / expected.norm()) < 1e-5

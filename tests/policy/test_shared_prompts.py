"""Rows that share a prompt compute it once, and the gradient is that of rows computed whole."""

from typing import Any

import pytest
import torch
from saved_folders import optimizer_tensors
from test_update import _gradient, _model, _updater

from masa.policy.batching.collate import TokenBatch, TokenRow, collate, collate_behind_prompts
from masa.policy.batching.shared_prompts import can_share_prompts, states_behind_prompts
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.update.updater import TrainingRow

ROWS = [
    TokenRow((1, 2, 3), (10, 11)),
    TokenRow((4,), (12, 13, 14, 15), counted=(True, False, False, True)),
    TokenRow((1, 2, 3), (16,)),
]


def _group_rows(prompt_lengths: tuple[int, ...] = (9, 14, 1), size: int = 4) -> list[TrainingRow]:
    """Groups that share a prompt, responses of 1 to 11 tokens; one row in each is masked."""
    generator = torch.Generator().manual_seed(5)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 61, (count,), generator=generator).tolist())

    rows = []
    for prompt in map(draw, prompt_lengths):
        for number in range(size):
            response = draw(1 if number == 0 else int(torch.randint(2, 12, (1,), generator=generator)))
            advantage = float(torch.randn((), generator=generator))
            rows.append(TrainingRow(prompt, response, (-3.0,) * len(response), advantage, masked=number == 1))
    return rows


def _relative_distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[name] - one).norm() / one.norm()) for name, one in expected.items())


def test_tensors_by_hand() -> None:
    batch = collate_behind_prompts(ROWS)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 10, 12, 13, 14]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 3, 1, 2, 3]]
    layout = batch.shared_prompts
    assert layout is not None
    assert layout.prompt_tokens.tolist() == [[0, 1, 2], [3, 0, 0]]
    assert layout.row_tokens.tolist() == [[4, 0, 0], [5, 6, 7], [0, 0, 0]]
    assert (layout.lengths.tolist(), layout.of_row.tolist()) == ([3, 1], [0, 1, 0])
    assert layout.padded_place.tolist() == [0, 1, 2, 3, 6, 9, 10, 11]
    # As in whole rows: 3 predicts 10, 10 predicts 11, 4 12, 14 15, and 3 again 16.
    assert batch.input_ids[0][batch.hidden_index].tolist() == [3, 10, 4, 14, 3]
    whole = collate(ROWS)
    for name in ("response_mask", "target_ids", "response_index"):
        assert torch.equal(getattr(batch, name), getattr(whole, name))


def test_the_log_probs_are_those_of_rows_computed_whole() -> None:
    module = PolicyModule(_model(), temperature=0.9)
    rows = [row.tokens() for row in _group_rows()]
    with torch.no_grad():
        logprobs, entropy = module(collate_behind_prompts(rows))
        expected, expected_entropy = module(collate(rows))
    torch.testing.assert_close(logprobs, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "gspo", "cispo"])
@pytest.mark.parametrize("budget", [60, 10_000])
def test_the_gradient_is_that_of_rows_computed_whole(name: str, budget: int) -> None:
    whole = _gradient(_updater(name=name, micro_batch_tokens=budget, share_prompts="off"), _group_rows())
    shared = _gradient(_updater(name=name, micro_batch_tokens=budget), _group_rows())
    assert _relative_distance(shared, whole) < 1e-5


def test_later_updates_and_a_reference_share_prompts_as_well() -> None:
    def two_updates(share: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        updater = _updater(share_prompts=share, learning_rate=1e-3, loss={"kl_coefficient": 0.1})
        metrics = updater.update([_group_rows()[:8], _group_rows()[4:]])
        kept = optimizer_tensors(updater)
        return {key: one for key, one in kept.items() if key.startswith("exp_avg|")}, metrics

    shared, metrics = two_updates("on")
    whole, expected = two_updates("off")
    assert _relative_distance(shared, whole) < 1e-5
    for name in ("policy/approximate_kl", "policy/reference_kl", "policy/entropy", "policy/loss"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-4)
    assert metrics["policy/padding_waste"] < expected["policy/padding_waste"]


def test_cloning_shares_prompts_as_well() -> None:
    def clone(share: str) -> dict[str, torch.Tensor]:
        updater = _updater(share_prompts=share)
        updater.clone([row.tokens() for row in _group_rows() if not row.masked], weight=1.0, learning_rate=1e-3)
        return {key: one.clone() for key, one in optimizer_tensors(updater).items() if key.startswith("exp_avg|")}

    assert _relative_distance(clone("on"), clone("off")) < 1e-5


def test_a_shared_prompt_is_read_once_in_a_pass() -> None:
    def tokens_read(share: str) -> int:
        updater = _updater(share_prompts=share)
        read: list[int] = []
        decoder = updater.sharded.module.model.get_decoder()
        decoder.embed_tokens.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].numel()))
        rows = [TrainingRow((7,) * 50, (1, 2, 3, 4), (-3.0,) * 4, 1.0 + index) for index in range(8)]
        waste = updater.update([rows])["policy/padding_waste"]
        assert sum(read) == round(waste * 8 * 53)
        return sum(read)

    assert tokens_read("off") == 8 * 53
    assert tokens_read("on") == 50 + 8 * 3


def _changed(**settings: Any) -> Any:
    model = _model()
    for name, value in settings.items():
        setattr(model.config, name, value)
    return model


def test_prompts_are_shared_only_where_attention_allows_it() -> None:
    assert can_share_prompts(_model())
    assert not can_share_prompts(_changed(_attn_implementation="flash_attention_2"))
    assert not can_share_prompts(_changed(layer_types=["full_attention", "sliding_attention"]))
    assert not can_share_prompts(_changed(sliding_window=16))
    recomputing = _model()
    recomputing.gradient_checkpointing_enable({"use_reentrant": False})
    assert not can_share_prompts(recomputing)


def test_a_batch_whose_rows_hold_their_prompts_is_refused() -> None:
    batch: TokenBatch = collate(ROWS)
    with pytest.raises(ValueError, match="hold their own prompts"):
        states_behind_prompts(_model().get_decoder(), batch)

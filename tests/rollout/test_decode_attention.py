"""Decoding with grouped heads is the usual attention without its copies."""

import pytest
import torch
from small_policies import small_qwen3
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from masa.rollout.transformers.decode_attention import decoding, grouped_decode_attention


class _Layer(torch.nn.Module):
    num_key_value_groups = 3
    is_causal = True


@pytest.mark.parametrize("heads", [(6, 2), (4, 4)], ids=["grouped", "one head a query"])
def test_one_new_token_attends_as_in_the_usual_way(heads: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, heads[0], 1, 8, generator=generator)
    key, value = (torch.randn(3, heads[1], 5, 8, generator=generator) for _ in range(2))
    mask = torch.zeros(3, 1, 1, 5)
    mask[0, ..., :2] = torch.finfo(torch.float32).min
    layer = _Layer()
    layer.num_key_value_groups = heads[0] // heads[1]
    usual, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=0.5)
    grouped, _ = grouped_decode_attention(layer, query, key, value, mask, scaling=0.5)
    torch.testing.assert_close(grouped, usual)


def test_the_models_own_attention_is_back_after_decoding() -> None:
    model = small_qwen3()
    before = model.config._attn_implementation
    during = []

    def fail_while_decoding() -> None:
        with decoding(model):
            during.append(model.config._attn_implementation)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_while_decoding()
    assert during != [before]
    assert model.config._attn_implementation == before

"""The policy's parameters under their own names, and their checksum."""

from typing import Any

import pytest
import torch
from torch import nn

from masa.model.weights import named_tensors, plain_name, policy_weights
from masa.rollout.weights.agreement import model_checksum, weight_checksum
from masa.rollout.weights.transfer import buckets


def test_a_plain_model_gives_its_parameters_and_tied_ones_once(tiny_policy: Any) -> None:
    weights = dict(policy_weights(tiny_policy))
    assert set(weights) == {name for name, _ in tiny_policy.named_parameters()}
    assert "lm_head.weight" not in weights
    assert all(weights[name].data_ptr() == one.data_ptr() for name, one in tiny_policy.named_parameters()), "no copies"


def test_what_wraps_a_model_does_not_show_in_the_names(tiny_policy: Any) -> None:
    wrapped = nn.Module()
    wrapped.module = tiny_policy
    assert set(dict(policy_weights(wrapped))) == set(dict(tiny_policy.named_parameters()))
    assert plain_name("module._orig_mod.model.norm.weight") == "model.norm.weight"


def test_lora_adapters_are_merged_into_what_is_sent_and_not_into_the_policy(tiny_policy: Any) -> None:
    peft = pytest.importorskip("peft", reason="the package peft is not installed")
    names = {name for name, _ in tiny_policy.named_parameters()}
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(tiny_policy, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    before = {name: one.clone() for name, one in adapted.named_parameters()}
    sent = {name: tensor.clone() for name, tensor in policy_weights(adapted)}
    assert set(sent) == names
    assert all(torch.equal(one, before[name]) for name, one in adapted.named_parameters())
    ids = torch.arange(2, 20)[None]
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        merged = adapted.merge_and_unload()
        merged.load_state_dict(sent, strict=False)
        assert torch.allclose(merged(input_ids=ids).logits, expected, atol=1e-5)


def test_parts_hold_at_most_so_many_bytes_and_lose_nothing() -> None:
    weights = [(f"w{number}", torch.full((number + 1, 10), float(number))) for number in range(6)]
    parts = list(buckets(iter(weights), 200))
    assert [sorted(part) for part in parts] == [["w0", "w1"], ["w2"], ["w3"], ["w4"], ["w5"]]
    assert all(torch.equal(part[name], dict(weights)[name]) for part in parts for name in part)


def test_a_part_keeps_its_values_when_the_source_is_reused() -> None:
    source = torch.zeros(4)

    def stream() -> Any:
        for value in (1.0, 2.0):
            source.fill_(value)
            yield f"w{value}", source

    (part,) = list(buckets(stream(), 1000))
    assert part["w1.0"][0] == 1.0
    assert part["w2.0"][0] == 2.0


def test_the_checksum_is_that_of_fused_and_padded_matrices() -> None:
    generator = torch.Generator().manual_seed(1)
    one, two = torch.randn(3, 8, generator=generator), torch.randn(5, 8, generator=generator)
    bias = torch.randn(4, generator=generator)
    fused = torch.cat([one, two, torch.zeros(2, 8)])
    assert weight_checksum([one, two, bias]) == weight_checksum([fused, torch.cat([bias, torch.zeros(3)])])
    assert weight_checksum([two, bias, one]) == weight_checksum([one, two, bias])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_checksum_changes_with_any_bit_and_with_swapped_columns(dtype: torch.dtype) -> None:
    matrix = torch.randn(6, 8, generator=torch.Generator().manual_seed(2)).to(dtype)
    changed = matrix.clone()
    changed.view(torch.int32 if dtype == torch.float32 else torch.int16)[3, 4] ^= 1
    swapped = matrix[:, [1, 0, *range(2, 8)]]
    assert len({weight_checksum([one]) for one in (matrix, changed, swapped)}) == 3


def test_a_tied_head_counts_once_in_a_models_checksum(tiny_policy: Any) -> None:
    assert model_checksum(tiny_policy) == weight_checksum(tensor for _, tensor in policy_weights(tiny_policy))


def test_a_model_and_its_named_tensors_are_the_same_weights(tiny_policy: Any) -> None:
    pairs = [(name, one.detach()) for name, one in tiny_policy.named_parameters()]
    wrapped = nn.Module()
    wrapped.module = tiny_policy
    for given in (tiny_policy, wrapped, pairs):
        found = list(named_tensors(given))
        assert [name for name, _ in found] == [name for name, _ in pairs]
        assert all(torch.equal(one, expected) for (_, one), (_, expected) in zip(found, pairs, strict=True))

"""Which models store matrices the other way round than vLLM, so that their checksums say nothing."""

from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from masa.model.weights import has_transposed_matrices, parameter_shapes

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def _shapes(family: str) -> dict[str, tuple[int, ...]]:
    settings: dict[str, Any] = {**SMALL, "bos_token_id": 0, "eos_token_id": 1}
    return parameter_shapes(AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)))


def test_a_matrix_whose_bias_is_as_long_as_its_rows_are_is_transposed() -> None:
    assert has_transposed_matrices({"fc.weight": (8, 24), "fc.bias": (24,)})
    assert not has_transposed_matrices({"fc.weight": (24, 8), "fc.bias": (24,)})
    assert not has_transposed_matrices({"fc.weight": (8, 24), "norm.weight": (24,), "norm.bias": (24,)})
    assert not has_transposed_matrices({"fc.weight": (8, 8), "fc.bias": (8,)})


@pytest.mark.parametrize(("family", "transposed"), [("gpt2", True), ("qwen2", False), ("gpt_neox", False)])
def test_it_is_told_from_a_models_parameters(family: str, transposed: bool) -> None:
    assert has_transposed_matrices(_shapes(family)) is transposed

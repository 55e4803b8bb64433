"""Each family is right in every column, or the product refuses by name, or does not use a layout."""

from __future__ import annotations

import pytest
from columns import COLUMNS, measure
from sizes import KINDS_OF_LAYERS
from tiny import families, kinds, tiny_config
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

QUICK = (
    *("qwen2", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5_text", "llama", "gemma2", "gemma3_text", "gemma3"),
    *("gemma4", "mistral", "phi3", "olmo", "glm4", "glm4_moe", "deepseek_v3", "granite", "gpt_oss", "smollm3"),
    *("falcon_h1", "lfm2"),
)
# Models of the papers go through every column by default; the others leave out what takes the longest.
PAPERS = ("gemma2", "llama", "qwen3")
CHEAP = ("padded", "packed", "shared", "engine", "checkpoint")
# What `transformers` itself does not make or run: towers that need timm, decoders that need another model's states, and
# configurations that `AutoModelForCausalLM` maps to a class which does not take them.
NOT_MADE = {"gemma3n", "gemma4_assistant", "gemma4_unified_assistant", "musicgen", "musicgen_melody"}


@pytest.mark.slow
def test_tiny_models_have_every_kind_of_layer_that_their_family_has() -> None:
    for family in sorted(set(families()) - NOT_MADE):
        default, tiny = CONFIG_MAPPING[family]().get_text_config(), tiny_config(family).get_text_config()
        for name in KINDS_OF_LAYERS:
            assert set(kinds(tiny, name)) >= set(kinds(default, name)), (family, name)


@pytest.mark.parametrize("family", QUICK)
def test_a_common_family_is_right_in_every_column_or_does_without_a_layout(family: str) -> None:
    for column, cell in measure(family, COLUMNS if family in PAPERS else CHEAP).items():
        assert cell.right, (column, cell)
        assert not cell.refused, (column, cell)
        assert not cell.unused or column in ("packed", "shared"), (column, cell)


@pytest.mark.slow
@pytest.mark.parametrize("family", [one for one in families() if one not in NOT_MADE])
def test_no_column_of_any_family_is_wrong_in_silence(family: str) -> None:
    for column, cell in measure(family).items():
        assert cell.right, (column, cell)

"""Each family of the quick subset: every column is right, or the product refuses by name."""

from __future__ import annotations

import pytest
from columns import COLUMNS, measure

QUICK = (
    *("qwen2", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5_text", "llama", "gemma2", "gemma3_text", "gemma3"),
    *("gemma4", "mistral", "phi3", "olmo", "glm4", "glm4_moe", "deepseek_v3", "granite", "gpt_oss", "smollm3"),
    *("falcon_h1", "lfm2"),
)


@pytest.mark.parametrize("family", QUICK)
def test_the_update_computes_the_models_own_log_probs(family: str) -> None:
    cell = measure(family, ("padded",))["padded"]
    assert cell.right, cell
    assert not cell.refused, cell


@pytest.mark.parametrize("family", ["gemma2", "llama", "qwen3"])
def test_models_of_the_papers_are_exact_in_every_column(family: str) -> None:
    for column, cell in measure(family, COLUMNS).items():
        assert cell.right, (column, cell)
        assert not cell.refused or column == "shared", (column, cell)

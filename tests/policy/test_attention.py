"""The attention that a policy runs with is whole, and a run says so where it is not the one that was asked for."""

from pathlib import Path

import pytest
from small_policies import small_qwen3
from tiny import tiny_folder, tiny_model

from masa.config.schema import ModelSection
from masa.model.loading import load_policy
from masa.policy.forward.attention import settle_attention


def test_a_soft_cap_on_attention_scores_needs_eager_attention() -> None:
    model = tiny_model("gemma2", attention="sdpa")
    assert settle_attention(model).startswith("model.attention: eager is used; sdpa leaves out")
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["gpt_oss", "bloom"])
def test_a_model_without_sdpa_attention_runs_with_eager_and_says_so_where_sdpa_was_asked_for(
    family: str, attention: str, tmp_path: Path
) -> None:
    folder = tiny_folder(family, tmp_path / "model")
    model = load_policy(ModelSection(path=str(folder), attention=attention))
    assert model.config._attn_implementation == "eager"
    line = settle_attention(model, attention)
    if attention == "eager":
        assert line == ""
    else:
        assert line == f"model.attention: eager is used; {type(model).__name__} has no sdpa attention"


def test_what_sdpa_computes_whole_stays_with_it() -> None:
    model = small_qwen3(attn_implementation="sdpa")
    assert settle_attention(model) == ""
    assert model.config._attn_implementation == "sdpa"

"""Models whose log-probs cannot be had from their decoder's states and their head's matrix are refused by name."""

import pytest
from tiny import tiny_model

from masa.config import ConfigError
from masa.policy.forward.policy_module import PolicyModule


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("bert", "BertLMHeadModel cannot be trained here: what its head reads is off by"),
        ("modernbert-decoder", r"its head reads states of shape \(1, 1, 64\), not \(1, 96\)"),
        ("gemma4_assistant", "Gemma4AssistantForCausalLM cannot be trained here: it makes no logits of token ids"),
    ],
)
def test_a_model_whose_logits_are_made_otherwise_is_refused_by_name(family: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        PolicyModule(tiny_model(family), temperature=1.0)

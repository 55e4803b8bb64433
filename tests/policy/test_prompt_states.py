"""The policy's hidden states of prompts."""

import pytest
import torch
from small_policies import small_qwen3

from masa.policy.forward.prompt_states import PromptReader


def test_a_state_is_the_last_hidden_state_at_the_prompts_last_token() -> None:
    model = small_qwen3()
    prompts = [[5, 9, 11, 3], [7], [12, 40, 2]]
    found = PromptReader(model)(prompts, 5)
    for prompt, state in zip(prompts, found, strict=True):
        hidden = model(torch.tensor([prompt]), output_hidden_states=True).hidden_states[-1][0, -1]
        assert torch.equal(torch.tensor(state), hidden)
    assert len(found) == 3


def test_a_state_does_not_depend_on_its_neighbours_and_the_model_stays_in_training() -> None:
    model = small_qwen3().train()
    reader = PromptReader(model)
    assert reader([[5, 9], [7, 8, 9]], 2)[0] == reader([[5, 9]], 1)[0]
    assert model.training


@pytest.mark.parametrize(("prompts", "passes"), [([[1], [2]], 1), ([[]], 1)])
def test_fewer_passes_than_prompts_and_empty_prompts_are_refused(prompts: list[list[int]], passes: int) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        PromptReader(small_qwen3())(prompts, passes)

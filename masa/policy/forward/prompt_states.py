"""The policy's last hidden state of a prompt: what it knows of a problem before it writes anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from masa.policy.forward.head import decoder_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PromptReader:
    """Reads prompts one at a time, so that a state does not depend on what is read beside it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Sequence[int]], passes: int) -> list[list[float]]:
        """The decoder's last hidden state at the last token of each prompt, float32, one list of D numbers a prompt.

        Args:
            prompts: token ids.
            passes: forward passes that every process makes, at least one a prompt; processes that shard the model's
                parameters gather them together.

        Raises:
            ValueError: ``passes`` is below the number of prompts, or a prompt is empty.
        """
        if passes < len(prompts) or not all(prompts):
            raise ValueError(f"{passes} passes cannot read {len(prompts)} prompts that each have a token")
        decoder, training = decoder_of(self._model), self._model.training
        device = self._model.device
        self._model.eval()
        states = []
        try:
            for number in range(passes):
                ids = list(prompts[number]) if number < len(prompts) else [0]
                hidden = decoder(input_ids=torch.tensor([ids], device=device), use_cache=False).last_hidden_state
                states.append(hidden[0, -1].float().tolist())
        finally:
            self._model.train(training)
        return states[: len(prompts)]

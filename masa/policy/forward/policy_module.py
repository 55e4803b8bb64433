"""The policy as one module whose forward gives log-probs: what data-parallel and sharding wrappers wrap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from masa.config import Config
from masa.policy.batching.collate import TokenBatch
from masa.policy.batching.shared_prompts import states_behind_prompts
from masa.policy.forward.head import decoder_of, logit_transform
from masa.policy.forward.logprobs import chunked_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PolicyModule(nn.Module):
    """A causal language model that answers with log-probs of the counted response tokens.

    Raises:
        ConfigError: between hidden states and logits the model does what `masa.policy.forward.head` does not know.
    """

    def __init__(self, model: PreTrainedModel, *, temperature: float) -> None:
        super().__init__()
        language_model: Any = model
        self.model = language_model
        self.temperature = temperature
        self.transform = logit_transform(language_model)

    def forward(
        self, batch: TokenBatch, with_entropy: bool = True, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probs and entropies of the counted tokens, [R, L] float32 in nats, 0 where nothing counts.

        Padded rows need no attention mask: with causal attention and padding on the right, no token sees padding.
        """
        head = self.model.get_output_embeddings()
        logprobs, entropy = chunked_logprobs(
            batch.counted_hidden(self._hidden_states(batch)),
            head.weight,
            batch.target_ids,
            temperature=self.temperature,
            bias=getattr(head, "bias", None),
            transform=self.transform,
            with_entropy=with_entropy,
            entropy_gradient=entropy_gradient,
        )
        return batch.to_rows(logprobs), None if entropy is None else batch.to_rows(entropy)

    def _hidden_states(self, batch: TokenBatch) -> Tensor:
        decoder = decoder_of(self.model)
        if batch.shared_prompts is not None:
            return states_behind_prompts(decoder, batch)
        packed = batch.attention_mask is None
        hidden: Tensor = decoder(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids if packed else None,
            use_cache=False,
        ).last_hidden_state
        return hidden


def packs(config: Config) -> bool:
    """Whether the rows of a micro-batch are packed: as asked, or where the attention kernel gains from it."""
    packing = config.optimizer.packing
    return packing == "on" or (packing == "auto" and config.model.attention == "flash_attention_2")

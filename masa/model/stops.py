"""The tokens that end a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from masa.config import Config, ConfigError
from masa.problems.chat import ChatFormat, turn_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def stop_tokens(
    generation_config: Any, tokenizer: PreTrainedTokenizerBase, config: Config
) -> tuple[list[int], list[str]]:
    """Token ids that end a response, and what a run has to say about them.

    They are the tokenizer's end of sequence, those of the model's ``generation_config`` (None: it has none), those of
    ``rollout.stop_token_ids``, and the special token with which the chat template ends an assistant's turn: a base
    model often names another one, and its responses would run on to the limit through turns that it makes up.

    Raises:
        ConfigError: there are none, or one of the configuration's is no token.
    """
    asked = config.rollout.stop_token_ids
    outside = [one for one in asked if one >= len(tokenizer)]
    if outside:
        raise ConfigError(
            f"rollout.stop_token_ids: found {outside[0]}, allowed: 0 to {len(tokenizer) - 1}, the ids of the tokenizer"
        )
    named: Any = [tokenizer.eos_token_id, getattr(generation_config, "eos_token_id", None), list(asked)]
    ids = {int(one) for item in named if item is not None for one in (item if isinstance(item, list) else [item])}
    notes = []
    end = turn_end(tokenizer, ChatFormat.of(config.prompts))
    if end is not None and end not in ids:
        ids.add(end)
        notes.append(
            f"The chat template ends an assistant's turn with {tokenizer.convert_ids_to_tokens(end)!r}, which neither "
            "tokenizer nor generation config names as an end: it ends responses as well"
        )
    if not ids:
        raise ConfigError(
            "model.path: neither tokenizer, generation config nor chat template names a token that ends a response; "
            "name one in rollout.stop_token_ids"
        )
    return sorted(ids), notes


def known_stops(path: str) -> Any:
    """The generation config of a model that is not loaded, or its configuration; None where there is neither here."""
    from transformers import AutoConfig, GenerationConfig

    for kind in (GenerationConfig, AutoConfig):
        try:
            return kind.from_pretrained(path, local_files_only=True)
        except Exception:
            continue
    return None

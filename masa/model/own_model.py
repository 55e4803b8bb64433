"""A model and a tokenizer that a user hands in: what kind of object they must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from masa.config import ConfigError
from masa.config.schema import ModelSection
from masa.errors import described
from masa.model.loading import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check_model_object(model: Any) -> None:
    """
    Raises:
        TypeError: the object is no language model of `transformers`.
    """
    if not all(hasattr(model, name) for name in ("config", "get_output_embeddings", "save_pretrained")):
        raise TypeError(
            f"model is {described(model)}, a causal language model of transformers is needed; a folder or a hub id is "
            "named in model.path"
        )


def check_tokenizer_object(tokenizer: Any) -> None:
    """
    Raises:
        TypeError: the object is no tokenizer of `transformers`.
    """
    if not all(hasattr(tokenizer, name) for name in ("apply_chat_template", "batch_decode", "save_pretrained")):
        raise TypeError(
            f"tokenizer is {described(tokenizer)}, a tokenizer of transformers is needed; without one, that of "
            "model.path is taken"
        )


def own_tokenizer(model: PreTrainedModel, section: ModelSection) -> PreTrainedTokenizerBase:
    """The tokenizer beside the weights that ``model`` was loaded from; ``section`` says how tokenizers are loaded.

    Raises:
        ConfigError: the model was not loaded from anywhere, or no tokenizer lies there. The tokenizer of
            ``section.path`` would be another model's.
    """
    source = str(getattr(model.config, "name_or_path", "") or "")
    if not source:
        raise ConfigError(
            "model= was given without tokenizer=, and the model was not loaded from a folder or a hub id where its "
            "tokenizer could be found; give both"
        )
    try:
        return load_tokenizer(section.model_copy(update={"path": source}))
    except (ConfigError, OSError, ValueError) as error:
        raise ConfigError(
            f"model= was given without tokenizer=, and no tokenizer can be loaded from {source}, where the model comes "
            f"from ({error}); give both"
        ) from error

"""A model and a tokenizer that a user hands in: what kind of object they must be."""

from __future__ import annotations

from typing import Any


def check_model_object(model: Any) -> None:
    """
    Raises:
        TypeError: the object is no language model of `transformers`.
    """
    if not all(hasattr(model, name) for name in ("config", "get_output_embeddings", "save_pretrained")):
        raise TypeError(
            f"model is {_named(model)}, a causal language model of transformers is needed; a folder or a hub id is "
            "named in model.path"
        )


def check_tokenizer_object(tokenizer: Any) -> None:
    """
    Raises:
        TypeError: the object is no tokenizer of `transformers`.
    """
    if not all(hasattr(tokenizer, name) for name in ("apply_chat_template", "batch_decode", "save_pretrained")):
        raise TypeError(
            f"tokenizer is {_named(tokenizer)}, a tokenizer of transformers is needed; without one, that of model.path "
            "is taken"
        )


def _named(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shown = repr(value)
    return f"{shown} ({type(value).__name__})" if len(shown) <= 60 else f"a {type(value).__name__}"

"""How long a prompt and its response may be together, and which token ids there are: checked before a model is loaded.

What is asked here of ``model_config`` is the configuration of a `transformers` model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from masa.config import ConfigError
from masa.config.schema import ModelSection, RolloutSection
from masa.model.loading import loading_options, resolve_model_path

if TYPE_CHECKING:
    from masa.rollout.engine import RolloutPath

HINT_TOKENS = 512
"""What a hint may add to a solution prompt beyond ``prompts.max_tokens``; a longer one is not given."""

_STRETCHED = ("yarn", "linear", "dynamic")
_LIMITS: dict[RolloutPath, str] = {"solution": "max_solution_tokens", "meta": "max_meta_tokens"}
_OPTIONS: Mapping[RolloutPath, str] = {path: f"rollout.{name}" for path, name in _LIMITS.items()}


def load_model_config(section: ModelSection) -> Any:
    """The configuration of the model, None where it cannot be read from here (the model's loading says why)."""
    from transformers import AutoConfig

    path = resolve_model_path(section)
    try:
        return AutoConfig.from_pretrained(path, **loading_options(section))
    except Exception:
        return None


def positions_of(model_config: Any) -> int | None:
    """The longest sequence that the model was made for, in tokens; None where it names none.

    Rotary positions that are stretched (YaRN, linear, dynamic) reach as many times further as their factor says, from
    where they reached before; configurations differ in whether ``max_position_embeddings`` says the one or the other.
    """
    text = model_config.get_text_config()
    named = getattr(text, "max_position_embeddings", None)
    if not isinstance(named, int) or named <= 0:
        return None
    rope: Any = getattr(text, "rope_parameters", None)
    if not isinstance(rope, Mapping) or rope.get("rope_type") not in _STRETCHED:
        return named
    before = rope.get("original_max_position_embeddings") or named
    return max(named, int(before * (rope.get("factor") or 1)))


def engine_room(section: RolloutSection, model_config: Any) -> int | None:
    """Prompt, hint and response together, in tokens, that engine and model have room for; None: no end is known."""
    bounds = [one for one in (section.max_model_len, positions_of(model_config)) if one]
    return min(bounds, default=None)


def require_room(
    section: RolloutSection,
    model_config: Any,
    longest: Mapping[RolloutPath, int],
    bound: str,
    *,
    options: Mapping[RolloutPath, str] = _OPTIONS,
) -> None:
    """Every prompt must leave room for its response.

    Args:
        longest: the longest prompts, in tokens.
        bound: what bounds the prompts, in words for the message.
        options: what a user calls the response limits.

    Raises:
        ConfigError: `rollout.max_model_len` or the model's positions are too few; the message names all numbers.
    """
    positions, asked = positions_of(model_config), section.max_model_len
    if asked and positions and asked > positions:
        raise ConfigError(
            f"rollout.max_model_len: found {asked}, allowed: at most {positions}, the positions of the model "
            "(max_position_embeddings)"
        )
    for path, tokens in longest.items():
        key, limit = options[path], getattr(section, _LIMITS[path])
        needed = tokens + limit
        prompts = f"{path} prompts have up to {tokens} tokens ({bound})"
        if asked and needed > asked:
            raise ConfigError(
                f"rollout.max_model_len: found {asked}, allowed: at least {needed}, for {prompts} and {key} is {limit}"
            )
        if positions and needed > positions:
            raise ConfigError(
                f"{key}: found {limit}, allowed: at most {max(0, positions - tokens)}, for {prompts} and the "
                f"model has {positions} positions (max_position_embeddings)"
            )


def require_embeddings(tokenizer: Any, model_config: Any, prompts: Iterable[tuple[int, ...]]) -> None:
    """Every token that can be used must have an embedding.

    Tokenizers may hold special tokens that only other models of their family know, such as that of an image, as long
    as no prompt of ``prompts`` and no role (padding, end, begin) uses them.

    Raises:
        ConfigError: some have none; the message names both sizes.
    """
    rows = getattr(model_config.get_text_config(), "vocab_size", None)
    if not isinstance(rows, int) or len(tokenizer) <= rows:
        return
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if getattr(token, "special", False)}
    used = {tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id} - {None}
    used.update(id for prompt in prompts for id in prompt)
    missing = sorted(id for id in tokenizer.get_vocab().values() if id >= rows and (id in used or id not in special))
    if missing:
        raise ConfigError(
            f"model.path: the tokenizer has {len(tokenizer)} tokens, the model embeddings for {rows}; allowed: no more "
            f"tokens than embeddings. The first without one is {tokenizer.convert_ids_to_tokens(missing[0])!r} "
            f"({missing[0]}); resize the embeddings (resize_token_embeddings) and save both again"
        )

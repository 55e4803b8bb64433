"""Where the policy and its tokenizer come from."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa.config import ConfigError
from masa.config.schema import ModelSection
from masa.embedded.worlds import EMBEDDED_WORLDS
from masa.errors import first_line
from masa.hub import hub_is_reachable
from masa.model.gguf import forget_quantisation, gguf_file

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TokenizerUnavailableError(ConfigError):
    """A tokenizer that could not be loaded from here."""


def resolve_model_path(section: ModelSection) -> str:
    """The folder or hub id that `transformers` is given; for a GGUF file, the one that holds it.

    Raises:
        ConfigError: ``model.path`` is written like a local path and holds no model.
    """
    named = gguf_file(section.path)
    if named is not None:
        return named.place
    if section.path in EMBEDDED_WORLDS:
        return str(_embedded_policy(section.path))
    path = Path(section.path).expanduser()
    looks_local = section.path.startswith((".", "/", "~")) or section.path.count("/") != 1
    if path.is_dir() or looks_local:
        if not path.is_dir():
            raise ConfigError(
                f"model.path: found {section.path!r}, which is no folder here; allowed: {', '.join(EMBEDDED_WORLDS)}, "
                "a folder with a model saved by transformers, a hub id such as Qwen/Qwen3-8B-Base, or "
                "FOLDER/NAME.gguf"
            )
        if not (path / "config.json").is_file():
            raise ConfigError(f"model.path: the folder {section.path!r} has no config.json, so it holds no model")
        return str(path)
    return section.path


def _embedded_policy(name: str) -> Path:
    """The folder of an embedded world's policy.

    Raises:
        ConfigError: it is one that has to be built first.
    """
    world = EMBEDDED_WORLDS[name]
    if not (world.data / "config.json").is_file():
        raise ConfigError(
            f"model.path: the policy of {name!r} is not built yet: run `{world.build}` once (one core, under half an "
            "hour), or name the folder given to its --out"
        )
    return world.data


def loading_options(section: ModelSection) -> dict[str, Any]:
    """What every ``from_pretrained`` is given beside the path: where to look, and which GGUF file to read, if any."""
    named = gguf_file(section.path)
    options: dict[str, Any] = {"local_files_only": _only_local(resolve_model_path(section))}
    return options if named is None else {**options, "gguf_file": named.file}


def load_tokenizer(section: ModelSection) -> PreTrainedTokenizerBase:
    """The policy's tokenizer.

    Raises:
        TokenizerUnavailableError: it cannot be loaded; the message says from where.
    """
    from transformers import AutoTokenizer

    path = resolve_model_path(section)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, **loading_options(section))
    except Exception as error:
        raise TokenizerUnavailableError(
            f"model.path: the tokenizer of {section.path!r} cannot be loaded: {first_line(error)}"
        ) from error
    return tokenizer


def require_attention(section: ModelSection, *, on_gpu: bool) -> None:
    """Flash attention comes with a package: flash-attn on a GPU, or kernels, which `transformers` takes in its place.

    Raises:
        ConfigError: neither can be used.
    """
    if section.attention != "flash_attention_2" or find_spec("kernels") is not None:
        return
    if not on_gpu or find_spec("flash_attn") is None:
        missing = "the package flash-attn or kernels" if on_gpu else "a GPU"
        raise ConfigError(f"model.attention: found 'flash_attention_2', allowed without {missing}: sdpa, eager")


def load_policy(section: ModelSection, device: torch.device | None = None) -> PreTrainedModel:
    """The policy with its parameters, in evaluation mode, on ``device``; None: on the CPU.

    Weights go from their files to a GPU one tensor at a time. On the CPU they stay mapped to the files, which all
    processes of a machine share, where the files have ``model.dtype``. So a machine's memory holds one copy at most.

    Raises:
        ConfigError: it cannot be loaded; the message says from where.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from masa.model.sharded import name_device_for_deepspeed

    name_device_for_deepspeed()
    placed: dict[str, Any] = {} if device is None or device.type == "cpu" else {"device_map": {"": device}}

    path = resolve_model_path(section)
    options = loading_options(section)
    # Loading prints a bar of its own, which would tear the live display.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def load(attention: str) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, section.dtype),
            attn_implementation=attention,
            **options,
            **placed,
        )
        if "gguf_file" in options:
            forget_quantisation(model)
        return model

    try:
        try:
            model = load(section.attention)
        except ValueError as error:
            if section.attention != "sdpa" or "scaled_dot_product_attention" not in str(error):
                raise
            # The architecture has none (gpt-oss, BLOOM); `settle_attention` says so.
            model = load("eager")
    except Exception as error:
        raise ConfigError(f"model.path: the model {section.path!r} cannot be loaded: {first_line(error)}") from error
    return prepare_policy(model, section)


def prepare_policy(model: PreTrainedModel, section: ModelSection) -> PreTrainedModel:
    """Apply what the configuration says about a model, loaded here or handed in, and switch dropout off."""
    from torch import nn

    from masa.model.lora import add_adapters

    add_adapters(model, section.lora)
    if section.gradient_checkpointing:
        enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    # Dropout would make training's log-probs differ from those the rollouts were drawn with.
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    model.train(section.gradient_checkpointing)
    return model


def _only_local(path: str) -> bool:
    """Whether to look at this machine alone: always for a folder, and for a hub id where the hub cannot be reached."""
    return Path(path).is_dir() or not hub_is_reachable()

"""The model section of an evaluation: a checkpoint in the type it was saved in, and without adapters to train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from masa.config.schema import LoraSection, ModelSection
from masa.model.gguf import gguf_file
from masa.model.loading import resolve_model_path

_ALLOWED = ("float32", "bfloat16")


def evaluated_model(section: ModelSection, *, dtype_is_given: bool) -> ModelSection:
    """``section`` for a model that is only sampled from.

    Its type is that of the checkpoint, unless ``dtype_is_given``: float32 and bfloat16 are taken as they are, anything
    else as float32, which holds float16 exactly. Adapters are in a checkpoint's weights already.
    """
    changes: dict[str, Any] = {"lora": LoraSection()}
    found = None if dtype_is_given else checkpoint_dtype(section)
    if found is not None:
        changes["dtype"] = found if found in _ALLOWED else "float32"
    return section.model_copy(update=changes)


def checkpoint_dtype(section: ModelSection) -> str | None:
    """The type that a checkpoint's config.json names, or else its first tensor has; None where neither can be read."""
    if gguf_file(section.path) is not None:
        return None  # dequantised while it loads, so into any type
    path = Path(resolve_model_path(section))
    if not path.is_dir():
        return _named(_hub_config(str(path)))
    try:
        named = _named(json.loads((path / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return named or _first_tensor_type(path)


def _named(config: dict[str, Any]) -> str | None:
    for values in (config, config.get("text_config") or {}):
        name = values.get("dtype") or values.get("torch_dtype")
        if name:
            return str(name).removeprefix("torch.")
    return None


def _hub_config(path: str) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    from masa.hub import hub_is_reachable

    try:
        config, _ = PreTrainedConfig.get_config_dict(path, local_files_only=not hub_is_reachable())
    except OSError:
        return {}  # what is wrong is said when the model is loaded
    return dict(config)


def _first_tensor_type(folder: Path) -> str | None:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                return str(file.get_tensor(name).dtype).removeprefix("torch.")
    return None

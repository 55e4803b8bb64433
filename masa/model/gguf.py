"""Models in a GGUF file: how ``model.path`` names one, and what `transformers` is told to read it.

`transformers` dequantises the file while it loads, so that the policy is an ordinary one in ``model.dtype`` from then
on: it is trained, sampled from and saved like any other, and its checkpoints are ordinary folders.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from masa.config import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SUFFIX = ".gguf"
_ON_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+):(?P<file>[^:]+)")


@dataclass(frozen=True)
class GgufFile:
    """``file`` within ``place``, which is a folder of this machine or the id of a hub repository."""

    place: str
    file: str


def gguf_file(path: str) -> GgufFile | None:
    """The GGUF file that ``FOLDER/NAME.gguf`` or ``owner/name:NAME.gguf`` names; None for any other path.

    Raises:
        ConfigError: the file is not there, or is no GGUF file.
    """
    if not path.lower().endswith(_SUFFIX):
        return None
    local = Path(path).expanduser()
    on_hub = _ON_HUB.fullmatch(path)
    if on_hub and not local.exists():
        return GgufFile(on_hub["repository"], on_hub["file"])
    if not local.is_file():
        raise ConfigError(
            f"model.path: found {path!r}, which is no file here; allowed: FOLDER/NAME.gguf, or owner/name:NAME.gguf "
            "for a file of a hub repository"
        )
    with local.open("rb") as file:
        head = file.read(4)
    if head != b"GGUF":
        raise ConfigError(f"model.path: {path!r} is no GGUF file: it begins with {head!r}, b'GGUF' is needed")
    return GgufFile(str(local.parent), local.name)


def require_gguf(path: str) -> None:
    """`transformers` reads GGUF files through the package gguf.

    Raises:
        ConfigError: ``path`` names a GGUF file, and the package is not installed.
    """
    if path.lower().endswith(_SUFFIX) and find_spec("gguf") is None:
        raise ConfigError(
            f"model.path: found {path!r}, allowed without the package gguf: a folder or hub id of a model that "
            "transformers has saved; install it with pip install masa-rl[gguf]"
        )


def forget_quantisation(model: PreTrainedModel) -> None:
    """Make a model that was read from a GGUF file an ordinary one, in place.

    `transformers` (5.19) goes on calling it quantised, in its configuration too, and then refuses to save it, although
    its parameters are plain tensors by now.
    """
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        if name in vars(model):
            delattr(model, name)
    vars(model.config).pop("quantization_config", None)

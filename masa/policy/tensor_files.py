"""Many named tensors in a few safetensors files, written and read one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

_FILE_BYTES = 4 * 2**30


def write_tensors(
    folder: Path, name: str, tensors: Iterable[tuple[str, Tensor]], *, file_bytes: int = _FILE_BYTES
) -> None:
    """Write ``tensors`` to ``name-00001.safetensors``, ... in ``folder``, never more than one file in memory."""
    from safetensors.torch import save_file

    where: dict[str, str] = {}
    waiting: dict[str, Tensor] = {}

    def flush() -> None:
        file = f"{name}-{len(set(where.values())) + 1:05d}.safetensors"
        save_file(waiting, folder / file)
        where.update(dict.fromkeys(waiting, file))
        waiting.clear()

    size = 0
    for key, tensor in tensors:
        whole = tensor.detach().cpu().contiguous()
        if waiting and size + whole.nbytes > file_bytes:
            flush()
            size = 0
        # A tensor on the CPU would go on sharing its memory with what trains.
        waiting[key] = whole.clone() if whole.data_ptr() == tensor.data_ptr() else whole
        size += whole.nbytes
    if waiting:
        flush()
    (folder / f"{name}.index.json").write_text(json.dumps(where), encoding="utf-8")


class TensorFiles:
    """The tensors that `write_tensors` wrote, read when they are asked for."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._where: dict[str, str] = json.loads((folder / f"{name}.index.json").read_text(encoding="utf-8"))
        self._open: dict[str, Any] = {}

    @property
    def names(self) -> set[str]:
        return set(self._where)

    def read(self, name: str) -> Tensor:
        """The tensor of that name.

        Raises:
            KeyError: there is none.
        """
        from safetensors import safe_open

        file = self._where[name]
        if file not in self._open:
            self._open[file] = safe_open(self._folder / file, "pt")
        tensor: Tensor = self._open[file].get_tensor(name)
        return tensor

"""Tensors in safetensors files, whole or in pieces that several processes wrote, with checksums of the files.

A piece is a range of the elements of a tensor, in row-major order. Which one it is, and the whole tensor's shape,
stands in the metadata of its file under ``pieces``; a tensor without an entry is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from masa.files.checked_files import CheckedFiles, CheckedWriter, FileRecord

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_LENGTH_BYTES = 8
_FILE_BYTES = 2**30


@dataclass(frozen=True)
class Part:
    """A tensor to be written to ``file`` under ``name``: whole, or, with a ``shape``, the elements from ``start`` on of
    a tensor of that shape. A part that is ``copied`` has memory of its own on the host."""

    file: str
    name: str
    tensor: Tensor
    start: int = 0
    shape: tuple[int, ...] | None = None
    copied: bool = False

    def on_host(self) -> Part:
        """The same part with memory of its own on the host, which training does not change."""
        if self.copied:
            return self
        copy = self.tensor.detach().cpu().contiguous()
        if copy.data_ptr() == self.tensor.data_ptr():
            copy = copy.clone()
        return replace(self, tensor=copy, copied=True)


class Parts(Protocol):
    """Tensors by name, of which ranges can be read."""

    @property
    def names(self) -> set[str]: ...

    def read_part(self, name: str, start: int, stop: int) -> Tensor:
        """The elements from ``start`` to ``stop`` of the tensor of that name, flat.

        Raises:
            KeyError: there is none, or not all of these elements.
        """
        ...


def write_parts(folder: Path, parts: Iterable[Part]) -> dict[str, FileRecord]:
    """Write ``parts`` into ``folder``, those of one file one after the other; never more than a file in memory.

    The answer: what each file must be when it is read, by its name in ``folder``.
    """
    records = {}
    for file, group in groupby(parts, key=lambda part: part.file):
        (folder / file).parent.mkdir(exist_ok=True)
        records[file] = _write_file(folder / file, [part.on_host() for part in group])
    return records


def numbered(parts: Iterable[Part], *, file_bytes: int = _FILE_BYTES) -> Iterator[Part]:
    """``parts`` with numbers in the names of their files, a new one where a file would exceed ``file_bytes``."""
    number, size = 1, 0
    for part in parts:
        if size and size + part.tensor.nbytes > file_bytes:
            number, size = number + 1, 0
        size += part.tensor.nbytes
        yield replace(part, file=f"{part.file}-{number:05d}.safetensors")


def _write_file(path: Path, parts: list[Part]) -> FileRecord:
    # Wide types first, as safetensors orders them: every tensor begins at a multiple of its elements' size.
    parts = sorted(parts, key=lambda part: -part.tensor.element_size())
    pieces = {part.name: [part.start, *part.shape] for part in parts if part.shape is not None}
    header: dict[str, object] = {"__metadata__": {"format": "pt", **({"pieces": json.dumps(pieces)} if pieces else {})}}
    end = 0
    for part in parts:
        begin, end = end, end + part.tensor.nbytes
        shape = list(part.tensor.shape)
        header[part.name] = {"dtype": _NAMES[part.tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    with CheckedWriter(path) as writer:
        writer.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for part in parts:
            writer.write(part.tensor.reshape(-1).view(torch.uint8).numpy().data)
    return writer.record()


@dataclass(frozen=True)
class _Piece:
    """Elements ``start`` to ``stop`` of a tensor, and where in which file they begin."""

    file: str
    offset: int
    start: int
    stop: int


@dataclass
class _Tensor:
    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: list[_Piece] = field(default_factory=list)


class TensorFiles:
    """The tensors of all ``files`` among ``checked``, whoever wrote which piece of them."""

    def __init__(self, checked: CheckedFiles, files: Iterable[str]) -> None:
        self._checked = checked
        self._tensors: dict[str, _Tensor] = {}
        for file in sorted(files):
            self._add(file)

    @property
    def names(self) -> set[str]:
        return set(self._tensors)

    def read(self, name: str) -> Tensor:
        """The whole tensor of that name.

        Raises:
            KeyError: there is none, or not all of it.
        """
        shape = self._tensors[name].shape
        return self.read_part(name, 0, torch.Size(shape).numel()).reshape(shape)

    def read_part(self, name: str, start: int, stop: int) -> Tensor:
        """The elements from ``start`` to ``stop`` of the tensor of that name, flat; no other bytes are read.

        Raises:
            KeyError: there is none, or not all of these elements.
        """
        tensor = self._tensors[name]
        wanted = [one for one in tensor.pieces if one.start < stop and start < one.stop]
        found = torch.empty(stop - start, dtype=tensor.dtype)
        size = found.element_size()
        filled = 0
        for piece in wanted:
            first, last = max(start, piece.start), min(stop, piece.stop)
            begin = piece.offset + (first - piece.start) * size
            data = self._checked.read(piece.file, begin, begin + (last - first) * size)
            found[first - start : last - start] = torch.frombuffer(data, dtype=tensor.dtype)
            filled += last - first
        if filled != stop - start:
            raise KeyError(f"{name}: {filled} of {stop - start} elements are there")
        return found

    def _add(self, file: str) -> None:
        length = int.from_bytes(self._checked.read(file, 0, _LENGTH_BYTES), "little")
        size = self._checked.records[file].size
        try:
            header = json.loads(self._checked.read(file, _LENGTH_BYTES, min(_LENGTH_BYTES + length, size)))
        except ValueError:
            self._checked.note(f"{file} is no safetensors file")
            return
        pieces: Mapping[str, list[int]] = json.loads(header.pop("__metadata__", {}).get("pieces", "{}"))
        for name, entry in header.items():
            start, *shape = pieces.get(name, [0, *entry["shape"]])
            numel = torch.Size(entry["shape"]).numel()
            offset = _LENGTH_BYTES + length + entry["data_offsets"][0]
            tensor = self._tensors.setdefault(name, _Tensor(_TYPES[entry["dtype"]], tuple(shape)))
            tensor.pieces.append(_Piece(file, offset, start, start + numel))

"""Checksums taken while files are written and compared while parts of them are read."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from masa.files.checked_files import BLOCK_BYTES, CheckedFiles, CheckedWriter, checksum_of
from masa.files.tensor_files import Part, TensorFiles, numbered, write_parts

_TENSOR = torch.arange(5 * BLOCK_BYTES // 4, dtype=torch.float32).reshape(5, -1)


def _written(folder: Path) -> CheckedFiles:
    pieces = [(0, 400_000), (400_000, _TENSOR.numel())]
    records = {}
    for process, (start, stop) in enumerate(pieces):
        part = Part(f"part-{process}.safetensors", "one", _TENSOR.flatten()[start:stop], start, tuple(_TENSOR.shape))
        records |= write_parts(folder, [part])
    return CheckedFiles(folder, records)


def test_the_checksums_taken_while_writing_are_those_of_the_file(tmp_path: Path) -> None:
    with CheckedWriter(tmp_path / "file") as writer:
        for size in (7, BLOCK_BYTES, 3 * BLOCK_BYTES - 7, 11):
            writer.write(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    assert writer.record() == checksum_of(tmp_path / "file")
    assert writer.record().blocks == 5


def test_pieces_of_several_processes_are_one_tensor_and_any_part_of_it_is_read_alone(tmp_path: Path) -> None:
    checked = _written(tmp_path)
    files = TensorFiles(checked, checked.records)
    assert files.read_part("one", 399_000, 401_000).equal(_TENSOR.flatten()[399_000:401_000])
    assert checked.bytes_read < 5 * BLOCK_BYTES
    assert files.read("one").equal(_TENSOR)
    assert checked.damage is None
    total = sum(record.size for record in checked.records.values())
    assert checked.bytes_read < total + 5 * BLOCK_BYTES


def test_a_whole_tensor_read_in_order_is_read_once(tmp_path: Path) -> None:
    checked = _written(tmp_path)
    files = TensorFiles(checked, checked.records)
    for start in range(0, _TENSOR.numel(), 10_000):
        files.read_part("one", start, min(start + 10_000, _TENSOR.numel()))
    total = sum(record.size for record in checked.records.values())
    # A file's header is read first, and again with its first block where other files were read in between.
    assert total <= checked.bytes_read <= total + 2 * BLOCK_BYTES


def test_a_changed_bit_is_found_by_whoever_reads_its_block_and_by_nobody_else(tmp_path: Path) -> None:
    checked = _written(tmp_path)
    with (tmp_path / "part-1.safetensors").open("r+b") as file:
        file.seek(2 * BLOCK_BYTES - 100)
        file.write(b"\xff")
    files = TensorFiles(checked, checked.records)
    files.read_part("one", 0, 300_000)
    assert checked.damage is None
    files.read("one")
    assert checked.damage == "part-1.safetensors has changed since it was written"


def test_safetensors_reads_what_was_written(tmp_path: Path) -> None:
    tensors = {
        "flags": torch.tensor([True, False, True]),
        "half": torch.randn(3, 5).bfloat16(),
        "number": torch.tensor(7),
        "none": torch.zeros(0, 4),
        "wide": torch.randn(2, 3, dtype=torch.float64),
    }
    records = write_parts(tmp_path, [Part("all.safetensors", name, one) for name, one in tensors.items()])
    for found in (
        load_file(tmp_path / "all.safetensors"),
        {name: TensorFiles(CheckedFiles(tmp_path, records), records).read(name) for name in tensors},
    ):
        assert found.keys() == tensors.keys()
        assert all(found[name].equal(one) and found[name].dtype == one.dtype for name, one in tensors.items())


def test_missing_elements_are_named(tmp_path: Path) -> None:
    records = write_parts(tmp_path, [Part("a.safetensors", "one", torch.zeros(3), 2, (9,))])
    with pytest.raises(KeyError, match="one: 1 of 3 elements"):
        TensorFiles(CheckedFiles(tmp_path, records), records).read_part("one", 0, 3)


def test_a_new_file_begins_where_one_would_be_too_large() -> None:
    parts = [Part("optimizer", str(number), torch.zeros(10)) for number in range(5)]
    assert [part.file[-17:] for part in numbered(parts, file_bytes=80)] == [
        f"{number:05d}.safetensors" for number in (1, 1, 2, 2, 3)
    ]

"""Files whose checksums are taken while they are written, and compared while they are read.

A file's checksum is the CRC-32 of each MiB of it, so that a process that needs a part of a large file reads, and
compares, that part alone.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 2**20
_FLUSH_BYTES = 2**27
_KEPT_BLOCKS = 16


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes, and the CRC-32 of each block of `BLOCK_BYTES`, the last one shorter, as 8 hexadecimal digits.

    ``checksums`` is a number in checkpoints of earlier versions: the CRC-32 of the whole file.
    """

    size: int
    checksums: str | int

    @property
    def blocks(self) -> int:
        return -(-self.size // BLOCK_BYTES)

    def checksum(self, block: int) -> int:
        assert isinstance(self.checksums, str)
        return int(self.checksums[8 * block : 8 * block + 8], 16)


class CheckedWriter:
    """A new file that is written from its beginning to its end; a context manager.

    What has been written goes on to the disk while more is written, and all of it is there at the end.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="masa-flush")
        self._flushing: Future[None] | None = None
        self._size = 0
        self._flushed = 0
        self._checksum = 0
        self._checksums: list[str] = []

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        while len(view):
            piece = view[: BLOCK_BYTES - self._size % BLOCK_BYTES]
            written = self._file.write(piece)
            self._checksum = zlib.crc32(piece[:written], self._checksum)
            self._size += written
            if self._size % BLOCK_BYTES == 0:
                self._end_block()
            view = view[written:]
        if self._size - self._flushed >= _FLUSH_BYTES and (self._flushing is None or self._flushing.done()):
            if self._flushing is not None:
                # The system reports a failed write once, to whoever flushes first.
                self._flushing.result()
            self._flushed = self._size
            self._flushing = self._flusher.submit(os.fdatasync, self._file.fileno())

    def record(self) -> FileRecord:
        """Of what was written, once the file is closed."""
        return FileRecord(self._size, "".join(self._checksums))

    def _end_block(self) -> None:
        self._checksums.append(f"{self._checksum:08x}")
        self._checksum = 0

    def __enter__(self) -> CheckedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._flusher.shutdown()
        try:
            if self._size % BLOCK_BYTES:
                self._end_block()
            if kind is None:
                if self._flushing is not None:
                    self._flushing.result()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


class CheckedFiles:
    """Files of a folder, read in parts that are compared with the checksums in ``records``.

    What is wrong is kept in ``damage`` and not raised: processes that load together go on together, and agree at the
    end. What cannot be read is zeros.
    """

    def __init__(self, folder: Path, records: Mapping[str, FileRecord]) -> None:
        self.folder = folder
        self.records = records
        self.damage: str | None = None
        self.bytes_read = 0
        self._descriptors: dict[str, int] = {}
        self._compared: dict[str, bytearray] = {}
        # A block that one part ends in is where the next part of its file begins.
        self._last: dict[str, tuple[int, bytes]] = {}

    @classmethod
    def as_they_are(cls, folder: Path) -> CheckedFiles:
        """All files of a folder that has no record of them."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        return cls(folder, {path.relative_to(folder).as_posix(): checksum_of(path) for path in files})

    def read(self, name: str, start: int, stop: int) -> bytearray:
        """Bytes from ``start`` to ``stop`` of the file ``name``."""
        found = bytearray(stop - start)
        view = memoryview(found)
        for block in range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)):
            first = block * BLOCK_BYTES
            data = self._block(name, block)
            part = memoryview(data)[max(start - first, 0) : stop - first]
            place = max(first - start, 0)
            view[place : place + len(part)] = part
        return found

    def compared(self) -> dict[str, bytes]:
        """Of each file that was read from, a byte for each block: 1 where it was compared."""
        return {name: bytes(blocks) for name, blocks in self._compared.items()}

    def compare(self, name: str, blocks: Iterable[int]) -> None:
        """Read blocks for their checksums alone."""
        for block in blocks:
            self._block(name, block)

    def close(self) -> None:
        """Close the files; they may be read again."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._last.clear()

    def _block(self, name: str, block: int) -> bytes:
        kept = self._last.get(name)
        if kept is not None and kept[0] == block:
            return kept[1]
        record = self.records[name]
        size = min(BLOCK_BYTES, record.size - block * BLOCK_BYTES)
        try:
            if name not in self._descriptors:
                self._descriptors[name] = os.open(self.folder / name, os.O_RDONLY)
            data = os.pread(self._descriptors[name], size, block * BLOCK_BYTES)
        except OSError as error:
            self.note(f"{name} cannot be read: {error}")
            data = b""
        self.bytes_read += len(data)
        if isinstance(record.checksums, str) and zlib.crc32(data) != record.checksum(block):
            self.note(f"{name} has changed since it was written")
        self._compared.setdefault(name, bytearray(record.blocks))[block] = 1
        data = data.ljust(size, b"\0")
        if len(self._last) >= _KEPT_BLOCKS:
            self._last.clear()
        self._last[name] = (block, data)
        return data

    def note(self, damage: str) -> None:
        """Keep the first thing that is wrong."""
        self.damage = self.damage or damage


def checksum_of(path: Path) -> FileRecord:
    """The record of a file that is there already."""
    checksums = []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            checksums.append(f"{zlib.crc32(block):08x}")
    return FileRecord(path.stat().st_size, "".join(checksums))


def whole_checksum_of(path: Path) -> int:
    """The CRC-32 of a whole file, which checkpoints of earlier versions have."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum

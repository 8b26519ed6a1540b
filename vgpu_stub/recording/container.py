"""The container of a recording: a file of blocks, each compressed and checked on its own.

A block holds whole records of one stream, so a file that ends too early can be read up to its last
whole block. docs/recording.md describes the format byte by byte.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import zstandard

from vgpu_stub.recording.errors import RecordingError

MAGIC: Final = b"VGPUREC\0"
VERSION: Final = (1, 0)
#: Largest block before compression, in bytes: what a reader must be ready to hold.
MAX_BLOCK_BYTES: Final = 64 << 20

_FILE_HEADER: Final = struct.Struct("<8sHHI")
_BLOCK_MAGIC: Final = b"BLCK"
_BLOCK_HEADER: Final = struct.Struct("<4sIIII")
_LEVEL: Final = 1


@dataclass(frozen=True)
class Block:
    """A block as it was read: whole records of `stream`, and where in the file it begins."""

    stream: int
    data: bytes
    offset: int


class BlockWriter:
    """Writes a recording block by block; any thread may write."""

    def __init__(self, path: Path) -> None:
        """Start a new file in place of what is there.

        Raises:
            OSError: The file cannot be written.
        """
        self._file = path.open("wb", buffering=0)
        self._lock = threading.Lock()
        self._compressor = zstandard.ZstdCompressor(_LEVEL)
        #: Bytes of records so far, and of the file.
        self.raw_bytes = 0
        self.file_bytes = 0
        self._write(_FILE_HEADER.pack(MAGIC, *VERSION, 0))

    def write(self, stream: int, data: bytes) -> None:
        """Append a block of whole records.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            stored = self._compressor.compress(data)
            head = _BLOCK_HEADER.pack(_BLOCK_MAGIC, stream, len(data), len(stored), 0)
            check = zlib.crc32(stored, zlib.crc32(head))
            head = _BLOCK_HEADER.pack(_BLOCK_MAGIC, stream, len(data), len(stored), check)
            self._write(head + stored)
            self.raw_bytes += len(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file.fileno(), view) :]
        self.file_bytes += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class BlockReader:
    """Reads a recording block by block."""

    def __init__(self, path: Path) -> None:
        """Open a file and check that it is a recording of a version that can be read.

        Raises:
            RecordingError: It is none.
        """
        self._path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise RecordingError(f"cannot read {path}: {error.strerror}") from error
        self._size = os.fstat(self._file.fileno()).st_size
        self._decompressor = zstandard.ZstdDecompressor()
        #: Where a file that was not finished stops making sense, or "".
        self.truncation = ""
        try:
            self._check_header()
        except RecordingError:
            self._file.close()
            raise

    def _check_header(self) -> None:
        header = self._file.read(_FILE_HEADER.size)
        if len(header) < _FILE_HEADER.size or not header.startswith(MAGIC):
            raise RecordingError(f"{self._path} is no recording of VGPU-STUB")
        _, major, minor, _ = _FILE_HEADER.unpack(header)
        if major != VERSION[0] or minor > VERSION[1]:
            raise RecordingError(
                f"{self._path} has format {major}.{minor}; this program reads"
                f" {VERSION[0]}.0 to {VERSION[0]}.{VERSION[1]}"
            )

    def __iter__(self) -> Iterator[Block]:
        """Yield every block in the order of the file.

        Raises:
            RecordingError: A block is damaged. A file that merely ends too early sets `truncation`.
        """
        offset = _FILE_HEADER.size
        while offset < self._size:
            self._file.seek(offset)
            head = self._file.read(_BLOCK_HEADER.size)
            if len(head) < _BLOCK_HEADER.size:
                self.truncation = f"the file ends inside the head of the block at byte {offset}"
                return
            magic, stream, _, stored_bytes, _ = _BLOCK_HEADER.unpack(head)
            if magic != _BLOCK_MAGIC:
                raise RecordingError(f"{self._path}: no block begins at byte {offset}")
            end = offset + _BLOCK_HEADER.size + stored_bytes
            if end > self._size:
                self.truncation = f"the file ends inside the block at byte {offset}"
                return
            yield Block(stream, self._read(offset, head), offset)
            offset = end

    def read(self, offset: int) -> bytes:
        """The records of the block that begins at a byte of the file.

        Raises:
            RecordingError: It is damaged.
        """
        self._file.seek(offset)
        return self._read(offset, self._file.read(_BLOCK_HEADER.size))

    def _read(self, offset: int, head: bytes) -> bytes:
        magic, stream, raw_bytes, stored_bytes, check = _BLOCK_HEADER.unpack(head)
        if raw_bytes > MAX_BLOCK_BYTES:
            raise RecordingError(f"{self._path}: the block at byte {offset} claims too much")
        stored = self._file.read(stored_bytes)
        unchecked = _BLOCK_HEADER.pack(magic, stream, raw_bytes, stored_bytes, 0)
        if zlib.crc32(stored, zlib.crc32(unchecked)) != check:
            raise RecordingError(
                f"{self._path}: the block at byte {offset} is damaged: its checksum is wrong"
            )
        try:
            data = self._decompressor.decompress(stored, max_output_size=raw_bytes)
        except zstandard.ZstdError as error:
            raise RecordingError(f"{self._path}: the block at byte {offset}: {error}") from error
        if len(data) != raw_bytes:
            raise RecordingError(f"{self._path}: the block at byte {offset} has another length")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

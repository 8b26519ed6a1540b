"""Reads the images of fat binaries: the device code that nvcc packs into programs and libraries.

A fat binary is a container of images, PTX text or machine code, each for one architecture and
packed or not. A library has one container for each translation unit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Final

import lz4.block
import zstandard

MAGIC: Final = struct.pack("<I", 0xBA55ED50)
#: Container: magic, version, header size, size of what follows.
_CONTAINER: Final = struct.Struct("<IHHQ")
#: Image: kind, version, header size, payload size, packed size, -, minor, major, architecture, name
#: offset, name length, flags, -, unpacked size.
_IMAGE: Final = struct.Struct("<HHIQIIHHIIIQQQ")
_PTX: Final = 1
_LZ4, _ZSTD = 0x2000, 0x8000
#: Largest image that is unpacked, in bytes; the guest's library has the same limit.
_UNPACKED_MOST: Final = 1 << 30


class FatBinaryError(Exception):
    """A fat binary is damaged; the text says where."""


@dataclass(frozen=True, slots=True)
class FatImage:
    """One image of a fat binary.

    Attributes:
        is_ptx: Whether it is PTX text, else machine code.
        architecture: What it is for: 61 for compute capability 6.1.
        payload: Its bytes as they are stored.
        packing: Flags that say how they are packed.
        size: Bytes when unpacked.
    """

    is_ptx: bool
    architecture: int
    payload: bytes
    packing: int
    size: int

    def unpack(self) -> bytes:
        """The image itself; PTX without the NUL that ends it.

        Raises:
            FatBinaryError: The packed bytes are damaged.
        """
        if self.packing & (_LZ4 | _ZSTD) and self.size > _UNPACKED_MOST:
            raise FatBinaryError(
                f"an image for {self.architecture} claims {self.size} bytes when unpacked"
            )
        try:
            data = _unpack(self.payload, self.packing, self.size)
        except (lz4.block.LZ4BlockError, zstandard.ZstdError, MemoryError) as error:
            raise FatBinaryError(f"an image for {self.architecture} is damaged: {error}") from error
        return data.rstrip(b"\0") if self.is_ptx else data


def read_fat_binaries(data: bytes | mmap) -> Iterator[tuple[FatImage, ...]]:
    """The images of each container in a file, in the order of the file.

    Raises:
        FatBinaryError: A container ends within an image.
    """
    start = data.find(MAGIC)
    while start >= 0:
        try:
            _, _, header, size = _CONTAINER.unpack_from(data, start)
            images = tuple(_images(data, start + header, start + header + size))
        except struct.error:
            raise FatBinaryError(f"the fat binary at byte {start} is cut off") from None
        yield images
        start = data.find(MAGIC, max(start + header + size, start + len(MAGIC)))


def _images(data: bytes | mmap, place: int, end: int) -> Iterator[FatImage]:
    while place < end:
        image = _IMAGE.unpack_from(data, place)
        kind, _, header, payload, packed = image[:5]
        if header < _IMAGE.size:
            raise FatBinaryError(f"the image at byte {place} has a header of {header} bytes")
        architecture, flags, unpacked = image[8], image[11], image[13]
        start = place + header
        if start + payload > len(data):
            raise FatBinaryError(f"the image at byte {place} is cut off")
        yield FatImage(
            kind == _PTX, architecture, data[start : start + (packed or payload)], flags, unpacked
        )
        place = start + payload


def _unpack(payload: bytes, packing: int, size: int) -> bytes:
    if packing & _LZ4:
        unpacked: bytes = lz4.block.decompress(payload, uncompressed_size=size)
        return unpacked
    if packing & _ZSTD:
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=size)
    return payload

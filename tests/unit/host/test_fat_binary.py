"""Fat binaries as nvcc packs them, made here byte by byte."""

from __future__ import annotations

import struct

import lz4.block
import pytest
import zstandard

from vgpu_host.fat_binary import FatBinaryError, read_fat_binaries

PTX, MACHINE_CODE = 1, 2
LZ4, ZSTD = 0x2000, 0x8000
TEXT = b".version 8.4\n.target sm_61\n.address_size 64\n" * 20


def image(kind: int, architecture: int, payload: bytes, flags: int = 0, size: int = 0) -> bytes:
    padded = payload + bytes(-len(payload) % 8)
    packed = len(payload) if flags else 0
    head = struct.pack(
        "<HHIQIIHHIIIQQQ",
        *(kind, 0x101, 64, len(padded), packed, 0, 4, 8, architecture, 0, 0, flags, 0, size),
    )
    return head + padded


def container(*images: bytes) -> bytes:
    body = b"".join(images)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_images_of_all_containers_in_order() -> None:
    packed = lz4.block.compress(TEXT, store_size=False)
    modern = zstandard.ZstdCompressor().compress(TEXT)
    file = (
        b"\x7fELF some program"
        + container(
            image(PTX, 61, TEXT + b"\0"),
            image(PTX, 75, packed, LZ4, len(TEXT)),
            image(MACHINE_CODE, 80, b"\x7fELFcode"),
        )
        + bytes(24)
        + container(image(PTX, 90, modern, ZSTD, len(TEXT)))
    )
    first, second = read_fat_binaries(file)
    assert [(i.is_ptx, i.architecture) for i in first] == [(True, 61), (True, 75), (False, 80)]
    assert [(i.is_ptx, i.architecture) for i in second] == [(True, 90)]
    assert first[0].unpack() == TEXT
    assert first[1].unpack() == TEXT
    assert first[2].unpack() == b"\x7fELFcode"
    assert second[0].unpack() == TEXT


def test_a_file_without_fat_binaries_has_no_images() -> None:
    assert list(read_fat_binaries(b"\x7fELF" + bytes(1000))) == []


def test_damaged_images_are_named() -> None:
    ((damaged,),) = read_fat_binaries(container(image(PTX, 61, b"no lz4 block", LZ4, 5000)))
    with pytest.raises(FatBinaryError, match="image for 61 is damaged"):
        damaged.unpack()
    whole = container(image(PTX, 61, TEXT))
    with pytest.raises(FatBinaryError, match="fat binary at byte 0 is cut off"):
        list(read_fat_binaries(whole[:60]))
    with pytest.raises(FatBinaryError, match="image at byte 16 is cut off"):
        list(read_fat_binaries(whole[:-8]))
    with pytest.raises(FatBinaryError, match="header of 0 bytes"):
        list(read_fat_binaries(container(bytes(64))))


@pytest.mark.parametrize("packing", [LZ4, ZSTD])
def test_image_that_claims_more_than_anybody_unpacks_is_refused(packing: int) -> None:
    ((huge,),) = read_fat_binaries(container(image(PTX, 61, b"packed", packing, (1 << 64) - 1)))
    with pytest.raises(FatBinaryError, match="claims 18446744073709551615 bytes"):
        huge.unpack()

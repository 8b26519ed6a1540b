"""Module images: the LZ4 and zstd decoders, and which image of a fatbin is picked."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "guest/cuda/driver"
FILES = ("fatbin", "lz4", "zstd", "log", "journal", "error")
INVALID_IMAGE, NO_BINARY_FOR_GPU, NOT_SUPPORTED = 200, 209, 801
PTX, CUBIN = 1, 2
LZ4, ZSTD = 0x2000, 0x8000

#: The parts of the library that the image code calls, without a device.
SHIM = """
#include <string.h>
#include "internal.h"
struct vgpu_device_info vgpu_device;
bool vgpu_executor_is_cuda(void)
{
    return strcmp((const char *)vgpu_device.executor, "cuda") == 0;
}
void be(const char *executor, int major, int minor)
{
    strcpy((char *)vgpu_device.executor, executor);
    vgpu_device.compute_major = major;
    vgpu_device.compute_minor = minor;
}
"""


class Image(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("kind", ctypes.c_uint32),
        ("owned", ctypes.c_void_p),
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("images")
    include = subprocess.run(
        ["make", "-s", "-C", str(ROOT / "guest/cuda"), "print-cuda-include"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    shim = folder / "shim.c"
    shim.write_text(SHIM)
    target = folder / "images.so"
    subprocess.run(
        [
            "cc",
            "-std=gnu17",
            "-D_GNU_SOURCE",
            "-shared",
            "-fPIC",
            "-isystem",
            include,
            "-I",
            str(SOURCES),
            "-I",
            str(ROOT / "guest/include"),
            "-o",
            str(target),
            str(shim),
            *(str(SOURCES / f"{name}.c") for name in FILES),
            "-ldl",
        ],
        check=True,
    )
    library = ctypes.CDLL(str(target))
    for name in ("vgpu_lz4_decode", "vgpu_zstd_decode"):
        function = getattr(library, name)
        function.restype = ctypes.c_ssize_t
        function.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    return library


def decode(function: Callable[..., int], data: bytes, room: int) -> tuple[int, bytes]:
    out = ctypes.create_string_buffer(room + 8)
    out.raw = b"\xee" * (room + 8)
    got = function(data, len(data), out, room)
    assert out.raw[room:] == b"\xee" * 8, "wrote beyond the end"
    return got, out.raw[: max(got, 0)]


def samples() -> list[bytes]:
    source = random.Random(1)
    return [
        b"",
        b"x",
        b"a" * 100_000,
        bytes(source.randrange(256) for _ in range(70_000)),
        b"".join(source.choice((b"ld.param", b" %r1", b"; add", b"\n")) for _ in range(20_000)),
    ]


@pytest.mark.parametrize("plain", samples(), ids=["empty", "one", "run", "noise", "text"])
def test_decoders_give_back_what_was_packed(images: ctypes.CDLL, plain: bytes) -> None:
    packed = lz4.block.compress(plain, store_size=False)
    assert decode(images.vgpu_lz4_decode, packed, len(plain)) == (len(plain), plain)
    packed = zstandard.compress(plain)
    assert decode(images.vgpu_zstd_decode, packed, len(plain)) == (len(plain), plain)


def test_lz4_refuses_broken_input_without_writing_beyond_the_end(images: ctypes.CDLL) -> None:
    source = random.Random(2)
    plain = b"abcabcabcd" * 500
    packed = lz4.block.compress(plain, store_size=False)
    assert decode(images.vgpu_lz4_decode, packed, len(plain) - 1)[0] == -1
    assert decode(images.vgpu_lz4_decode, packed[:-1], len(plain))[0] == -1
    for _ in range(3000):
        broken = bytearray(packed)
        broken[source.randrange(len(broken))] = source.randrange(256)
        decode(images.vgpu_lz4_decode, bytes(broken[: source.randrange(len(broken))]), len(plain))


def entry(kind: int, capability: int, payload: bytes, packing: int = 0) -> bytes:
    packed = payload
    if packing == LZ4:
        packed = lz4.block.compress(payload, store_size=False)
    elif packing == ZSTD:
        packed = zstandard.compress(payload)
    padded = packed.ljust(-(-len(packed) // 8) * 8, b"\0")
    header = struct.pack(
        "<HHIQIIIIQQQQ",
        kind,
        0x101,
        64,
        len(padded),
        len(packed) if packing else 0,
        0,
        0,
        capability,
        0,
        packing,
        0,
        len(payload) if packing else 0,
    )
    return header + padded


def fatbin(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def open_image(images: ctypes.CDLL, data: bytes, device: str) -> tuple[int, int, bytes]:
    executor, major, minor = device.split()
    images.be(executor.encode(), int(major), int(minor))
    held = ctypes.create_string_buffer(data, len(data) + 1)
    image = Image()
    status = images.vgpu_image_open(held, ctypes.byref(image))
    found = ctypes.string_at(image.data, image.size) if status == 0 else b""
    kind = image.kind
    images.vgpu_image_close(ctypes.byref(image))
    return status, kind, found


EVERYTHING = fatbin(
    entry(PTX, 50, b"ptx 50\0", LZ4),
    entry(PTX, 80, b"ptx 80 " * 50 + b"\0", ZSTD),
    entry(PTX, 90, b"ptx 90\0"),
    entry(CUBIN, 80, b"\x7fELF sm_80"),
    entry(CUBIN, 86, b"\x7fELF sm_86", LZ4),
)


@pytest.mark.parametrize(
    ("device", "kind", "beginning"),
    [
        ("software 6 1", PTX, b"ptx 50"),
        ("software 8 6", PTX, b"ptx 80 ptx 80"),
        ("software 9 0", PTX, b"ptx 90"),
        ("cuda 8 0", CUBIN, b"\x7fELF sm_80"),
        ("cuda 8 6", CUBIN, b"\x7fELF sm_86"),
        ("cuda 8 9", CUBIN, b"\x7fELF sm_86"),
        ("cuda 7 5", PTX, b"ptx 50"),
        ("cuda 9 0", PTX, b"ptx 90"),
        ("cuda 12 0", PTX, b"ptx 90"),
    ],
)
def test_fatbin_gives_machine_code_of_the_device_else_the_newest_ptx(
    images: ctypes.CDLL, device: str, kind: int, beginning: bytes
) -> None:
    status, found_kind, found = open_image(images, EVERYTHING, device)
    assert (status, found_kind) == (0, kind)
    assert found.startswith(beginning)
    assert kind == CUBIN or b"\0" not in found


def test_fatbin_without_a_fitting_image_has_no_binary(images: ctypes.CDLL) -> None:
    data = fatbin(entry(PTX, 90, b"ptx\0"), entry(CUBIN, 86, b"\x7fELF"))
    assert open_image(images, data, "cuda 7 0")[0] == NO_BINARY_FOR_GPU
    assert open_image(images, data, "software 8 6")[0] == NO_BINARY_FOR_GPU


def test_broken_fatbins_are_refused(images: ctypes.CDLL) -> None:
    good = fatbin(entry(PTX, 50, b"ptx " * 100 + b"\0", LZ4))
    broken = bytearray(good)
    broken[16 + 64] ^= 0xFF
    assert open_image(images, bytes(broken), "software 6 1")[0] == INVALID_IMAGE
    beyond = bytearray(good)
    struct.pack_into("<Q", beyond, 16 + 8, 1 << 40)
    assert open_image(images, bytes(beyond), "software 6 1")[0] == NO_BINARY_FOR_GPU


def test_text_is_ptx(images: ctypes.CDLL) -> None:
    text = b".version 6.0\n.target sm_50\n"
    assert open_image(images, text + b"\0", "software 6 1") == (0, PTX, text)
    assert open_image(images, b"", "software 6 1") == (0, PTX, b"")


def test_software_gpu_refuses_a_cubin(images: ctypes.CDLL) -> None:
    assert open_image(images, b"\x7fELF" + bytes(60), "software 6 1")[0] == NO_BINARY_FOR_GPU

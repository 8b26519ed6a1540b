"""The target `images`: PTX, fat binaries and link inputs, to the host's parsers.

Each operation is one image. A parser may refuse it with the one error that it documents; anything
else, and any death of the process, is a finding. The seeds are programs of our own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import lz4.block
import zstandard

from vgpu_host.demangle import demangle
from vgpu_host.executors.base import CudaError
from vgpu_host.executors.options import ExecutorOptions, make_executor
from vgpu_host.fat_binary import FatBinaryError, read_fat_binaries
from vgpu_host.link_parts import read_link_parts
from vgpu_stub.fuzz.operations import Operation, kinds_of
from vgpu_stub.fuzz.ring_operations import pack_parts
from vgpu_stub.fuzz.seeds import PROGRAMS
from vgpu_stub.fuzz.values import mutated_bytes, number
from vgpu_stub.fuzz.watch import DescriptorWatch, LogWatch, finding_of

_LZ4, _ZSTD = 0x2000, 0x8000
_TOKEN: Final = re.compile(rb"\s+|%?[\w$.]+|.", re.S)
_JUNK: Final = tuple(
    b'{ } ; ( ) [ ] , @ | " % // /* \0 \xff 0x 1e999 -1 4294967296 18446744073709551616 0f7FC00000'
    b" .reg .param .entry .func .local .shared .v4 .b128".split(b" ")
)
_NAMES: Final = (b"_Z5scalePfi", b"_ZN3FooD0Ev", b"_ZSt4cout", b"_Z1fILi3EEvv", b"_ZN1A1BIiE1CEPKc")


@dataclass(frozen=True, slots=True)
class FatBinary(Operation):
    """A file with fat binaries in it; each image is unpacked."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ptx(Operation):
    """PTX text to load, and a kernel of it to look up, which compiles it."""

    data: bytes
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class Link(Operation):
    """What MODULE_LINK gets: parts, to be read and linked."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Mangled(Operation):
    """A name of a kernel."""

    data: bytes


class Images:
    """Fuzzes what reads images on the host."""

    name: ClassVar[str] = "images"
    summary: ClassVar[str] = "PTX, fat binaries and link inputs, to the host's parsers"
    kinds: ClassVar[dict[str, type[Operation]]] = kinds_of(FatBinary, Ptx, Link, Mangled)

    def start(self) -> None:
        """Make the software GPU that loads and links."""
        self._logs = LogWatch()
        self._logs.start()
        self._executor = make_executor(
            ExecutorOptions("software", memory_bytes=16 << 20, threads=1, watchdog_s=1.0)
        )
        self._context = self._executor.context_create(0)
        self._executor.context_activate(self._context)
        self._descriptors = DescriptorWatch()

    def close(self) -> None:
        """End it."""
        self._executor.close()
        self._logs.stop()

    def generate(self, rng: random.Random) -> list[Operation]:
        """Some images."""
        return [self._image(rng) for _ in range(rng.randrange(1, 9))]

    def run(self, operations: Sequence[Operation]) -> list[str]:
        """Have each image read."""
        ends = []
        for operation in operations:
            try:
                ends.append(f"{type(operation).__name__} {self._read(operation)}")
            except (CudaError, FatBinaryError) as error:
                ends.append(f"{type(operation).__name__} {_kind_of(error)}")
            except Exception as error:
                raise finding_of(error) from error
            self._logs.check()
        self._descriptors.check()
        return ends

    def _read(self, operation: Operation) -> str:
        if isinstance(operation, FatBinary):
            found = [image for images in read_fat_binaries(operation.data) for image in images]
            return f"{len(found)} images, {sum(bool(image.unpack()) for image in found)} with data"
        if isinstance(operation, Link):
            linked = self._executor.module_link(read_link_parts(operation.data))
            return "linked" if linked else "linked to nothing"
        if isinstance(operation, Mangled):
            demangle(operation.data.decode(errors="replace").replace("\0", ""))
            return "demangled"
        assert isinstance(operation, Ptx)
        module = self._executor.module_load(operation.data)
        try:
            self._executor.module_get_function(module, operation.kernel)
        finally:
            self._executor.module_unload(module)
        return "loaded"

    # -- generate ------------------------------------------------------------------------------

    def _image(self, rng: random.Random) -> Operation:
        choice = rng.random()
        if choice < 0.35:
            return FatBinary(_fat_binary(rng))
        if choice < 0.75:
            name = rng.choice(("store", "shared", "shared", "called"))
            kernel = {"store": "store", "shared": "reverse", "called": "twice"}[name]
            return Ptx(_mutated_text(rng, PROGRAMS[name]), kernel)
        if choice < 0.9:
            return Link(_link_input(rng))
        return Mangled(mutated_bytes(rng, rng.choice(_NAMES)))


def _kind_of(error: CudaError | FatBinaryError) -> str:
    if isinstance(error, CudaError):
        # The log's first line names the rule that was broken; numbers and names in it vary.
        return f"{error.result} {re.sub(r'[0-9%$_]+[a-z0-9]*|`.*|.*:', '', str(error))[:60]}"
    return "refused"


def _mutated_text(rng: random.Random, text: bytes) -> bytes:
    """PTX with one to three tokens changed."""
    tokens = _TOKEN.findall(text)
    changes: tuple[Callable[[int], object], ...] = (
        lambda at: tokens.pop(at),
        lambda at: tokens.insert(at, rng.choice(tokens)),
        lambda at: tokens.insert(at, rng.choice(_JUNK)),
        lambda at: tokens.__setitem__(at, rng.choice(tokens)),
        lambda at: tokens.__setitem__(at, rng.choice(_JUNK)),
        lambda at: tokens.__setitem__(at, mutated_bytes(rng, tokens[at])),
    )
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(changes)(rng.randrange(len(tokens)))
    data = b"".join(tokens)
    return data if rng.random() < 0.97 else data[: rng.randrange(len(data) + 1)]


def _fat_binary(rng: random.Random) -> bytes:
    """Containers of images, packed and not, with a lie here and there."""
    data = rng.randbytes(rng.choice((0, 0, 3)))
    for _ in range(rng.choice((1, 1, 2))):
        images = b"".join(_fat_image(rng) for _ in range(rng.choice((0, 1, 2, 3))))
        header = bytearray()
        header += b"\x50\xed\x55\xba" + (1).to_bytes(2, "little") + (16).to_bytes(2, "little")
        header += (len(images) if rng.random() < 0.9 else number(rng, 64)).to_bytes(8, "little")
        data += bytes(header) + images
    return mutated_bytes(rng, data) if rng.random() < 0.4 else data


def _fat_image(rng: random.Random) -> bytes:
    text = rng.choice(list(PROGRAMS.values()))
    flags, payload = 0, text
    choice = rng.random()
    if choice < 0.35:
        flags, payload = _LZ4, lz4.block.compress(text, store_size=False)
    elif choice < 0.7:
        flags, payload = _ZSTD, zstandard.compress(text)
    packed = len(payload) if flags else 0
    if rng.random() < 0.15:
        payload = mutated_bytes(rng, payload)
    size = len(text) if rng.random() < 0.85 else number(rng, 64)
    values = [
        (rng.choice((1, 1, 2)), 2), (0x101, 2), (64, 4), (len(payload), 8), (packed, 4), (0, 4),
        (0, 4), (rng.choice((50, 61, 90)), 4), (0, 8), (flags, 8), (0, 8), (size, 8),
    ]  # fmt: skip
    if rng.random() < 0.15:
        place = rng.randrange(len(values))
        values[place] = (number(rng, 8 * values[place][1]), values[place][1])
    return b"".join(value.to_bytes(width, "little") for value, width in values) + payload


def _link_input(rng: random.Random) -> bytes:
    names = rng.choice(
        (("caller", "called"), ("called", "caller", "store"), ("caller",), ("store", "shared"), ())
    )
    images = [
        (
            name.encode(),
            _mutated_text(rng, PROGRAMS[name]) if rng.random() < 0.4 else PROGRAMS[name],
        )
        for name in names
    ]
    data = pack_parts(images)
    return mutated_bytes(rng, data) if rng.random() < 0.3 else data

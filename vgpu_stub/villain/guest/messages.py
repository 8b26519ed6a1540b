"""Attacks by vfio-user messages: a client that keeps none of the protocol's rules."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.vfio_user import Command, RegionIndex
from vgpu_stub.villain.guest.scene import Scene, expect
from vgpu_stub.villain.guest.wire import VERSION, Wire, memory_file
from vgpu_stub.villain.registry import Attack, Harm, Stage, Violation, add, attack

_SECTION: Final = "vfio-user"
_PAGE: Final = 4096
_END: Final = 1 << 64
_ONES: Final = 0xFFFF_FFFF
_DMA_MAP, _DMA_UNMAP = struct.Struct("<IIQQQ"), struct.Struct("<IIQQ")
_ACCESS, _IRQS = struct.Struct("<QII"), struct.Struct("<IIIII")
_READ_WRITE: Final = 3
_TRIGGER_EVENTFD: Final = 0x24
_MSIX: Final = 2
_HEAD: Final = struct.pack("<HH", 0, 0)


def _enter(
    id: str, rule: str, expects: str, run: Callable[[Scene], None], deadline_s: float = 10.0
) -> None:
    add(
        Attack(
            f"messages.{id}",
            _SECTION,
            rule,
            expects,
            ("6.1",),
            Stage.SOCKET,
            Harm.NOTHING,
            deadline_s,
            run,
        )
    )


def _map(iova: int, size: int, *, flags: int = _READ_WRITE, offset: int = 0) -> bytes:
    return _DMA_MAP.pack(_DMA_MAP.size, flags, offset, iova, size)


def _refused(
    id: str, rule: str, number: int, messages: Sequence[tuple[int, bytes]], *, memory: bool = False
) -> None:
    """Enter an attack each of whose messages must be refused; `memory` sends a descriptor along."""

    def run(scene: Scene) -> None:
        with memory_file(16 * _PAGE) as fd:
            wire = scene.wire()
            for command, payload in messages:
                code = wire.error(command, payload, [fd] if memory else ())
                expect(f"command {command} with {payload[:40].hex()}", code, number)
            expect("a reset afterwards", wire.error(Command.DEVICE_RESET), 0)

    _enter(id, rule, errno.errorcode[number], run)


# VERSION.


def _bad_version(id: str, rule: str, payloads: Sequence[bytes]) -> None:
    def run(scene: Scene) -> None:
        for payload in payloads:
            wire = scene.wire(negotiate=False)
            expect(f"VERSION {payload[:40]!r}", wire.error(Command.VERSION, payload), errno.EINVAL)
            expect("the connection is closed", wire.is_closed(), True)

    _enter(id, rule, "EINVAL, and the connection is closed", run)


_bad_version(
    "version.malformed",
    "VERSION carries two numbers and JSON text that ends with NUL.",
    [
        b"",
        b"\0\0\0",
        _HEAD + b'{"capabilities":{}}',
        _HEAD + b"not json\0",
        _HEAD + b"\xff\xfe\0",
        _HEAD + b"[]\0",
    ],
)
_bad_version(
    "version.nested-too-deep",
    "VERSION's JSON is read without harm.",
    [
        _HEAD + b"[" * 100_000 + b"\0",
        _HEAD + b'{"a":' * 50_000 + b"\0",
        _HEAD + b"9" * 5000 + b"\0",
    ],
)
_bad_version(
    "version.capabilities",
    "Capabilities have the types of the specification.",
    [
        _HEAD + b'{"capabilities":7}\0',
        _HEAD + b'{"capabilities":{"max_msg_fds":"8"}}\0',
        _HEAD + b'{"capabilities":{"max_msg_fds":-1}}\0',
        _HEAD + b'{"capabilities":{"max_msg_fds":true}}\0',
        _HEAD + b'{"capabilities":{"max_data_xfer_size":0}}\0',
    ],
)
_bad_version(
    "version.other-major",
    "Both sides speak the same major version.",
    [struct.pack("<HH", major, 0) + b"{}\0" for major in (1, 2, 0xFFFF)],
)


def _nothing_before_version(scene: Scene) -> None:
    for command in (0, 2, 4, 9, 10, 13, 16, 999):
        wire = scene.wire(negotiate=False)
        expect(f"command {command}", wire.error(command, bytes(32)), errno.EINVAL)
        expect("the connection is closed", wire.is_closed(), True)


_enter(
    "version.skipped",
    "Nothing is served before VERSION.",
    "EINVAL, and the connection is closed",
    _nothing_before_version,
)
_refused(
    "version.twice",
    "VERSION comes once.",
    errno.EINVAL,
    [(Command.VERSION, VERSION), (Command.VERSION, b"")],
)


def _version_with_descriptors(scene: Scene) -> None:
    with memory_file(_PAGE) as fd:
        wire = scene.wire(negotiate=False)
        expect("VERSION", wire.error(Command.VERSION, VERSION, [fd] * 8), errno.EINVAL)
        expect("the connection is closed", wire.is_closed(), True)


_enter(
    "version.descriptors",
    "VERSION brings no descriptors.",
    "EINVAL, the connection is closed, and so are the descriptors",
    _version_with_descriptors,
)


# Framing.


def _impossible_size(scene: Scene) -> None:
    for size in (0, 15, (1 << 20) + 4096, 0x7FFF_FFFF, _ONES):
        wire = scene.wire()
        wire.send_bytes(struct.pack("<HHIII", 1, Command.DEVICE_RESET, size, 0, 0))
        expect(f"a message of {size} bytes closes the connection", wire.is_closed(), True)


_enter(
    "framing.impossible-size",
    "A message has 16 bytes to a transfer and its header.",
    "the connection is closed",
    _impossible_size,
)


def _single_bytes(scene: Scene) -> None:
    wire = scene.wire()
    for byte in struct.pack("<HHIII", 7, Command.DEVICE_RESET, 16, 0, 0):
        wire.send_bytes(bytes([byte]))
    expect("the reply", wire.reply(Command.DEVICE_RESET)[0], 0)


_enter(
    "framing.single-bytes",
    "A message may arrive in any pieces.",
    "it is understood",
    _single_bytes,
)


def _halves(scene: Scene) -> None:
    silent = []
    with memory_file(_PAGE) as fd:
        for count in (1, 8, 15):
            wire = scene.wire()
            wire.send_bytes(bytes(count))
            silent.append(wire)
        for count in (0, 1, 31):
            wire = scene.wire()
            header = struct.pack("<HHIII", 1, Command.DMA_MAP, 48, 0, 0)
            wire.send_bytes(header + bytes(count), [fd])
            silent.append(wire)
    # While they keep silent others are served; then they go, in the midst of their messages.
    other = scene.wire()
    expect("a reset by another client", other.error(Command.DEVICE_RESET), 0)
    for wire in silent:
        wire.close()


_enter(
    "framing.half-then-silence",
    "A client may stop anywhere in a message.",
    "others are served meanwhile, and nothing of it is left when it goes",
    _halves,
)
_enter(
    "framing.half-then-silence-before-version",
    "A client has five seconds for its VERSION.",
    "the connection is closed after that, others are served meanwhile",
    lambda scene: _slow_version(scene),
)


def _slow_version(scene: Scene) -> None:
    wire = scene.wire(negotiate=False)
    wire.send_bytes(bytes(3))
    other = scene.wire()
    expect("a reset by another client", other.error(Command.DEVICE_RESET), 0)
    expect("the connection is closed", wire.is_closed(), True)


def _header_flags(scene: Scene) -> None:
    wire = scene.wire()
    for flags in (0x2, 0xF, 0x40, 0x80, 0x8000_0000):
        wire.send(Command.DEVICE_RESET, flags=flags)
        expect(f"flags {flags:#x}", wire.reply(Command.DEVICE_RESET)[0], errno.EINVAL)
    expect("a reset", wire.error(Command.DEVICE_RESET), 0)


_enter("framing.header-flags", "Unknown header flags are refused.", "EINVAL", _header_flags)


def _replies(scene: Scene) -> None:
    wire = scene.wire()
    for command in (Command.DMA_READ, Command.DMA_WRITE, Command.VERSION, 999):
        for flags in (0x1, 0x21):
            wire.send(command, bytes(16), flags=flags)
    with memory_file(_PAGE) as fd:
        wire.send(Command.DMA_READ, bytes(16), [fd] * 3, flags=0x1)
    expect("a reset", wire.error(Command.DEVICE_RESET), 0)


_enter(
    "framing.replies-to-nothing",
    "A reply that nobody asked for is dropped.",
    "it is, with its descriptors, and the next request is answered",
    _replies,
)


def _no_reply(scene: Scene) -> None:
    wire = scene.wire()
    for command in (999, Command.DMA_MAP, Command.REGION_WRITE, Command.VERSION):
        wire.send(command, bytes(3), flags=0x10)
    expect("a reset, whose reply is the first", wire.error(Command.DEVICE_RESET), 0)


_enter(
    "framing.no-reply",
    "NO_REPLY is honoured for what is refused, too.",
    "no reply",
    _no_reply,
)
_refused(
    "framing.unknown-command",
    "Commands are those of the specification.",
    errno.ENOTSUP,
    [(command, bytes(32)) for command in (0, 14, 17, 18, 19, 999, 0xFFFF)],
)
_STRUCTURES: Final = (
    (Command.DMA_MAP, 32),
    (Command.DMA_UNMAP, 24),
    (Command.DEVICE_GET_INFO, 16),
    (Command.DEVICE_GET_REGION_INFO, 32),
    (Command.DEVICE_GET_REGION_IO_FDS, 16),
    (Command.DEVICE_GET_IRQ_INFO, 16),
    (Command.DEVICE_SET_IRQS, 20),
    (Command.REGION_READ, 16),
    (Command.REGION_WRITE, 16),
    (Command.DEVICE_FEATURE, 8),
)
_refused(
    "framing.too-short",
    "A message holds its structure.",
    errno.EINVAL,
    [
        (command, struct.pack("<I", size).ljust(count, b"\0")[:count])
        for command, size in _STRUCTURES
        for count in (0, 1, size - 1)
    ],
)
_refused(
    "framing.argsz",
    "argsz covers the structure.",
    errno.EINVAL,
    [
        (command, struct.pack("<I", argsz).ljust(size, b"\0"))
        for command, size in _STRUCTURES
        if command not in (Command.REGION_READ, Command.REGION_WRITE)
        for argsz in (0, size - 1)
    ],
)


# Descriptors.

_refused(
    "descriptors.where-none-belong",
    "Only DMA_MAP and DEVICE_SET_IRQS bring descriptors.",
    errno.EINVAL,
    [
        (Command.DEVICE_GET_INFO, struct.pack("<IIII", 16, 0, 0, 0)),
        (Command.DEVICE_GET_IRQ_INFO, struct.pack("<IIII", 16, 0, _MSIX, 0)),
        (Command.REGION_READ, _ACCESS.pack(0, 0, 4)),
        (Command.REGION_WRITE, _ACCESS.pack(0, 0, 4) + bytes(4)),
        (Command.DEVICE_RESET, b""),
        (Command.REGION_WRITE_MULTI, bytes(8)),
    ],
    memory=True,
)


def _too_many(scene: Scene) -> None:
    wire = scene.wire()
    with memory_file(_PAGE) as fd:
        for count, codes in ((2, [errno.EINVAL]), (9, [errno.EINVAL, errno.EMFILE]), (250, [24])):
            code = wire.error(Command.DMA_MAP, _map(0, _PAGE), [fd] * count)
            expect(f"{count} descriptors", code, *codes)
    expect("a reset", wire.error(Command.DEVICE_RESET), 0)


_enter(
    "descriptors.too-many",
    "DMA_MAP brings at most one descriptor, a message at most eight.",
    "EINVAL or EMFILE, and all are closed",
    _too_many,
)


def _wrong_kinds(scene: Scene) -> None:
    wire = scene.wire()
    read, write = os.pipe()
    event = os.eventfd(0)
    folder = os.open("/", os.O_RDONLY)
    null = os.open("/dev/null", os.O_RDWR)
    ours, theirs = socket.socketpair()
    try:
        for fd in (read, write, event, folder, null, theirs.fileno()):
            code = wire.error(Command.DMA_MAP, _map(0, _PAGE), [fd])
            expect("DMA_MAP of no memory", code, errno.ENODEV, errno.EACCES, errno.EINVAL)
        for fd in (read, write, folder, null, theirs.fileno()):
            request = _IRQS.pack(20, _TRIGGER_EVENTFD, _MSIX, 0, 1)
            code = wire.error(Command.DEVICE_SET_IRQS, request, [fd])
            expect("an interrupt by no eventfd", code, errno.EINVAL)
    finally:
        for fd in (read, write, event, folder, null):
            os.close(fd)
        ours.close()
        theirs.close()
    expect("a reset", wire.error(Command.DEVICE_RESET), 0)


_enter(
    "descriptors.wrong-kind",
    "Memory comes as a file that can be mapped, interrupts as eventfds.",
    "an error for pipes, sockets, folders and devices",
    _wrong_kinds,
)


def _read_only_file(scene: Scene) -> None:
    wire = scene.wire()
    with memory_file(_PAGE) as fd:
        read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        try:
            code = wire.error(Command.DMA_MAP, _map(0, _PAGE), [read_only])
            expect("for writing", code, errno.EACCES)
            code = wire.error(Command.DMA_MAP, _map(0, _PAGE, flags=1), [read_only])
            expect("for reading", code, 0)
        finally:
            os.close(read_only)


_enter(
    "descriptors.read-only",
    "A file that cannot be written is no writeable memory.",
    "EACCES for writing, success for reading",
    _read_only_file,
)


# DMA_MAP and DMA_UNMAP.

_refused(
    "dma-map.range",
    "A window is a range of addresses that does not wrap.",
    errno.EINVAL,
    [
        (Command.DMA_MAP, _map(iova, size))
        for iova, size in ((0, 0), (_END - _PAGE, 2 * _PAGE), (_END - 1, _END - 1), (2, _END - 1))
    ],
)
_refused(
    "dma-map.flags",
    "Flags are READ and WRITE.",
    errno.EINVAL,
    [(Command.DMA_MAP, _map(0, _PAGE, flags=flags)) for flags in (4, 7, 0x8000_0003, _ONES)],
)
_refused(
    "dma-map.beyond-the-file",
    "A window lies in its file.",
    errno.EINVAL,
    [
        (Command.DMA_MAP, _map(0, size, offset=offset))
        for offset, size in (
            (0, 17 * _PAGE),
            (16 * _PAGE, _PAGE),
            (1, _PAGE),
            (_END - _PAGE, _PAGE),
            (1 << 63, _PAGE),
            (0, 1 << 62),
        )
    ],
    memory=True,
)


def _overlaps(scene: Scene) -> None:
    wire = scene.wire()
    expect("a window", wire.error(Command.DMA_MAP, _map(4 * _PAGE, 3 * _PAGE)), 0)
    for page, pages in ((3, 2), (4, 1), (4, 3), (5, 1), (6, 2), (0, 100)):
        code = wire.error(Command.DMA_MAP, _map(page * _PAGE, pages * _PAGE))
        expect(f"pages {page} to {page + pages}", code, errno.EEXIST)
    for page in (3, 7):
        expect("a neighbour", wire.error(Command.DMA_MAP, _map(page * _PAGE, _PAGE)), 0)


_enter("dma-map.overlaps", "Windows do not overlap.", "EEXIST; neighbours are fine", _overlaps)


def _many_windows(scene: Scene) -> None:
    wire = scene.wire()
    with memory_file(_PAGE) as fd:
        for place in range(1500):
            code = wire.error(Command.DMA_MAP, _map(place * 2 * _PAGE, _PAGE), [fd])
            if code:
                expect("a refusal", code, errno.ENOSPC, errno.EMFILE)
                break
    other = scene.wire()
    expect("a reset by another client", other.error(Command.DEVICE_RESET), 0)
    request = _DMA_UNMAP.pack(24, 2, 0, 0)
    expect("unmapping all", wire.error(Command.DMA_UNMAP, request), 0)


_enter(
    "dma-map.many",
    "A client may map many windows.",
    "fifteen hundred with a descriptor each harm nobody else, and all go",
    _many_windows,
    20.0,
)
_refused(
    "dma-unmap.no-window",
    "DMA_UNMAP names a window exactly.",
    errno.ENOENT,
    [
        (Command.DMA_UNMAP, _DMA_UNMAP.pack(24, 0, iova, size))
        for iova, size in ((0, _PAGE), (0, 0), (_END - 1, 1), (_PAGE, _END - 1))
    ],
)
_refused(
    "dma-unmap.flags",
    "Flags of DMA_UNMAP are those of the specification; ALL takes no range.",
    errno.EINVAL,
    [
        (Command.DMA_UNMAP, _DMA_UNMAP.pack(24, flags, 0, size))
        for flags, size in ((1, 0), (3, 0), (4, _PAGE), (2, _PAGE), (_ONES, 0))
    ],
)


def _storm_of_windows(scene: Scene) -> None:
    wire = scene.wire()
    with memory_file(_PAGE) as fd:
        for _ in range(500):
            expect("mapping", wire.error(Command.DMA_MAP, _map(0, _PAGE), [fd]), 0)
            code = wire.error(Command.DMA_UNMAP, _DMA_UNMAP.pack(24, 0, 0, _PAGE))
            expect("unmapping", code, 0)


_enter(
    "dma-unmap.storm",
    "A window may come and go.",
    "five hundred times leave nothing open",
    _storm_of_windows,
)


# Regions.

_refused(
    "region.no-such-region",
    "There are nine regions.",
    errno.EINVAL,
    [
        (Command.DEVICE_GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        for index in (9, 0x8000_0000, _ONES)
    ]
    + [(Command.REGION_READ, _ACCESS.pack(0, index, 4)) for index in (1, 3, 4, 5, 6, 8, 9, _ONES)]
    + [
        (Command.REGION_WRITE, _ACCESS.pack(0, index, 4) + bytes(4))
        for index in (1, 3, 4, 5, 6, 8, 9, _ONES)
    ],
)
_SIZES: Final = {
    RegionIndex.BAR0: abi.BAR0_BYTES,
    RegionIndex.BAR2: abi.BAR2_BYTES,
    RegionIndex.CONFIG: 4096,
}
_refused(
    "region.outside",
    "Accesses stay in their region.",
    errno.EINVAL,
    [
        message
        for index, size in _SIZES.items()
        for offset in (size - 3, size, _END - 1, _END - 4, 1 << 63)
        for message in (
            (Command.REGION_READ, _ACCESS.pack(offset, index, 4)),
            (Command.REGION_WRITE, _ACCESS.pack(offset, index, 4) + bytes(4)),
        )
    ],
)
_refused(
    "region.counts",
    "A count is that of the data, and at most max_data_xfer_size.",
    errno.EINVAL,
    [
        (Command.REGION_READ, _ACCESS.pack(0, RegionIndex.BAR2, (1 << 20) + 1)),
        (Command.REGION_READ, _ACCESS.pack(0, RegionIndex.BAR2, _ONES)),
        (Command.REGION_READ, _ACCESS.pack(0, 0, 4) + bytes(4)),
        (Command.REGION_WRITE, _ACCESS.pack(0, 0, 4) + bytes(3)),
        (Command.REGION_WRITE, _ACCESS.pack(0, 0, 4) + bytes(5)),
        (Command.REGION_WRITE, _ACCESS.pack(0, 0, _ONES) + bytes(4)),
    ],
)
_refused(
    "region.write-multi",
    "REGION_WRITE_MULTI holds as many writes as it says, of 8 bytes at most, in their regions.",
    errno.EINVAL,
    [
        (Command.REGION_WRITE_MULTI, payload)
        for payload in (
            b"",
            struct.pack("<Q", 1),
            struct.pack("<Q", 1 << 63),
            struct.pack("<Q", _END - 1),
            struct.pack("<QQII8s", 0, 0, 0, 4, b""),
            struct.pack("<QQII8s", 1, 0, 0, 9, b""),
            struct.pack("<QQII8s", 1, abi.BAR0_BYTES, 0, 1, b""),
            struct.pack("<QQII8s", 1, 0, 9, 1, b""),
            struct.pack("<QQII8sQII8s", 2, 0x24, 0, 4, b"good", _END - 1, 0, 4, b"bad"),
        )
    ],
)


def _zero_bytes(scene: Scene) -> None:
    wire = scene.wire()
    for index, size in _SIZES.items():
        for offset in (0, size):
            read = _ACCESS.pack(offset, index, 0)
            expect("reading nothing", wire.error(Command.REGION_READ, read), 0)
            expect("writing nothing", wire.error(Command.REGION_WRITE, read), 0)


_enter("region.zero-bytes", "An access may have 0 bytes.", "it does nothing", _zero_bytes)
_refused(
    "region.reset-with-payload",
    "DEVICE_RESET has no payload.",
    errno.EINVAL,
    [(Command.DEVICE_RESET, bytes(count)) for count in (1, 4, 4096)],
)


# Interrupts.


def _set_irqs(
    flags: int, index: int, start: int, count: int, data: bytes = b""
) -> tuple[int, bytes]:
    return (
        Command.DEVICE_SET_IRQS,
        _IRQS.pack(20 + len(data), flags, index, start, count) + data,
    )


_refused(
    "irqs.no-such-vector",
    "Vectors are those of the device.",
    errno.EINVAL,
    [
        _set_irqs(0x24, 5, 0, 1),
        _set_irqs(0x24, 0, 0, 1),
        _set_irqs(0x24, _MSIX, abi.VECTOR_COUNT, 1),
        _set_irqs(0x24, _MSIX, abi.VECTOR_COUNT - 1, 2),
        _set_irqs(0x24, _MSIX, _ONES, _ONES),
        _set_irqs(0x21, _MSIX, 1, _ONES),
    ],
)
_refused(
    "irqs.flags",
    "A message has one DATA and one ACTION; vectors cannot be masked.",
    errno.EINVAL,
    [
        _set_irqs(flags, _MSIX, 0, 1)
        for flags in (0, 0x04, 0x20, 0x30, 0x25, 0x64, 0x09, 0x11, 0x8000_0024, _ONES)
    ],
)
_refused(
    "irqs.counts",
    "Data and descriptors are as many as the vectors.",
    errno.EINVAL,
    [
        _set_irqs(0x22, _MSIX, 0, 2, b"\1"),
        _set_irqs(0x22, _MSIX, 0, 2, b"\1\1\1"),
        _set_irqs(0x21, _MSIX, 0, 1, b"\1"),
        _set_irqs(0x21, _MSIX, 1, 0),
        _set_irqs(0x24, _MSIX, 0, 0),
        _set_irqs(0x22, _MSIX, 0, _ONES),
    ],
)


def _full_eventfd(scene: Scene) -> None:
    wire = scene.wire()
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        wire_bind = _set_irqs(_TRIGGER_EVENTFD, _MSIX, 3, 1)
        expect("binding", wire.error(*wire_bind, [fd]), 0)
        os.eventfd_write(fd, (1 << 64) - 2)
        os.set_blocking(fd, True)
        write = _ACCESS.pack(abi.REG_INTERRUPT_TEST, 0, 4) + struct.pack("<I", 3)
        for _ in range(3):
            expect("INTERRUPT_TEST", wire.error(Command.REGION_WRITE, write), 0)
    finally:
        os.close(fd)


_enter(
    "irqs.full-eventfd",
    "A client whose eventfd is full has its interrupt pending.",
    "the device does not wait for it, though the client has made it a blocking one",
    _full_eventfd,
)


def _rebind(scene: Scene) -> None:
    wire = scene.wire()
    for _ in range(100):
        fds = [os.eventfd(0) for _ in range(8)]
        try:
            for start in (0, 8, 57):
                code = wire.error(*_set_irqs(_TRIGGER_EVENTFD, _MSIX, start, 8), fds)
                expect("binding", code, 0)
        finally:
            for fd in fds:
                os.close(fd)
    expect("disabling", wire.error(*_set_irqs(0x21, _MSIX, 0, 0)), 0)


_enter(
    "irqs.rebound",
    "A vector has one eventfd at a time.",
    "those that were replaced are closed",
    _rebind,
)


# DEVICE_FEATURE.

_refused(
    "feature.unknown",
    "Features are optional.",
    errno.ENOTTY,
    [
        (Command.DEVICE_FEATURE, struct.pack("<II", 8, operation << 16 | feature))
        for operation in (1, 2, 4, 5)
        for feature in (0, 1, 77, 0xFFFF)
    ],
)
_refused(
    "feature.operations",
    "A message asks for one operation.",
    errno.EINVAL,
    [
        (Command.DEVICE_FEATURE, struct.pack("<II", 8, flags))
        for flags in (77, 77 | 3 << 16, 77 | 1 << 19, _ONES)
    ],
)


# Connections.


def _exhausted(scene: Scene) -> None:
    limits = resource.prlimit(scene.server_pid, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{scene.server_pid}/fd").iterdir()))
    driver = scene.driver
    with memory_file(_PAGE) as fd:
        wire = scene.wire()
        # The reply to VERSION comes before the device is made.
        expect("a reset", wire.error(Command.DEVICE_RESET), 0)
        resource.prlimit(scene.server_pid, resource.RLIMIT_NOFILE, (used + 40, limits[1]))
        try:
            codes = [
                wire.error(Command.DMA_MAP, _map(place * _PAGE, _PAGE), [fd]) for place in range(80)
            ]
            expect("the last window", codes[-1], errno.EMFILE)
            for number in range(1, 6):
                create = (number, 1, 1, 0, b"poor")
                scene.admin(Opcode.CHANNEL_CREATE, *create)
            for _ in range(3):
                scene.wire(negotiate=False).send(Command.VERSION, VERSION)
            expect("an admin NOP", scene.admin(Opcode.NOP), 0)
            wire.close()
        finally:
            resource.prlimit(scene.server_pid, resource.RLIMIT_NOFILE, limits)
    driver.reset()
    driver.enable()
    channel = driver.open_channel(1)
    expect("a NOP", channel.wait(channel.submit(Opcode.NOP), 15.0).status, 0)


_enter(
    "descriptors.exhausted",
    "A client that has taken all of the server's descriptors harms nobody for longer.",
    "EMFILE and errors while there are none, and all works once they are back",
    _exhausted,
    30.0,
)


def _thousands(scene: Scene) -> None:
    for count in range(1500):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5.0)
            try:
                client.connect(str(scene.socket))
            except (BlockingIOError, TimeoutError):
                # The queue of a listening socket is short: the server cannot do more.
                continue
            if count % 3 == 1:
                client.sendall(bytes(count % 16))


_enter(
    "connections.thousands",
    "Clients come and go.",
    "fifteen hundred connections, silent or cut off, leave nothing",
    _thousands,
    25.0,
)


def _at_once(scene: Scene) -> None:
    clients = [scene.wire() for _ in range(24)]
    for wire in clients:
        expect("a reset", wire.error(Command.DEVICE_RESET), 0)
    scene.snapshot()


_enter(
    "connections.many-at-once",
    "Each client of this server has a device of its own.",
    "two dozen at a time are served, and their devices go with them",
    _at_once,
    20.0,
)


def _watched(scene: Scene) -> None:
    for _ in range(40):
        wire = scene.wire()
        wire.send(Command.DEVICE_RESET)
        wire.close()
        scene.snapshot()


_enter(
    "connections.while-watched",
    "Monitors are answered whatever clients do.",
    "a monitor is answered forty times while clients come and go",
    _watched,
    20.0,
)


def _steps() -> Iterator[Callable[[Wire, int, int], None]]:
    """What a client does until it is ready, each step as a message without waiting."""
    yield lambda wire, fd, event: wire.send(
        Command.DEVICE_GET_INFO, struct.pack("<4I", 16, 0, 0, 0)
    )
    yield lambda wire, fd, event: wire.send(
        Command.DEVICE_GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, 2, 0, 0, 0)
    )
    yield lambda wire, fd, event: wire.send(Command.DMA_MAP, _map(0, _PAGE), [fd])
    yield lambda wire, fd, event: wire.send(*_set_irqs(_TRIGGER_EVENTFD, _MSIX, 0, 1), [event])
    yield lambda wire, fd, event: wire.send(
        Command.REGION_WRITE,
        _ACCESS.pack(abi.REG_GUEST_ABI_VERSION, 0, 4) + struct.pack("<I", abi.ABI_VERSION),
    )
    yield lambda wire, fd, event: wire.send(
        Command.REGION_WRITE,
        _ACCESS.pack(abi.REG_CONTROL, 0, 4) + struct.pack("<I", abi.CONTROL_ENABLE),
    )
    yield lambda wire, fd, event: wire.send(
        Command.REGION_WRITE, _ACCESS.pack(abi.REG_DOORBELL, 0, 4) + bytes(4)
    )
    yield lambda wire, fd, event: wire.send(Command.DEVICE_RESET)


def _disconnect_at_each_step(scene: Scene) -> None:
    steps = list(_steps())
    event = os.eventfd(0)
    try:
        with memory_file(_PAGE) as fd:
            for last in range(len(steps) + 1):
                wire = scene.wire()
                for step in steps[:last]:
                    step(wire, fd, event)
                wire.close()
    finally:
        os.close(event)


_enter(
    "connections.gone-at-each-step",
    "A client may go at any time.",
    "one that goes after each step of bring-up leaves nothing",
    _disconnect_at_each_step,
)


def _reads_nothing(scene: Scene) -> None:
    wire = scene.wire()
    wire.socket.setblocking(False)
    read = struct.pack("<HHIII", 7, Command.REGION_READ, 32, 0, 0)
    read += _ACCESS.pack(0, RegionIndex.BAR2, 1 << 16)
    with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
        for _ in range(2000):
            wire.socket.send(read)
    other = scene.wire()
    expect("a reset by another client", other.error(Command.DEVICE_RESET), 0)


_enter(
    "connections.reads-nothing",
    "A client that reads none of its replies waits alone.",
    "others are served meanwhile, and nothing is left when it goes",
    _reads_nothing,
)


@attack(
    "messages.random",
    _SECTION,
    "Any bytes are a message, or end the connection.",
    "a thousand messages of random fields harm nobody",
    covers=["6.1"],
    stage=Stage.SOCKET,
    deadline_s=20.0,
)
def _random(scene: Scene) -> None:
    interesting = (0, 1, 2, 3, 7, 8, 16, 20, 24, 32, _PAGE, 1 << 31, _ONES)
    choose = scene.random.choice
    event = os.eventfd(0)
    try:
        with memory_file(_PAGE) as memory:
            for _ in range(40):
                wire = scene.wire()
                wire.socket.settimeout(0.5)
                for _ in range(25):
                    words = [choose(interesting) for _ in range(scene.random.randrange(12))]
                    payload = struct.pack(f"<{len(words)}I", *words)
                    fds = [choose((memory, event)) for _ in range(choose((0, 0, 0, 1, 3)))]
                    command = choose((*range(2, 17), scene.random.randrange(1 << 16)))
                    size = max(0, 16 + len(payload) + choose([0] * 20 + [-1, 5]))
                    flags = choose((0, 0, 0x10, 1))
                    header = struct.pack("<HHIII", 7, command, size, flags, 0)
                    try:
                        wire.send_bytes(header + payload, fds)
                    except (BrokenPipeError, ConnectionResetError, TimeoutError):
                        break
                wire.close()
    finally:
        os.close(event)


@attack(
    "messages.posted-flood",
    _SECTION,
    "A client may send without waiting.",
    "ten thousand posted register writes are done in order, and others are served meanwhile",
    covers=["6.1"],
    stage=Stage.SOCKET,
    deadline_s=20.0,
)
def _flood(scene: Scene) -> None:
    wire = scene.wire()
    count = 10_000
    place = _ACCESS.pack(abi.REG_SCRATCH, 0, 4)
    for value in range(count):
        wire.send(Command.REGION_WRITE, place + struct.pack("<I", value), flags=0x10)
    other = scene.wire()
    expect("a reset by another client", other.error(Command.DEVICE_RESET), 0)
    wire.send(Command.REGION_READ, place)
    code, body = wire.reply(Command.REGION_READ)
    expect("SCRATCH", (code, body[-4:]), (0, struct.pack("<I", count - 1)))
    if not scene.snapshot():
        raise Violation("monitors get no answer")

"""One test for each rule of the protocol that a client can break, and random breakage at the end.

Every case runs on a raw socket against a server that must afterwards serve a fresh client and hold
no descriptor that it did not hold before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from vgpu_stub.vfio_user import Client, RegionIndex, Server

from .memory_device import READ_ONLY_BAR, MemoryDevice

pytestmark = pytest.mark.device
PAGE = 4096
VERSION = struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":16}}\0'
Eventually = Callable[[Callable[[], bool]], None]


class Raw:
    """A socket on which anything can be sent."""

    def __init__(self, path: os.PathLike[str]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(os.fspath(path))

    def send(
        self, command: int, payload: bytes = b"", fds: list[int] | None = None, flags: int = 0
    ) -> None:
        header = struct.pack("<HHIII", 7, command, 16 + len(payload), flags, 0)
        socket.send_fds(self.socket, [header + payload], fds or [])

    def error(self, command: int, payload: bytes = b"", fds: list[int] | None = None) -> int:
        """Send a message and return the errno of its reply, 0 for success."""
        self.send(command, payload, fds)
        msg_id, echoed, size, flags, code = struct.unpack("<HHIII", self.receive(16))
        assert (msg_id, echoed) == (7, command)
        assert flags == (0x21 if code else 1)
        body = self.receive(size - 16)
        assert not (code and body)
        return int(code)

    def receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "the server closed the connection"
            data += part
        return data

    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def raw(
    server: Server,
    device: MemoryDevice,
    eventually: Eventually,
    open_fds: Callable[[], int],
) -> Iterator[Raw]:
    before = open_fds()
    raw = Raw(server.path)
    yield raw
    raw.socket.close()
    eventually(lambda: server.statistics().clients == 0)
    with Client.connect(server.path) as client:
        assert client.region_read(RegionIndex.BAR0, 0, 4) == bytes(4)
    eventually(lambda: server.statistics().clients == 0)
    assert open_fds() == before


@pytest.fixture
def ready(raw: Raw) -> Raw:
    assert raw.error(1, VERSION) == 0
    return raw


@pytest.fixture
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0)
    yield fd
    os.close(fd)


# VERSION


@pytest.mark.parametrize("command", [2, 4, 9, 13, 999])
def test_nothing_is_served_before_version(raw: Raw, command: int) -> None:
    assert raw.error(command, bytes(32)) == errno.EINVAL
    assert raw.is_closed()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        struct.pack("<HH", 1, 0),
        struct.pack("<HH", 0, 0) + b'{"capabilities":{}}',
        struct.pack("<HH", 0, 0) + b"not json\0",
        struct.pack("<HH", 0, 0) + b"\xff\xfe\0",
        struct.pack("<HH", 0, 0) + b"[" * 100_000 + b"\0",
        struct.pack("<HH", 0, 0) + b"[]\0",
        struct.pack("<HH", 0, 0) + b'{"capabilities":7}\0',
        struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":"8"}}\0',
        struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":-1}}\0',
        struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":true}}\0',
        struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_data_xfer_size":0}}\0',
    ],
    ids=[
        "empty",
        "too_short",
        "other_major",
        "no_nul",
        "no_json",
        "no_utf8",
        "nested_too_deep",
        "no_object",
        "capabilities_no_object",
        "limit_is_text",
        "limit_is_negative",
        "limit_is_boolean",
        "transfer_size_zero",
    ],
)
def test_bad_version_is_refused_and_closed(raw: Raw, payload: bytes) -> None:
    assert raw.error(1, payload) == errno.EINVAL
    assert raw.is_closed()


def test_version_with_descriptors_is_refused(raw: Raw, memfd: int) -> None:
    assert raw.error(1, VERSION, [memfd]) == errno.EINVAL
    assert raw.is_closed()


def test_second_version_is_refused(ready: Raw) -> None:
    assert ready.error(1, VERSION) == errno.EINVAL
    assert ready.error(13) == 0


# Framing


@pytest.mark.parametrize("size", [0, 15, (1 << 20) + 4096, 0xFFFFFFFF])
def test_impossible_message_size_ends_the_connection(ready: Raw, size: int) -> None:
    ready.socket.sendall(struct.pack("<HHIII", 1, 13, size, 0, 0))
    assert ready.is_closed()


@pytest.mark.parametrize("count", [1, 15])
def test_end_inside_a_header_is_survived(ready: Raw, count: int) -> None:
    ready.socket.sendall(bytes(count))


def test_end_inside_a_body_is_survived(ready: Raw, memfd: int) -> None:
    header = struct.pack("<HHIII", 1, 2, 48, 0, 0)
    socket.send_fds(ready.socket, [header + bytes(31)], [memfd])


def test_message_in_single_bytes_is_understood(ready: Raw) -> None:
    for byte in struct.pack("<HHIII", 7, 13, 16, 0, 0):
        ready.socket.sendall(bytes([byte]))
    assert struct.unpack("<HHIII", ready.receive(16)) == (7, 13, 16, 1, 0)


@pytest.mark.parametrize("flags", [0x2, 0xF, 0x40, 0x80000000])
def test_unknown_header_flags_are_refused(ready: Raw, flags: int) -> None:
    ready.send(13, flags=flags)
    assert struct.unpack("<HHIII", ready.receive(16)) == (7, 13, 16, 0x21, errno.EINVAL)


def test_unsolicited_reply_is_ignored(ready: Raw) -> None:
    ready.send(11, bytes(16), flags=1)
    assert ready.error(13) == 0


@pytest.mark.parametrize("command", [0, 14, 19, 999, 65535])
def test_unknown_command_is_not_supported(ready: Raw, command: int) -> None:
    assert ready.error(command) == errno.ENOTSUP


def test_no_reply_is_honoured_for_a_refused_command(ready: Raw) -> None:
    ready.send(999, flags=0x10)
    assert ready.error(13) == 0


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (4, struct.pack("<IIII", 16, 0, 0, 0)),
        (5, struct.pack("<IIIIQQ", 32, 0, 0, 0, 0, 0)),
        (6, struct.pack("<IIII", 16, 0, 0, 0)),
        (7, struct.pack("<IIII", 16, 0, 2, 0)),
        (9, struct.pack("<QII", 0, 0, 4)),
        (10, struct.pack("<QIII", 0, 0, 4, 0)),
        (13, b""),
        (15, struct.pack("<Q", 0)),
    ],
)
def test_descriptors_where_none_belong_are_refused(
    ready: Raw, command: int, payload: bytes, memfd: int
) -> None:
    assert ready.error(command, payload, [memfd]) == errno.EINVAL
    assert ready.error(command, payload) == 0


def test_descriptor_that_finds_no_room_does_not_become_an_unshared_window(
    ready: Raw, memfd: int, device: MemoryDevice
) -> None:
    """Out of descriptors, the kernel drops them from the message and only says so in a flag."""
    request = struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling = [os.dup(memfd)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(filling) + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(memfd))
        code = ready.error(2, request, [memfd])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in filling:
            os.close(fd)
    assert code == errno.EMFILE
    assert device.client is not None
    assert len(device.client.dma) == 0
    assert ready.error(2, request, [memfd]) == 0


@pytest.mark.parametrize(("count", "code"), [(9, errno.EINVAL), (200, errno.EMFILE)])
def test_too_many_descriptors_are_refused(ready: Raw, count: int, code: int, memfd: int) -> None:
    request = struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE)
    assert ready.error(2, request, [memfd] * count) == code
    assert ready.error(13) == 0


@pytest.mark.parametrize(
    ("command", "size"), [(2, 32), (3, 24), (4, 16), (5, 32), (6, 16), (7, 16), (8, 20), (16, 8)]
)
def test_too_short_a_structure_is_refused(ready: Raw, command: int, size: int) -> None:
    assert ready.error(command, struct.pack("<I", size).ljust(size - 1, b"\0")) == errno.EINVAL
    assert ready.error(command) == errno.EINVAL


@pytest.mark.parametrize(
    ("command", "size"), [(2, 32), (3, 24), (4, 16), (5, 32), (6, 16), (7, 16), (8, 20), (16, 8)]
)
def test_argsz_below_the_structure_is_refused(ready: Raw, command: int, size: int) -> None:
    assert ready.error(command, struct.pack("<I", size - 1).ljust(size, b"\0")) == errno.EINVAL


# DMA_MAP and DMA_UNMAP


@pytest.mark.parametrize(
    ("flags", "offset", "iova", "size", "code"),
    [
        (3, 0, 0, 0, errno.EINVAL),
        (3, 0, 1 << 63, 1 << 63, 0),
        (3, 0, (1 << 64) - PAGE, 2 * PAGE, errno.EINVAL),
        (3, 0, (1 << 64) - 1, (1 << 64) - 1, errno.EINVAL),
        (4, 0, 0, PAGE, errno.EINVAL),
        (0x80000003, 0, 0, PAGE, errno.EINVAL),
    ],
    ids=["empty", "upper_half", "wraps", "wraps_far", "flag", "high_flag"],
)
def test_dma_map_range_and_flags(
    ready: Raw, flags: int, offset: int, iova: int, size: int, code: int
) -> None:
    assert ready.error(2, struct.pack("<IIQQQ", 32, flags, offset, iova, size)) == code


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 17 * PAGE), (16 * PAGE, PAGE), (1, PAGE), ((1 << 64) - PAGE, PAGE), (0, 1 << 62)],
    ids=["too_long", "past_the_end", "unaligned", "huge_offset", "huge_size"],
)
def test_dma_map_beyond_the_file_is_refused(ready: Raw, memfd: int, offset: int, size: int) -> None:
    assert ready.error(2, struct.pack("<IIQQQ", 32, 3, offset, 0, size), [memfd]) == errno.EINVAL


def test_dma_map_of_a_read_only_file_for_writing_is_refused(ready: Raw, memfd: int) -> None:
    read_only = os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY)
    try:
        request = struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE)
        assert ready.error(2, request, [read_only]) == errno.EACCES
        assert ready.error(2, struct.pack("<IIQQQ", 32, 1, 0, 0, PAGE), [read_only]) == 0
    finally:
        os.close(read_only)


def test_dma_map_of_what_cannot_be_mapped_is_refused(ready: Raw, eventfd: int) -> None:
    request = struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE)
    assert ready.error(2, request, [eventfd]) == errno.ENODEV


def test_dma_map_with_two_descriptors_is_refused(ready: Raw, memfd: int) -> None:
    request = struct.pack("<IIQQQ", 32, 3, 0, 0, PAGE)
    assert ready.error(2, request, [memfd, memfd]) == errno.EINVAL


@pytest.mark.parametrize("page", [3, 4, 5, 6])
def test_dma_map_over_a_window_is_refused(ready: Raw, page: int) -> None:
    assert ready.error(2, struct.pack("<IIQQQ", 32, 3, 0, 4 * PAGE, 3 * PAGE)) == 0
    overlapping = struct.pack("<IIQQQ", 32, 3, 0, page * PAGE, 2 * PAGE)
    assert ready.error(2, overlapping) == errno.EEXIST


def test_dma_maps_that_touch_are_allowed(ready: Raw) -> None:
    for page in (4, 6, 5, 3):
        assert ready.error(2, struct.pack("<IIQQQ", 32, 3, 0, page * PAGE, PAGE)) == 0


@pytest.mark.parametrize(
    ("iova", "size"), [(0, PAGE), (PAGE, 2 * PAGE), (0, 4 * PAGE), (2 * PAGE, PAGE), (0, 0)]
)
def test_dma_unmap_must_match_a_window_exactly(ready: Raw, iova: int, size: int) -> None:
    assert ready.error(2, struct.pack("<IIQQQ", 32, 3, 0, PAGE, 3 * PAGE)) == 0
    assert ready.error(3, struct.pack("<IIQQ", 24, 0, iova, size)) == errno.ENOENT


def test_dma_unmap_with_unknown_flags_is_refused(ready: Raw) -> None:
    assert ready.error(3, struct.pack("<IIQQ", 24, 1, 0, 0)) == errno.EINVAL


def test_dma_unmap_of_all_takes_no_range(ready: Raw) -> None:
    assert ready.error(3, struct.pack("<IIQQ", 24, 2, 0, PAGE)) == errno.EINVAL
    assert ready.error(3, struct.pack("<IIQQ", 24, 2, 0, 0)) == 0


# Regions


@pytest.mark.parametrize("command", [5, 6])
def test_region_that_does_not_exist_has_no_description(ready: Raw, command: int) -> None:
    request = struct.pack("<IIIIQQ", 32, 0, 9, 0, 0, 0)
    assert ready.error(command, request) == errno.EINVAL


def test_region_io_fds_with_a_count_is_refused(ready: Raw) -> None:
    assert ready.error(6, struct.pack("<IIII", 16, 0, 0, 1)) == errno.EINVAL


@pytest.mark.parametrize("command", [9, 10])
@pytest.mark.parametrize(
    ("offset", "region"),
    [(PAGE - 3, 0), (PAGE, 0), ((1 << 64) - 1, 0), (0, 1), (0, 9), (0, 0xFFFFFFFF)],
    ids=["across_the_end", "past_the_end", "wraps", "unused", "no_region", "far_region"],
)
def test_access_outside_a_region_is_refused(
    ready: Raw, command: int, offset: int, region: int
) -> None:
    data = bytes(4) if command == 10 else b""
    assert ready.error(command, struct.pack("<QII", offset, region, 4) + data) == errno.EINVAL


def test_write_to_a_read_only_region_is_refused(ready: Raw) -> None:
    assert ready.error(9, struct.pack("<QII", 0, READ_ONLY_BAR, 4)) == 0
    assert ready.error(10, struct.pack("<QII", 0, READ_ONLY_BAR, 4) + bytes(4)) == errno.EACCES


def test_read_larger_than_a_transfer_is_refused(ready: Raw) -> None:
    assert ready.error(9, struct.pack("<QII", 0, 2, (1 << 20) + 1)) == errno.EINVAL


@pytest.mark.parametrize(("count", "length"), [(4, 3), (4, 5), (0, 1), (0xFFFFFFFF, 4)])
def test_write_count_must_match_the_data(ready: Raw, count: int, length: int) -> None:
    request = struct.pack("<QII", 0, 0, count) + bytes(length)
    assert ready.error(10, request) == errno.EINVAL


def test_read_that_carries_data_is_refused(ready: Raw) -> None:
    assert ready.error(9, struct.pack("<QII", 0, 0, 4) + bytes(4)) == errno.EINVAL


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        struct.pack("<Q", 1),
        struct.pack("<Q", 1 << 63),
        struct.pack("<QQII8s", 0, 0, 0, 4, b""),
        struct.pack("<QQII8s", 1, 0, 0, 9, b""),
        struct.pack("<QQII8s", 1, PAGE, 0, 1, b""),
        struct.pack("<QQII8s", 1, 0, 9, 1, b""),
    ],
    ids=["empty", "missing", "huge_count", "surplus", "nine_bytes", "outside", "no_region"],
)
def test_bad_write_multi_is_refused(ready: Raw, payload: bytes) -> None:
    assert ready.error(15, payload) == errno.EINVAL


def test_reset_with_a_payload_is_refused(ready: Raw) -> None:
    assert ready.error(13, b"\0") == errno.EINVAL


# Interrupts


def test_interrupt_type_that_does_not_exist_has_no_description(ready: Raw) -> None:
    assert ready.error(7, struct.pack("<IIII", 16, 0, 5, 0)) == errno.EINVAL


@pytest.mark.parametrize(
    ("flags", "index", "start", "count", "data"),
    [
        (0x24, 5, 0, 1, b""),
        (0x24, 0, 0, 1, b""),
        (0x24, 2, 32, 1, b""),
        (0x24, 2, 31, 2, b""),
        (0x24, 2, 0xFFFFFFFF, 0xFFFFFFFF, b""),
        (0x04, 2, 0, 1, b""),
        (0x20, 2, 0, 1, b""),
        (0x30, 2, 0, 1, b""),
        (0x25, 2, 0, 1, b""),
        (0x64, 2, 0, 1, b""),
        (0x22, 2, 0, 2, b"\1"),
        (0x22, 2, 0, 2, b"\1\1\1"),
        (0x21, 2, 0, 1, b"\1"),
        (0x21, 2, 1, 0, b""),
        (0x24, 2, 0, 0, b""),
        (0x09, 2, 0, 0, b""),
        (0x09, 2, 0, 1, b""),
        (0x11, 2, 0, 1, b""),
    ],
    ids=[
        "no_type",
        "type_without_vectors",
        "start_past_the_end",
        "across_the_end",
        "wraps",
        "no_action",
        "no_data_type",
        "two_actions",
        "two_data_types",
        "unknown_flag",
        "too_few_booleans",
        "too_many_booleans",
        "data_with_none",
        "count_0_with_start",
        "count_0_with_eventfd",
        "count_0_with_mask",
        "mask_unsupported",
        "unmask_unsupported",
    ],
)
def test_bad_set_irqs_is_refused(
    ready: Raw, flags: int, index: int, start: int, count: int, data: bytes
) -> None:
    request = struct.pack("<IIIII", 20 + len(data), flags, index, start, count) + data
    assert ready.error(8, request) == errno.EINVAL


@pytest.mark.parametrize(("flags", "count", "fds"), [(0x24, 2, 1), (0x24, 1, 2), (0x21, 1, 1)])
def test_descriptors_must_match_the_vectors(
    ready: Raw, eventfd: int, flags: int, count: int, fds: int
) -> None:
    request = struct.pack("<IIIII", 20, flags, 2, 0, count)
    assert ready.error(8, request, [eventfd] * fds) == errno.EINVAL


def test_descriptor_that_is_no_eventfd_is_refused(ready: Raw, memfd: int) -> None:
    assert ready.error(8, struct.pack("<IIIII", 20, 0x24, 2, 0, 1), [memfd]) == errno.EINVAL


# DEVICE_FEATURE


@pytest.mark.parametrize("flags", [77, 77 | 3 << 16, 77 | 1 << 19])
def test_feature_needs_one_known_operation(ready: Raw, flags: int) -> None:
    assert ready.error(16, struct.pack("<II", 8, flags)) == errno.EINVAL


# Anything


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_survived(raw: Raw, seed: int) -> None:
    randomness = random.Random(seed)
    try:
        for _ in range(20):
            raw.socket.sendall(randomness.randbytes(randomness.randrange(1, 200)))
    except (BrokenPipeError, ConnectionResetError):
        pass


@pytest.mark.parametrize("seed", range(40))
def test_random_messages_are_survived(
    ready: Raw, seed: int, memfd: int, eventfd: int, device: MemoryDevice
) -> None:
    """Well-framed messages of every command with hostile fields, descriptors and cut ends."""
    randomness = random.Random(seed)
    interesting = [0, 1, 2, 3, 7, 8, 16, 20, 24, 32, PAGE, 1 << 31, (1 << 32) - 1]
    for _ in range(30):
        words = [randomness.choice(interesting) for _ in range(randomness.randrange(0, 12))]
        payload = struct.pack(f"<{len(words)}I", *words)
        payload = payload[: len(payload) - randomness.choice([0, 0, 0, 1, 3])]
        fds = [randomness.choice([memfd, eventfd]) for _ in range(randomness.choice([0, 0, 1, 3]))]
        command = randomness.choice([*range(2, 17), randomness.randrange(65536)])
        lie = randomness.choice([0] * 20 + [-1, 5])
        size = max(0, 16 + len(payload) + lie)
        flags = randomness.choice([0, 0, 0, 0x10, 1])
        header = struct.pack("<HHIII", 7, command, size, flags, 0)
        try:
            socket.send_fds(ready.socket, [header + payload], fds)
        except (BrokenPipeError, ConnectionResetError):
            break
    # The device keeps what was written, which is its right; the fixture expects zeros.
    ready.socket.close()
    assert device.disconnected.wait(5)
    device.memory[RegionIndex.BAR0][:4] = bytes(4)

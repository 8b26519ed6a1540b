"""The messages that QEMU 11.1 sends before guest code runs, byte for byte, over one raw socket."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from vgpu_stub.vfio_user import Server

from .memory_device import BAR0_BYTES, BAR2_BYTES, CONFIG_BYTES, VECTORS, MemoryDevice

pytestmark = pytest.mark.device

QEMU_VERSION = (
    struct.pack("<HH", 0, 0)
    + b'{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, '
    + b'"max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, '
    + b'"pgsize": 4096}, "write_multiple": true}}\0'
)
PAGE = 4096


class Wire:
    """A client that knows nothing but the layout of the header."""

    def __init__(self, path: os.PathLike[str]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(os.fspath(path))
        self.next_id = 0

    def send(self, command: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        header = struct.pack("<HHIII", self.next_id, command, 16 + len(payload), 0, 0)
        self.next_id += 1
        socket.send_fds(self.socket, [header + payload], fds)

    def receive(self) -> tuple[tuple[int, ...], bytes, list[int]]:
        head, fds, _, _ = socket.recv_fds(self.socket, 16, 4)
        header = struct.unpack("<HHIII", head)
        body = b""
        while len(body) < header[2] - 16:
            body += self.socket.recv(header[2] - 16 - len(body))
        return header, body, fds

    def ask(self, command: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> bytes:
        expected_id = self.next_id
        self.send(command, payload, fds)
        header, body, fds_back = self.receive()
        assert header == (expected_id, command, 16 + len(body), 1, 0)
        assert fds_back == []
        return body


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    wire = Wire(server.path)
    yield wire
    wire.socket.close()


@pytest.fixture
def negotiated(wire: Wire) -> Wire:
    wire.ask(1, QEMU_VERSION)
    return wire


def test_version_reply_fits_the_buffer_of_the_request(wire: Wire) -> None:
    reply = wire.ask(1, QEMU_VERSION)
    assert reply == (
        b"\0\0\0\0"
        b'{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"max_dma_maps":65535,'
        b'"pgsizes":4096,"write_multiple":true}}\0'
    )
    assert len(reply) < len(QEMU_VERSION)


def test_dma_maps_come_before_device_info(
    negotiated: Wire, device: MemoryDevice, memfd: int
) -> None:
    ram = struct.pack("<IIQQQ", 32, 3, 0, 0, 16 * PAGE)
    rom = struct.pack("<IIQQQ", 32, 1, 0, 0xFFFC0000, 0x40000)
    assert negotiated.ask(2, ram, (memfd,)) == b""
    assert negotiated.ask(2, rom) == b""
    assert negotiated.ask(4, struct.pack("<IIII", 16, 0, 0, 0)) == struct.pack("<IIII", 16, 3, 9, 5)
    assert device.calls == [
        ("client_connected",),
        ("dma_mapped", 0, 16 * PAGE, True),
        ("dma_mapped", 0xFFFC0000, 0x40000, False),
    ]


def test_regions_are_described_as_qemu_asks(negotiated: Wire) -> None:
    sizes = {}
    for index in (0, 1, 2, 3, 4, 5, 7):
        negotiated.send(5, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        _, body, fds = negotiated.receive()
        argsz, flags, echoed, cap_offset, size, offset = struct.unpack("<IIIIQQ", body)
        assert (argsz, echoed, cap_offset, offset) == (32, index, 0, 0)
        sizes[index] = (flags, size, len(fds))
        for fd in fds:
            assert os.fstat(fd).st_size == BAR2_BYTES
            os.close(fd)
    assert sizes == {
        0: (3, BAR0_BYTES, 0),
        1: (0, 0, 0),
        2: (7, BAR2_BYTES, 1),
        3: (0, 0, 0),
        4: (0, 0, 0),
        5: (1, 16, 0),
        7: (3, CONFIG_BYTES, 0),
    }


def test_interrupt_types_are_described_as_qemu_asks(negotiated: Wire) -> None:
    for index, count in ((3, 1), (2, VECTORS), (0, 0)):
        reply = negotiated.ask(7, struct.pack("<IIII", 16, 0, index, 0))
        assert reply == struct.pack("<IIII", 16, 1, index, count)


def test_config_space_is_read_in_one_message(negotiated: Wire, device: MemoryDevice) -> None:
    device.memory[7][:4] = b"\x34\x12\x55\x50"
    request = struct.pack("<QII", 0, 7, CONFIG_BYTES)
    assert negotiated.ask(9, request) == request + bytes(device.memory[7])


def test_register_write_reply_repeats_the_place(negotiated: Wire, device: MemoryDevice) -> None:
    place = struct.pack("<QII", 0x30, 7, 4)
    assert negotiated.ask(10, place + b"\x01\x02\x03\x04") == place
    assert device.memory[7][0x30:0x34] == b"\x01\x02\x03\x04"


def test_error_interrupt_and_reset_end_the_sequence(negotiated: Wire, device: MemoryDevice) -> None:
    eventfd = os.eventfd(0)
    assert negotiated.ask(8, struct.pack("<IIIII", 20, 0x24, 3, 0, 1), (eventfd,)) == b""
    os.close(eventfd)
    assert negotiated.ask(13) == b""
    assert device.calls[1:] == [("irqs_changed", 3, range(1)), ("reset",)]


def test_pipelined_maps_keep_their_own_descriptors(
    negotiated: Wire, device: MemoryDevice, memfd: int
) -> None:
    """An UNMAP without a descriptor right before a MAP with one must not swallow it."""
    for page in range(8):
        negotiated.send(2, struct.pack("<IIQQQ", 32, 3, page * PAGE, page * PAGE, PAGE), (memfd,))
        negotiated.send(2, struct.pack("<IIQQQ", 32, 3, 0, (64 + page) * PAGE, PAGE))
        negotiated.send(3, struct.pack("<IIQQ", 24, 0, (64 + page) * PAGE, PAGE))
    for number in range(24):
        header, _, _ = negotiated.receive()
        assert header[0] == 1 + number
        assert header[3:] == (1, 0)
    assert device.client is not None
    assert [window.is_shared for window in device.client.dma] == [True] * 8
    assert device.client.dma.read(0, 8 * PAGE) == b"".join(bytes([n]) * PAGE for n in range(8))


def test_messages_sent_in_one_buffer_keep_their_descriptors(
    negotiated: Wire, device: MemoryDevice, memfd: int
) -> None:
    def message(command: int, payload: bytes) -> bytes:
        return struct.pack("<HHIII", 9, command, 16 + len(payload), 0, 0) + payload

    unshared = message(2, struct.pack("<IIQQQ", 32, 3, 0, 0x100000, PAGE))
    shared = message(2, struct.pack("<IIQQQ", 32, 3, 2 * PAGE, 0, PAGE))
    negotiated.socket.sendall(unshared)
    socket.send_fds(negotiated.socket, [shared + message(13, b"")], [memfd])
    for command in (2, 2, 13):
        assert negotiated.receive()[0] == (9, command, 16, 1, 0)
    assert device.client is not None
    assert device.client.dma.read(0, 1) == b"\x02"
    assert not device.client.dma.find(0x100000).is_shared

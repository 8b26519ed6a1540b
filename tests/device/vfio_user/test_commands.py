"""Every command through the package's own client, with what the device sees of it."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable

import pytest

from vgpu_stub.vfio_user import (
    Client,
    Command,
    DisconnectedError,
    DmaFaultError,
    DmaFlag,
    FeatureFlag,
    IrqIndex,
    IrqSetFlag,
    RegionFlag,
    RegionIndex,
    RegionWrite,
    RemoteError,
    ReplyTimeoutError,
    Server,
    SparseArea,
    VfioUserError,
)

from .memory_device import BAR2_BYTES, FEATURE, VECTORS, MemoryDevice

pytestmark = pytest.mark.device
PAGE = 4096


def refused(code: int) -> object:
    """Expect the server to refuse with this errno."""
    return pytest.raises(RemoteError, check=lambda error: error.errno == code)


def test_device_info_counts_every_pci_region_and_interrupt(client: Client) -> None:
    info = client.device_info()
    assert (info.argsz, info.flags, info.num_regions, info.num_irqs) == (16, 3, 9, 5)


def test_region_written_is_region_read(client: Client) -> None:
    client.region_write(RegionIndex.BAR0, 0x10, b"\x01\x02\x03\x04\x05\x06\x07\x08")
    assert client.region_read(RegionIndex.BAR0, 0x0E, 6) == b"\0\0\x01\x02\x03\x04"


def test_posted_writes_are_done_in_order_without_replies(client: Client, server: Server) -> None:
    for value in range(100):
        client.region_write(RegionIndex.BAR0, value % 4, bytes([value]), posted=True)
    assert client.region_read(RegionIndex.BAR0, 0, 4) == bytes([96, 97, 98, 99])
    # VERSION and REGION_READ went both ways, the writes one way.
    assert server.statistics().messages == {"VERSION": 2, "REGION_WRITE": 100, "REGION_READ": 2}


def test_write_multi_does_every_write(client: Client) -> None:
    writes = [RegionWrite(RegionIndex.BAR0, 4 * n, bytes([n] * 4)) for n in range(16)]
    client.region_write_multi([*writes, RegionWrite(RegionIndex.CONFIG, 0, b"12345678")])
    assert client.region_read(RegionIndex.BAR0, 0, 64) == bytes(
        n for n in range(16) for _ in "4444"
    )
    assert client.region_read(RegionIndex.CONFIG, 0, 8) == b"12345678"


def test_write_multi_with_one_bad_write_does_none(client: Client) -> None:
    good = RegionWrite(RegionIndex.BAR0, 0, b"\xff")
    with refused(errno.EINVAL):
        client.region_write_multi([good, RegionWrite(RegionIndex.BAR0, PAGE, b"\xff")])
    assert client.region_read(RegionIndex.BAR0, 0, 1) == b"\0"


def test_mappable_region_is_shared_memory(client: Client, device: MemoryDevice) -> None:
    region = client.region_info(RegionIndex.BAR2)
    assert region.fd is not None
    assert region.flags == RegionFlag.READ | RegionFlag.WRITE | RegionFlag.MMAP
    with mmap.mmap(region.fd, region.size, offset=region.mmap_offset) as view:
        view[0x100:0x104] = b"ring"
        assert device.bar2[0x100:0x104] == b"ring"
        assert client.region_read(RegionIndex.BAR2, 0x100, 4) == b"ring"
    os.close(region.fd)


def test_sparse_areas_arrive_by_asking_twice(
    device: MemoryDevice, socket_path: os.PathLike[str]
) -> None:
    device.sparse_areas = (SparseArea(PAGE, PAGE), SparseArea(3 * PAGE, 2 * PAGE))
    with Server(socket_path, lambda: device) as server, Client.connect(socket_path) as client:
        region = client.region_info(RegionIndex.BAR2)
        assert region.sparse_areas == device.sparse_areas
        assert region.flags & RegionFlag.CAPS
        assert region.fd is not None
        os.close(region.fd)
        assert server.statistics().messages["DEVICE_GET_REGION_INFO"] == 4


def test_client_that_takes_no_descriptors_gets_no_mmap(server: Server) -> None:
    with Client.connect(server.path, capabilities={"max_msg_fds": 0}) as client:
        region = client.region_info(RegionIndex.BAR2)
        assert (region.flags, region.size) == (RegionFlag.READ | RegionFlag.WRITE, BAR2_BYTES)
        assert region.fd is None


def test_read_is_limited_by_the_clients_transfer_size(server: Server) -> None:
    with Client.connect(server.path, capabilities={"max_data_xfer_size": 64}) as client:
        assert len(client.region_read(RegionIndex.BAR0, 0, 64)) == 64
        with refused(errno.EINVAL):
            client.region_read(RegionIndex.BAR0, 0, 65)


def test_no_version_data_is_answered_with_none(server: Server) -> None:
    with Client.connect(server.path, capabilities=None) as client:
        assert client.capabilities == {}
        assert client.device_info().num_regions == 9


def test_region_io_fds_offers_none(client: Client) -> None:
    reply = client.region_io_fds(RegionIndex.BAR0)
    assert (reply.argsz, reply.index, reply.count) == (16, RegionIndex.BAR0, 0)


def test_zero_length_read_does_not_reach_the_device(client: Client, device: MemoryDevice) -> None:
    device.failure = RuntimeError("must not be called")
    assert client.region_read(RegionIndex.BAR0, 0, 0) == b""


def test_shared_window_reads_and_writes_client_memory(
    client: Client, device: MemoryDevice, memfd: int
) -> None:
    client.map_dma(0x10000, 2 * PAGE, fd=memfd, offset=3 * PAGE)
    assert device.client is not None
    dma = device.client.dma
    assert dma.read(0x10FFE, 4) == b"\x03\x03\x04\x04"
    dma.write(0x10000, b"reply")
    assert os.pread(memfd, 5, 3 * PAGE) == b"reply"
    client.unmap_dma(0x10000, 2 * PAGE)
    with pytest.raises(DmaFaultError, match="no window"):
        dma.read(0x10000, 1)
    assert device.calls[1:] == [
        ("dma_mapped", 0x10000, 2 * PAGE, True),
        ("dma_unmapped", 0x10000, 2 * PAGE, True),
    ]


def test_unmap_all_closes_every_window(client: Client, device: MemoryDevice, memfd: int) -> None:
    for page in range(4):
        client.map_dma(page * PAGE, PAGE, fd=memfd, offset=page * PAGE)
    client.unmap_all_dma()
    assert device.client is not None
    assert list(device.client.dma) == []


def test_refused_window_is_not_kept(client: Client, device: MemoryDevice, memfd: int) -> None:
    device.failure = VfioUserError(errno.ENOMEM, "no room")
    with refused(errno.ENOMEM):
        client.map_dma(0, PAGE, fd=memfd)
    device.failure = None
    client.map_dma(0, PAGE, fd=memfd)
    assert device.client is not None
    assert len(device.client.dma) == 1


def test_window_goes_even_when_the_device_fails_to_let_go(
    client: Client, device: MemoryDevice, memfd: int
) -> None:
    client.map_dma(0, PAGE, fd=memfd)
    device.failure = RuntimeError("defect")
    with refused(errno.EIO):
        client.unmap_dma(0, PAGE)
    assert device.client is not None
    assert len(device.client.dma) == 0


def test_unshared_window_is_reached_by_messages(client: Client, device: MemoryDevice) -> None:
    memory = bytearray(b"guest memory".ljust(PAGE, b"\0"))
    client.map_dma(0x8000, PAGE, memory=memory)
    seen: list[bytes] = []
    assert device.client is not None
    peer = device.client

    def transfer() -> None:
        seen.append(peer.dma_read(0x8000, 12))
        peer.dma_write(0x8006, b"MEMORY")

    worker = threading.Thread(target=transfer)
    worker.start()
    assert client.serve_requests(5)
    assert client.serve_requests(5)
    worker.join(5)
    assert seen == [b"guest memory"]
    assert memory[:12] == b"guest MEMORY"


def test_long_transfer_is_split_by_the_clients_limit(server: Server, device: MemoryDevice) -> None:
    memory = bytearray(os.urandom(PAGE))
    with Client.connect(server.path, capabilities={"max_data_xfer_size": 1000}) as client:
        client.map_dma(0, PAGE, memory=memory)
        seen: list[bytes] = []
        assert device.client is not None
        peer = device.client
        worker = threading.Thread(target=lambda: seen.append(peer.dma_read(0, PAGE)))
        worker.start()
        for _ in range(5):
            assert client.serve_requests(5)
        worker.join(5)
        assert seen == [bytes(memory)]


def test_requests_to_the_client_mix_with_its_own(client: Client, device: MemoryDevice) -> None:
    memory = bytearray(range(256)) * 16
    client.map_dma(0, PAGE, memory=memory)
    assert device.client is not None
    peer = device.client
    seen: list[bytes] = []
    worker = threading.Thread(
        target=lambda: seen.extend(peer.dma_read(offset, 1) for offset in range(50))
    )
    worker.start()
    while worker.is_alive():
        assert client.region_read(RegionIndex.BAR0, 0, 4) == bytes(4)
    worker.join()
    assert b"".join(seen) == bytes(range(50))


def test_message_dma_inside_a_handler_is_refused(client: Client, device: MemoryDevice) -> None:
    client.map_dma(0, PAGE, memory=bytearray(PAGE))
    assert device.client is not None
    peer = device.client

    def read_client_memory(index: int, offset: int, count: int) -> bytes:
        return peer.dma_read(offset, count)

    device.region_read = read_client_memory  # type: ignore[method-assign]
    with refused(errno.EDEADLK):
        client.region_read(RegionIndex.BAR0, 0, 4)


def test_message_dma_outside_every_window_is_a_fault(client: Client, device: MemoryDevice) -> None:
    client.map_dma(0, PAGE, flags=DmaFlag.READ, memory=bytearray(PAGE))
    assert device.client is not None
    with pytest.raises(DmaFaultError):
        device.client.dma_read(PAGE - 1, 2)
    with pytest.raises(DmaFaultError, match="WRITE"):
        device.client.dma_write(0, b"x")


def test_message_dma_without_memory_is_refused_by_the_client(
    client: Client, device: MemoryDevice
) -> None:
    client.map_dma(0, PAGE)
    assert device.client is not None
    peer = device.client
    caught: list[VfioUserError] = []

    def transfer() -> None:
        try:
            peer.dma_read(0, 1)
        except VfioUserError as error:
            caught.append(error)

    worker = threading.Thread(target=transfer)
    worker.start()
    assert client.serve_requests(5)
    worker.join(5)
    assert [(type(error), error.errno) for error in caught] == [(RemoteError, errno.EFAULT)]


def test_client_that_does_not_answer_times_out(client: Client, device: MemoryDevice) -> None:
    client.map_dma(0, PAGE, memory=bytearray(PAGE))
    assert device.client is not None
    with pytest.raises(ReplyTimeoutError):
        device.client.dma_read(0, 1, timeout_s=0.01)
    # The late reply belongs to nobody and does no harm.
    assert client.serve_requests(5)
    assert client.region_read(RegionIndex.BAR0, 0, 1) == b"\0"


def test_client_that_goes_ends_the_devices_request(client: Client, device: MemoryDevice) -> None:
    client.map_dma(0, PAGE, memory=bytearray(PAGE))
    assert device.client is not None
    peer = device.client
    caught: list[VfioUserError] = []

    def transfer() -> None:
        try:
            peer.dma_read(0, 1, timeout_s=60)
        except VfioUserError as error:
            caught.append(error)

    worker = threading.Thread(target=transfer)
    worker.start()
    assert client._connection.wait_readable(5)
    client.close()
    worker.join(5)
    assert [type(error) for error in caught] == [DisconnectedError]


def test_interrupts_ring_the_bound_eventfds(client: Client, device: MemoryDevice) -> None:
    eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(VECTORS)]
    client.bind_irqs(IrqIndex.MSIX, eventfds)
    assert device.client is not None
    irqs = device.client.irqs
    for vector in (0, 7, 8, 31, 31):
        assert irqs.trigger(IrqIndex.MSIX, vector)
    rung = {}
    for vector, eventfd in enumerate(eventfds):
        try:
            rung[vector] = os.eventfd_read(eventfd)
        except BlockingIOError:
            continue
        finally:
            os.close(eventfd)
    assert rung == {0: 1, 7: 1, 8: 1, 31: 2}
    # Eight descriptors a message is what the server accepts.
    assert [call for call in device.calls if call[0] == "irqs_changed"] == [
        ("irqs_changed", IrqIndex.MSIX, range(first, first + 8)) for first in (0, 8, 16, 24)
    ]


def test_rebound_vector_rings_the_new_eventfd_only(client: Client, device: MemoryDevice) -> None:
    old, new = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2))
    client.bind_irqs(IrqIndex.MSIX, [old], start=5)
    client.bind_irqs(IrqIndex.MSIX, [new], start=5)
    assert device.client is not None
    assert device.client.irqs.trigger(IrqIndex.MSIX, 5)
    assert os.eventfd_read(new) == 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(old)
    os.close(old)
    os.close(new)


def test_enabling_msix_as_linux_does(client: Client, device: MemoryDevice) -> None:
    """First a vector without descriptor, then one message for each that is unmasked."""
    trigger = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER
    client.set_irqs(IrqIndex.MSIX, trigger, 0, 1)
    eventfd = os.eventfd(0, os.EFD_NONBLOCK)
    client.set_irqs(IrqIndex.MSIX, trigger, 0, 1, fds=[eventfd])
    assert device.client is not None
    assert device.client.irqs.trigger(IrqIndex.MSIX, 0)
    assert os.eventfd_read(eventfd) == 1
    client.disable_irqs(IrqIndex.MSIX)
    assert not device.client.irqs.trigger(IrqIndex.MSIX, 0)
    os.close(eventfd)


def test_client_can_trigger_an_interrupt_itself(client: Client) -> None:
    eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3)]
    client.bind_irqs(IrqIndex.MSIX, eventfds)
    flags = IrqSetFlag.DATA_BOOL | IrqSetFlag.ACTION_TRIGGER
    client.set_irqs(IrqIndex.MSIX, flags, 0, 3, data=b"\1\0\1")
    client.set_irqs(IrqIndex.MSIX, IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_TRIGGER, 2, 1)
    assert os.eventfd_read(eventfds[0]) == 1
    assert os.eventfd_read(eventfds[2]) == 2
    with pytest.raises(BlockingIOError):
        os.eventfd_read(eventfds[1])
    for eventfd in eventfds:
        os.close(eventfd)


def test_reset_keeps_windows_and_interrupts(
    client: Client, device: MemoryDevice, memfd: int
) -> None:
    eventfd = os.eventfd(0, os.EFD_NONBLOCK)
    client.map_dma(0, PAGE, fd=memfd)
    client.bind_irqs(IrqIndex.MSIX, [eventfd])
    client.reset()
    assert device.calls[-1] == ("reset",)
    assert device.client is not None
    assert device.client.dma.read(0, 2) == b"\0\0"
    assert device.client.irqs.trigger(IrqIndex.MSIX, 0)
    os.close(eventfd)


def test_feature_is_got_set_and_probed(client: Client, device: MemoryDevice) -> None:
    assert client.device_feature(FEATURE, FeatureFlag.GET) == b"\x01\x02\x03\x04"
    assert client.device_feature(FEATURE, FeatureFlag.SET, b"new") == b"new"
    client.device_feature(FEATURE, FeatureFlag.PROBE | FeatureFlag.GET | FeatureFlag.SET)
    probe = FeatureFlag.PROBE | FeatureFlag.GET | FeatureFlag.SET
    assert device.calls[1:] == [
        ("device_feature", FeatureFlag.GET, b""),
        ("device_feature", FeatureFlag.SET, b"new"),
        ("device_feature", probe, b""),
    ]


def test_feature_that_does_not_fit_says_its_size(client: Client, device: MemoryDevice) -> None:
    device.feature_data = bytes(100)
    assert client.device_feature(FEATURE, FeatureFlag.GET, max_data_bytes=99) == b""
    assert client.device_feature(FEATURE, FeatureFlag.GET, max_data_bytes=100) == bytes(100)


def test_absent_feature_is_refused(client: Client) -> None:
    with refused(errno.ENOTTY):
        client.device_feature(1, FeatureFlag.GET)


def test_device_defect_is_an_io_error_and_the_server_goes_on(
    client: Client, device: MemoryDevice, caplog: pytest.LogCaptureFixture
) -> None:
    device.failure = ZeroDivisionError("defect")
    with refused(errno.EIO):
        client.region_read(RegionIndex.BAR0, 0, 4)
    device.failure = None
    assert client.region_read(RegionIndex.BAR0, 0, 4) == bytes(4)
    assert "ZeroDivisionError: defect" in caplog.text


def test_short_read_of_the_device_is_an_io_error(client: Client, device: MemoryDevice) -> None:
    device.region_read = lambda index, offset, count: b"\0"  # type: ignore[method-assign]
    with refused(errno.EIO):
        client.region_read(RegionIndex.BAR0, 0, 4)


@pytest.mark.parametrize(
    "command",
    [Command.MIG_DATA_READ, Command.MIG_DATA_WRITE, Command.DMA_READ, Command.DMA_WRITE],
)
def test_command_that_a_server_does_not_serve_is_refused(client: Client, command: Command) -> None:
    with refused(errno.ENOTSUP):
        client.request(command, bytes(16))


def test_observer_sees_every_message(device: MemoryDevice, socket_path: os.PathLike[str]) -> None:
    seen: list[tuple[str, str, int]] = []

    def observe(name: str, direction: object, size: int) -> None:
        seen.append((name, direction.value, size))  # type: ignore[attr-defined]

    with (
        Server(socket_path, lambda: device, observer=observe),
        Client.connect(socket_path, capabilities=None) as client,
    ):
        client.region_read(RegionIndex.BAR0, 0, 4)
        client.region_write(RegionIndex.BAR0, 0, b"x", posted=True)
        client.reset()
    assert seen == [
        ("VERSION", "received", 20),
        ("VERSION", "sent", 20),
        ("REGION_READ", "received", 32),
        ("REGION_READ", "sent", 36),
        ("REGION_WRITE", "received", 33),
        ("DEVICE_RESET", "received", 16),
        ("DEVICE_RESET", "sent", 16),
    ]


def test_failing_observer_is_dropped(
    device: MemoryDevice,
    socket_path: os.PathLike[str],
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    def observe(name: str, direction: object, size: int) -> None:
        raise RuntimeError("observer defect")

    with (
        Server(socket_path, lambda: device, observer=observe),
        Client.connect(socket_path) as client,
    ):
        assert client.region_read(RegionIndex.BAR0, 0, 1) == b"\0"
    eventually(device.disconnected.is_set)

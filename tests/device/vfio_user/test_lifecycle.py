"""Clients that come and go, one after the other, at once, and in the middle of something."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vgpu_stub.vfio_user import (
    Client,
    DisconnectedError,
    IrqIndex,
    RegionIndex,
    Server,
    VfioUserError,
)

from .memory_device import MemoryDevice

pytestmark = pytest.mark.device
PAGE = 4096
Eventually = Callable[[Callable[[], bool]], None]


def test_next_client_finds_the_state_of_the_device_but_not_of_its_predecessor(
    server: Server, device: MemoryDevice, memfd: int
) -> None:
    with Client.connect(server.path) as first:
        first.region_write(RegionIndex.BAR0, 0, b"kept")
        first.map_dma(0, PAGE, fd=memfd)
        first.bind_irqs(IrqIndex.MSIX, [eventfd := os.eventfd(0)])
        os.close(eventfd)
    with Client.connect(server.path) as second:
        assert second.region_read(RegionIndex.BAR0, 0, 4) == b"kept"
        assert device.client is not None
        assert len(device.client.dma) == 0
        assert not device.client.irqs.is_enabled(IrqIndex.MSIX, 0)
    names = [call[0] for call in device.calls]
    assert names.count("client_connected") == 2
    assert "dma_unmapped" not in names


def test_hundred_clients_in_a_row_leave_no_descriptor(
    server: Server,
    device: MemoryDevice,
    memfd: int,
    open_fds: Callable[[], int],
    eventually: Eventually,
) -> None:
    before = open_fds()
    for _ in range(100):
        with Client.connect(server.path) as client:
            client.map_dma(0, PAGE, fd=memfd)
            client.bind_irqs(IrqIndex.MSIX, [memory := os.eventfd(0)])
            os.close(memory)
    eventually(lambda: server.statistics().clients == 0)
    assert open_fds() == before
    assert server.statistics().accepted == 100
    assert server.statistics().turned_away == 0


def test_second_client_is_turned_away_at_once_and_the_first_goes_on(
    client: Client, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(DisconnectedError):
        Client.connect(server.path)
    assert f"turned away from {server.path}: all 1 places are taken" in caplog.text
    assert client.region_read(RegionIndex.BAR0, 0, 1) == b"\0"
    assert server.statistics().turned_away == 1


def test_every_client_has_a_device_of_its_own(socket_path: Path) -> None:
    devices: list[MemoryDevice] = []

    def make_device() -> MemoryDevice:
        devices.append(MemoryDevice())
        return devices[-1]

    with Server(socket_path, make_device):
        clients = [Client.connect(socket_path) for _ in range(5)]
        for number, client in enumerate(clients):
            client.region_write(RegionIndex.BAR0, 0, bytes([number]))
        for number, client in enumerate(clients):
            assert client.region_read(RegionIndex.BAR0, 0, 1) == bytes([number])
            client.close()
    assert len(devices) == 5
    for device in devices:
        assert device.disconnected.is_set()
        device.close()


def test_failing_factory_drops_that_client_only(
    device: MemoryDevice, socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError("no memory for a device")]

    def make_device() -> MemoryDevice:
        if failures:
            raise failures.pop()
        return device

    with Server(socket_path, make_device):
        with pytest.raises(DisconnectedError), Client.connect(socket_path) as client:
            client.device_info()
        with Client.connect(socket_path) as client:
            assert client.device_info().num_regions == 9
    assert "no memory for a device" in caplog.text


def test_device_can_disconnect_its_client(client: Client, device: MemoryDevice) -> None:
    client.device_info()
    assert device.client is not None
    device.client.disconnect()
    with pytest.raises(DisconnectedError):
        client.region_read(RegionIndex.BAR0, 0, 4)
    assert device.disconnected.wait(5)


def test_client_that_never_speaks_is_given_up(
    device: MemoryDevice,
    socket_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    monkeypatch.setattr("vgpu_stub.vfio_user.session.HANDSHAKE_TIMEOUT_S", 0.02)
    with Server(socket_path, lambda: device, max_clients=1) as server:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(os.fspath(socket_path))
            assert silent.recv(1) == b""
        eventually(lambda: server.statistics().clients == 0)
        with Client.connect(socket_path) as client:
            assert client.device_info().num_regions == 9


def test_client_that_sends_a_byte_now_and_then_is_given_up(
    device: MemoryDevice, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vgpu_stub.vfio_user.session.HANDSHAKE_TIMEOUT_S", 0.2)
    with (
        Server(socket_path, lambda: device, max_clients=1),
        socket.socket(socket.AF_UNIX) as dripping,
    ):
        dripping.settimeout(0.05)
        dripping.connect(os.fspath(socket_path))
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 15:
                dripping.send(b"\0")
                sent += 1
                with contextlib.suppress(TimeoutError):
                    if dripping.recv(1) == b"":
                        break
        assert 0 < sent < 15


def test_window_is_out_of_the_map_before_the_device_lets_go_of_it(
    client: Client, device: MemoryDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread of the device must not find a window that is about to be closed."""
    client.device_info()
    found: list[int] = []
    assert device.client is not None
    dma = device.client.dma
    monkeypatch.setattr(device, "dma_unmapped", lambda window: found.append(len(dma)))
    client.map_dma(0, 4096)
    client.unmap_dma(0, 4096)
    assert found == [0]


def test_client_that_reads_no_replies_is_given_up(
    device: MemoryDevice, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vgpu_stub.vfio_user.session.SEND_TIMEOUT_S", 0.02)
    with Server(socket_path, lambda: device), Client.connect(socket_path) as client:
        with pytest.raises(DisconnectedError):
            while True:
                client.submit(9, (0).to_bytes(8, "little") + b"\7\0\0\0\0\x10\0\0")
        assert device.disconnected.wait(5)


def test_stop_disconnects_clients_and_removes_the_socket(
    device: MemoryDevice, socket_path: Path, open_fds: Callable[[], int]
) -> None:
    before = open_fds()
    threads = threading.active_count()
    server = Server(socket_path, lambda: device)
    server.start()
    client = Client.connect(socket_path)
    server.stop()
    assert not socket_path.exists()
    with pytest.raises(DisconnectedError):
        client.device_info()
    client.close()
    server.stop()
    assert open_fds() == before
    assert threading.active_count() == threads
    assert device.disconnected.is_set()


def test_server_can_start_again(device: MemoryDevice, socket_path: Path) -> None:
    server = Server(socket_path, lambda: device)
    for _ in range(2):
        with server, Client.connect(socket_path) as client:
            assert client.device_info().num_irqs == 5


def test_serve_forever_ends_when_another_thread_stops_it(
    device: MemoryDevice, socket_path: Path, eventually: Eventually
) -> None:
    server = Server(socket_path, lambda: device)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    eventually(socket_path.is_socket)
    server.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_socket_is_the_owners_alone(server: Server) -> None:
    assert server.path.stat().st_mode & 0o777 == 0o600


def test_stale_socket_is_replaced(device: MemoryDevice, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(socket_path))
    with Server(socket_path, lambda: device), Client.connect(socket_path) as client:
        assert client.device_info().num_regions == 9


def test_live_socket_is_not_taken_over(server: Server, device: MemoryDevice) -> None:
    with pytest.raises(VfioUserError, match="another server listens") as caught:
        Server(server.path, lambda: device).start()
    assert caught.value.errno == errno.EADDRINUSE


def test_other_file_is_not_replaced(device: MemoryDevice, socket_path: Path) -> None:
    socket_path.write_text("precious")
    with pytest.raises(VfioUserError, match="cannot listen"):
        Server(socket_path, lambda: device).start()
    assert socket_path.read_text() == "precious"


def test_too_long_a_path_is_explained(device: MemoryDevice) -> None:
    with pytest.raises(VfioUserError, match="at most 107 bytes"):
        Server("/tmp/" + "x" * 103, lambda: device).start()


def test_absent_server_is_explained(socket_path: Path) -> None:
    with pytest.raises(VfioUserError, match="cannot connect") as caught:
        Client.connect(socket_path)
    assert caught.value.errno == errno.ENOENT

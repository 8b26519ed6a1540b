"""How the library meets a device over vfio-user: other versions, other devices, hang-ups."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vgpu_stub.abi import generated as abi

NO_DEVICE, SYSTEM_DRIVER_MISMATCH = 100, 803
VERSION, REGION_INFO, REGION_READ, REGION_WRITE = 1, 5, 9, 10
HEADER = struct.Struct("<HHIII")


class FakeDevice:
    """Answers the bring-up of a driver with the given registers; it never gets enabled."""

    def __init__(self, listener: socket.socket, registers: dict[int, int]) -> None:
        self._listener = listener
        self._registers = registers

    def serve(self) -> None:
        connection, _ = self._listener.accept()
        memory = os.memfd_create("bar2", os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, abi.BAR2_BYTES)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        with connection:
            while header := connection.recv(HEADER.size, socket.MSG_WAITALL):
                number, command, size, _, _ = HEADER.unpack(header)
                body = connection.recv(size - HEADER.size, socket.MSG_WAITALL) if size > 16 else b""
                fds: list[int] = []
                reply = b""
                if command == VERSION:
                    reply = b"\0\0\0\0{}\0"
                elif command == REGION_INFO:
                    reply = struct.pack("<IIIIQQ", 32, 7, 2, 0, abi.BAR2_BYTES, 0)
                    fds = [memory]
                elif command == REGION_READ:
                    reply = body + self._read(*struct.unpack("<QII", body))
                elif command == REGION_WRITE:
                    reply = body[:16]
                packed = HEADER.pack(number, command, HEADER.size + len(reply), 1, 0) + reply
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
                connection.sendmsg([packed], ancillary)
        os.close(memory)

    def _read(self, offset: int, region: int, count: int) -> bytes:
        if region == 0:
            return self._registers.get(offset, 0).to_bytes(count, "little")
        # Config space: the one capability, at 0x40, is MSI-X.
        return {0x34: b"\x40", 0x40: b"\x11\x00"}.get(offset, bytes(count))[:count]


@contextmanager
def fake_device(path: Path, registers: dict[int, int]) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=FakeDevice(listener, registers).serve)
        thread.start()
        yield
        thread.join(30)
        assert not thread.is_alive()


def initialize(build: Path, path: Path) -> tuple[int, str]:
    script = (
        f"import ctypes; cuda = ctypes.CDLL({str(build / 'libcuda.so.1')!r}); print(cuda.cuInit(0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "VGPU_STUB_SOCKET": str(path), "VGPU_STUB_LOG": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout), done.stderr


@pytest.mark.parametrize(
    ("device_version", "status"),
    [
        (0x0002_0000, abi.STATUS_ENABLED),
        (0x0000_0009, abi.STATUS_ENABLED),
        (abi.ABI_VERSION, abi.STATUS_ABI_REFUSED),
    ],
    ids=["newer major", "older major", "refused by the device"],
)
def test_versions_that_differ_are_a_mismatch_said_in_one_line(
    build: Path, tmp_path: Path, device_version: int, status: int
) -> None:
    path = tmp_path / "device"
    registers = {
        abi.REG_MAGIC: abi.MAGIC,
        abi.REG_ABI_VERSION: device_version,
        abi.REG_STATUS: status,
    }
    with fake_device(path, registers):
        result, log = initialize(build, path)
    assert result == SYSTEM_DRIVER_MISMATCH
    assert log.count("\n") == 1
    wanted = f"the device speaks ABI {device_version >> 16}.{device_version & 0xFFFF}"
    assert wanted in log
    assert f"needs {abi.ABI_MAJOR}.{abi.ABI_MINOR}" in log


def test_another_kind_of_device_is_no_device(build: Path, tmp_path: Path) -> None:
    path = tmp_path / "device"
    with fake_device(path, {abi.REG_MAGIC: 0x1234}):
        assert initialize(build, path) == (NO_DEVICE, "")


def test_server_that_hangs_up_is_no_device(build: Path, tmp_path: Path) -> None:
    path = tmp_path / "device"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        assert initialize(build, path)[0] == NO_DEVICE
        thread.join(30)

"""A device served from this process, with workers of its own: driven without a VM in milliseconds.

The server is the real one, behind a real vfio-user socket; only its process is the caller's, so
that a test sees the device from both sides.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vgpu_host.fault_table import FaultTable
from vgpu_host.pool import WorkerPool
from vgpu_host.ring_trace import ChannelTrace, RingTraces
from vgpu_host.snapshot import device_snapshot
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.driver import GuestDriver
from vgpu_stub.harness.control import FaultControl
from vgpu_stub.vfio_user import Server

#: Looks for a completion before a wait sleeps: the server's threads need the interpreter.
_SPINS: Final = 50
_NAME: Final = "local"


class LocalDevice:
    """One device behind a socket; a context manager that serves while it is entered.

    Attributes:
        gpu: The device, seen from the inside.
        socket: Where a vfio-user client may connect, one at a time.
        faults: What goes wrong on purpose; `device.faults.inject("completion-lost", nth=3)`.
    """

    def __init__(
        self,
        workers: WorkerPool,
        identity: tuple[int, int] = (abi.PCI_VENDOR_ID, abi.PCI_DEVICE_ID),
    ) -> None:
        """Make a device in its power-on state.

        Args:
            workers: Where its workers come from; it may serve other devices too.
            identity: PCI vendor and device id.
        """
        self._traces = RingTraces(lambda: [self.gpu])
        table = FaultTable(lambda: [self.gpu], [])
        self.gpu = VirtualGpu(
            workers,
            _NAME,
            identity,
            on_channel_end=self._traces.channel_ended,
            faults=table.injector,
        )
        handlers = table.handlers()
        self.faults = FaultControl(lambda verb, **arguments: handlers[verb](arguments))
        # A socket path has at most 107 bytes, which folders of tests may exceed.
        self._folder = tempfile.TemporaryDirectory(prefix="vgpu")
        self.socket = Path(self._folder.name) / "device.sock"
        self._server = Server(self.socket, lambda: self.gpu, max_clients=1)
        self._driver: GuestDriver | None = None

    @property
    def driver(self) -> GuestDriver:
        """The device brought up, by the only client; connects when first asked for.

        Raises:
            DriverError: It cannot be brought up.
            VfioUserError: Another client is connected.
        """
        if self._driver is None:
            self._driver = GuestDriver.connect(self.socket, _SPINS)
        return self._driver

    def snapshot(self) -> dict[str, Any]:
        """The device and its channels now; see `vgpu_host.snapshot.device_snapshot`."""
        return device_snapshot(self.gpu)

    def ring_trace(self) -> list[ChannelTrace]:
        """The last commands and completions of each channel, those that have ended first."""
        return self._traces.traces()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._driver is not None:
                self._driver.close()
        finally:
            self._server.stop()
            self.gpu.close()
            self._folder.cleanup()

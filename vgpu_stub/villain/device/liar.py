"""The device that lies: a true `VirtualGpu` whose every word to the guest passes a lie first."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.rings import ControlPage, channel_offset
from vgpu_stub.device.status import DeviceStatus
from vgpu_stub.vfio_user import ConnectedClient, Region, RegionIndex
from vgpu_stub.villain.device.lie import Lie
from vgpu_stub.villain.device.queues import LyingCompletions, NoMemory, NotedSubmissions
from vgpu_stub.villain.device.workers import LyingWorkers

_ADMIN: Final = 0
#: What the device measures of itself when it tells the truth.
TRUE_STATUS: Final = DeviceStatus(
    time_us=1,
    driver_version="1.0",
    sample_period_us=1_000_000,
    measured={
        "memory_total": 1 << 28,
        "memory_used": 1 << 20,
        "memory_free": (1 << 28) - (1 << 20),
        "memory_reserved": 0,
        "bar1_total": 1 << 26,
        "bar1_used": 1 << 20,
        "gpu_percent": 7,
        "memory_percent": 3,
        "power_mw": 9000,
        "fan_percent": 20,
        "performance_state": 0,
        "cores": 8,
        "energy_mj": 1000,
        "pcie_width": 16,
    },
)


@dataclass(frozen=True)
class _ToldStatus(DeviceStatus):
    """A measurement whose bytes pass a lie."""

    lie: Lie = field(default_factory=Lie)

    def pack(self) -> bytes:
        return self.lie.status(super().pack())


class _Sensors:
    """The source of DEVICE_STATUS."""

    def __init__(self, gpu: LyingGpu) -> None:
        self._gpu = gpu

    def device_status(self) -> DeviceStatus:
        true = TRUE_STATUS
        return _ToldStatus(
            true.time_us,
            true.driver_version,
            true.sample_period_us,
            true.measured,
            lie=self._gpu.lie,
        )


class LyingGpu(VirtualGpu):
    """A VGPU-STUB that tells a lie; which one can change between two lives of the guest's driver.

    Attributes:
        lie: What it tells now.
    """

    def __init__(self, workers: LyingWorkers, lie: Lie) -> None:
        """Make a device in its power-on state."""
        self.lie = lie
        self._liars = workers
        self._stop = threading.Event()
        self._meddler: threading.Thread | None = None
        super().__init__(workers, "liar", status_source=_Sensors(self))

    def tell(self, lie: Lie) -> None:
        """Tell another lie from now on; the device is reset."""
        self._end_meddling()
        with self._lock:
            self.lie = self._liars.lie = lie
            self.control_reset()

    def close(self) -> None:
        """End every worker and release the device's memory."""
        self._end_meddling()
        super().close()

    @property
    def regions(self) -> Sequence[Region]:
        """What the lie makes of the true regions."""
        return self.lie.regions(super().regions)

    def client_connected(self, client: ConnectedClient) -> None:
        """A client negotiated its version."""
        super().client_connected(client)
        self._start_meddling()

    def client_disconnected(self, client: ConnectedClient) -> None:
        """The client is gone."""
        self._end_meddling()
        super().client_disconnected(client)

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """Read what the lie says of a register or of config space."""
        data = super().region_read(index, offset, count)
        if index == RegionIndex.CONFIG:
            return self.lie.config(offset, data)
        if index == RegionIndex.BAR0 and offset % 4 == 0 and count in (4, 8):
            return b"".join(
                (
                    self.lie.register(
                        offset + part, int.from_bytes(data[part : part + 4], "little")
                    )
                    & 0xFFFF_FFFF
                ).to_bytes(4, "little")
                for part in range(0, count, 4)
            )
        return data

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        """Write, unless the lie has it fall under the table."""
        if index == RegionIndex.BAR0 and not self.lie.write(offset, int.from_bytes(data, "little")):
            return
        super().region_write(index, offset, data)

    def enable(self) -> bool:
        """CONTROL.ENABLE: the admin channel, with rings that lie."""
        if not super().enable():
            return False
        if self._admin._queues:
            self._admin._queues[0].release()
        offset = channel_offset(_ADMIN)
        control = ControlPage(self._memory, offset)
        submissions = NotedSubmissions(self._memory, offset, control)
        self._admin._queues = (
            control,
            submissions,
            LyingCompletions(
                self._memory,
                offset,
                control,
                lambda: self._interrupt(0),
                channel=_ADMIN,
                submissions=submissions,
                guest_memory=NoMemory(),
                lie=self.lie,
            ),
        )
        self.lie.control(_ADMIN, control)
        self._start_meddling()
        return True

    def _publish_info(self) -> None:
        told = bytearray(self._info)
        self.lie.info(told)
        self._memory[abi.INFO_OFFSET : abi.INFO_OFFSET + len(told)] = bytes(told)

    def _interrupt(self, vector: int) -> None:
        for told in self.lie.interrupts(vector):
            super()._interrupt(told)

    # -- meddling --------------------------------------------------------------------------------

    def _start_meddling(self) -> None:
        if not self.lie.meddles or self._meddler is not None:
            return
        self._stop.clear()
        self._meddler = threading.Thread(
            target=self._meddle, args=(self.lie,), name="vgpu-meddler", daemon=True
        )
        self._meddler.start()

    def _end_meddling(self) -> None:
        meddler, self._meddler = self._meddler, None
        if meddler is not None:
            self._stop.set()
            meddler.join()

    def _meddle(self, lie: Lie) -> None:
        while not self._stop.is_set():
            lie.meddle(self._memory, super()._interrupt)

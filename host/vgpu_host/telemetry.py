"""What a device server measures for monitors in the guest: memory, utilisation, processes, sensors.

Channels keep counters in shared memory; a thread reads them four times a second, so that a
utilisation over the last second is there whenever somebody asks. Sensors of a physical GPU are read
only then, by the same thread, because a sick GPU may take its time and the device must not wait.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.channels import Channel, ChannelState
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.rings import channel_offset
from vgpu_stub.device.status import (
    DeviceProcess,
    DeviceStatus,
    ProcessUse,
    StatusUnavailableError,
)

_TICK_S: Final = 0.25
_PERIOD_NS: Final = 1_000_000_000
#: An answer of the physical GPU serves everybody who asks within this time.
_FRESH_NS: Final = 50_000_000
_ANSWER_TIMEOUT_S: Final = 2.0
#: NVML_DEVICE_ARCH_UNKNOWN and NVML_BRAND_UNKNOWN: the software GPU is none of NVIDIA's.
_NO_ARCHITECTURE: Final = 0xFFFF_FFFF
_NO_BRAND: Final = 0
#: First driver branch for each CUDA version (NVIDIA's "CUDA Toolkit Release Notes", table 3).
_DRIVER_BRANCHES: Final = {
    12000: 525,
    12010: 530,
    12020: 535,
    12030: 545,
    12040: 550,
    12050: 555,
    12060: 560,
    12080: 570,
    12090: 575,
    13000: 580,
    13010: 590,
}


class PhysicalGpu(Protocol):
    """Sensors of the GPU that executes the channels' work."""

    @property
    def driver_version(self) -> str:
        """Version of its driver."""
        ...

    def measure(self) -> dict[str, int]:
        """Values by member of `struct vgpu_device_status`; what it does not have is absent."""
        ...

    def process_memory(self) -> dict[int, int]:
        """Device memory in bytes by process id of the host."""
        ...

    def process_use(self) -> dict[int, ProcessUse]:
        """What processes used, by process id of the host; those that used nothing may be absent."""
        ...


@dataclass(frozen=True)
class _Answer:
    """What a physical GPU said, and when."""

    time_ns: int
    measured: dict[str, int]
    memory: dict[int, int]
    use: dict[int, ProcessUse]


@dataclass(frozen=True)
class _Reading:
    """Counters of one channel at one moment."""

    worker_pid: int
    guest_pid: int
    channel: int
    memory_bytes: int
    busy_ns: int
    alive: bool


@dataclass(frozen=True)
class _Sample:
    """Time in which channels were busy, all together and each, since the server started."""

    time_ns: int
    total_ns: int
    by_worker: dict[int, int]


class Telemetry:
    """Measures the devices of one server; implements `DeviceStatusSource`."""

    def __init__(
        self,
        info: bytes,
        devices: Callable[[], Sequence[VirtualGpu]],
        gpu: PhysicalGpu | None,
    ) -> None:
        """Prepare; entering starts the thread.

        Args:
            info: `struct vgpu_device_info` of the devices.
            devices: The devices that there are now.
            gpu: Sensors of the physical GPU behind them; None for the software GPU, and where a
                physical one has none that can be read.
        """
        offsets = abi.DEVICE_INFO_OFFSETS
        memory = offsets["total_memory"]
        version = offsets["driver_version"]
        executor = offsets["executor"]
        self._software = info[executor : executor + 9] == b"software\0"
        self._total_memory = int.from_bytes(info[memory : memory + 8], "little")
        cuda_version = int.from_bytes(info[version : version + 4], "little", signed=True)
        self._driver_version = gpu.driver_version if gpu else driver_version_for(cuda_version)
        self._devices = devices
        self._gpu = gpu
        self._condition = threading.Condition()
        self._ended_ns = 0
        self._samples: deque[_Sample] = deque()
        self._asked = False
        self._answer: _Answer | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="vgpu-telemetry", daemon=True)
        self._remember(self._sample(list(self._readings())))

    def device_status(self) -> DeviceStatus:
        """Measure now.

        Raises:
            StatusUnavailableError: The physical GPU does not answer.
        """
        readings = list(self._readings())
        now = self._sample(readings)
        with self._condition:
            before = self._samples[0]
        period_ns = max(now.time_ns - before.time_ns, 1)

        def percent(busy_ns: int) -> int:
            return max(0, min(100, round(100 * busy_ns / period_ns)))

        def software_use(reading: _Reading) -> ProcessUse:
            busy = percent(reading.busy_ns - before.by_worker.get(reading.worker_pid, 0))
            return ProcessUse(busy, busy)

        if self._gpu:
            answer = self._ask_gpu()
            measured, memory, use = answer.measured, answer.memory, answer.use
            # In a container NVML may know processes by other numbers than we do.
            if all(reading.worker_pid in memory for reading in readings if reading.alive):
                measured = {**measured, "process_use": 1}
        elif self._software:
            busy = percent(now.total_ns - before.total_ns)
            measured, memory = self._software_values(readings, busy), {}
            use = {reading.worker_pid: software_use(reading) for reading in readings}
        else:
            measured, memory, use = {"memory_total": self._total_memory}, {}, {}
        rows = tuple(
            DeviceProcess(
                reading.guest_pid,
                reading.channel,
                memory.get(reading.worker_pid, reading.memory_bytes),
                use.get(reading.worker_pid, ProcessUse()),
            )
            for reading in readings
            if reading.alive
        )
        return DeviceStatus(
            time.time_ns() // 1000,
            self._driver_version,
            period_ns // 1000,
            measured,
            rows,
        )

    def channel_ended(self, device: VirtualGpu, channel: Channel) -> None:
        """Keep the busy time of a channel whose counters are about to go."""
        reading = _read_channel(device, channel, time.monotonic_ns())
        with self._condition:
            self._ended_ns += reading.busy_ns

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(_ANSWER_TIMEOUT_S)

    def _software_values(self, readings: Sequence[_Reading], busy: int) -> dict[str, int]:
        # Each channel may use the whole memory, so together they may hold more than there is.
        held = sum(reading.memory_bytes for reading in readings if reading.alive)
        used = min(held, self._total_memory)
        return {
            "memory_total": self._total_memory,
            "memory_used": used,
            "memory_free": self._total_memory - used,
            "memory_reserved": 0,
            # The software GPU works on its memory whenever it works.
            "gpu_percent": busy,
            "memory_percent": busy,
            "architecture": _NO_ARCHITECTURE,
            "brand": _NO_BRAND,
            "process_use": 1,
        }

    def _ask_gpu(self) -> _Answer:
        asked_ns = time.monotonic_ns()

        def answered() -> bool:
            return self._answer is not None and self._answer.time_ns >= asked_ns - _FRESH_NS

        with self._condition:
            if not answered():
                self._asked = True
                self._condition.notify_all()
                if not self._condition.wait_for(answered, _ANSWER_TIMEOUT_S):
                    raise StatusUnavailableError(
                        f"NVML has not answered within {_ANSWER_TIMEOUT_S} s"
                    )
            assert self._answer is not None
            return self._answer

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._asked, _TICK_S)
                if self._stopping:
                    return
                asked, self._asked = self._asked, False
            self._remember(self._sample(list(self._readings())))
            if asked and self._gpu:
                gpu = self._gpu
                values = gpu.measure(), gpu.process_memory(), gpu.process_use()
                with self._condition:
                    self._answer = _Answer(time.monotonic_ns(), *values)
                    self._condition.notify_all()

    def _remember(self, sample: _Sample) -> None:
        with self._condition:
            self._samples.append(sample)
            # The first is the start of the period: the last that is a whole period old.
            while len(self._samples) > 1 and (
                sample.time_ns - self._samples[1].time_ns >= _PERIOD_NS
            ):
                self._samples.popleft()

    def _sample(self, readings: Sequence[_Reading]) -> _Sample:
        by_worker = {reading.worker_pid: reading.busy_ns for reading in readings}
        with self._condition:
            return _Sample(time.monotonic_ns(), self._ended_ns + sum(by_worker.values()), by_worker)

    def _readings(self) -> Iterator[_Reading]:
        now = time.monotonic_ns()
        for device in self._devices():
            for channel in device.snapshot().channels:
                # A device that is closed meanwhile has no memory to read any more.
                with contextlib.suppress(ValueError):
                    yield _read_channel(device, channel, now)


def _read_channel(device: VirtualGpu, channel: Channel, now_ns: int) -> _Reading:
    offset = channel_offset(channel.number) + abi.HOST_COUNTERS_OFFSET
    data = device.read_shared(offset, abi.HOST_COUNTERS.size)

    def counter(name: str) -> int:
        start = abi.HOST_COUNTERS_OFFSETS[name]
        return int.from_bytes(data[start : start + 8], "little")

    # Of a failed channel the worker and all that it held are gone; its counters stand still.
    alive = channel.state is not ChannelState.FAILED
    since = counter("busy_since_ns")
    going_on = now_ns - since if alive and 0 < since < now_ns else 0
    return _Reading(
        channel.worker.pid,
        channel.pid,
        channel.number,
        counter("memory_bytes"),
        counter("busy_ns") + going_on,
        alive,
    )


def driver_version_for(cuda_version: int) -> str:
    """A driver version for a GPU that has no driver: that of the first branch with this CUDA.

    `cuda_version` is as `cuDriverGetVersion` reports it. Programs choose features by comparing such
    versions with NVIDIA's, so it must follow NVIDIA's numbers.
    """
    older = [version for version in _DRIVER_BRANCHES if version <= cuda_version]
    branch = _DRIVER_BRANCHES[max(older, default=min(_DRIVER_BRANCHES))]
    return f"{branch}.00"

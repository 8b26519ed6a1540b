"""What a device measures of itself: the reply of DEVICE_STATUS, for monitors in the guest.

A value that cannot be measured is left out, never made up: the reply says by `known` bits which
values it holds. Who measures is not the device's business; it is given a source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, Self

from vgpu_stub.abi import generated as abi

_FIELDS: Final = tuple(abi.DEVICE_STATUS_OFFSETS)
_FIXED: Final = (
    "time_us",
    "known",
    "event_types",
    "event_count",
    "sample_period_us",
    "process_count",
    "driver_version",
)
#: Bit of `known` for each measured value.
_KNOWN: Final = {name: 1 << bit for bit, name in enumerate(n for n in _FIELDS if n not in _FIXED)}


class StatusUnavailableError(Exception):
    """Nothing could be measured in time; the text says why."""


class ProcessUse(NamedTuple):
    """What a process used of the device, in percent of the sample period."""

    gpu: int = 0
    memory: int = 0
    encoder: int = 0
    decoder: int = 0


@dataclass(frozen=True)
class DeviceProcess:
    """One channel of a device, as monitors list it.

    Attributes:
        pid: Process of the guest that made the channel.
        channel: Channel number.
        memory_bytes: Device memory that it holds.
        use: Of GPU, device memory, video encoder and decoder, in percent of the sample period.
    """

    pid: int
    channel: int
    memory_bytes: int
    use: ProcessUse


class DeviceEvent(NamedTuple):
    """Something that happened to the device, as NVML's events name it."""

    type: int  #: nvmlEventType* bit
    data: int = 0  #: eventData: of an Xid error its number


@dataclass(frozen=True)
class DeviceStatus:
    """One measurement.

    Attributes:
        time_us: When, in microseconds since 1970.
        driver_version: Version of the host's GPU driver, for `nvmlSystemGetDriverVersion`.
        sample_period_us: Time over which utilisation was measured.
        measured: Values by member of `struct vgpu_device_status`; what is missing is not known.
        processes: Channels; those after the first STATUS_PROCESSES are not carried.
        event_types: nvmlEventType* bits that this device can report.
        event_count: Events since the device was made.
        events: The last of them, oldest first; at most STATUS_EVENTS are carried.
    """

    time_us: int
    driver_version: str
    sample_period_us: int
    measured: Mapping[str, int] = field(default_factory=dict)
    processes: tuple[DeviceProcess, ...] = ()
    event_types: int = 0
    event_count: int = 0
    events: tuple[DeviceEvent, ...] = ()

    def pack(self) -> bytes:
        """As the guest gets it: STATUS_BYTES long.

        Raises:
            KeyError: `measured` names a value that the structure does not have.
        """
        listed = self.processes[: abi.STATUS_PROCESSES]
        values: dict[str, int | bytes] = dict.fromkeys(_FIELDS, 0)
        known = 0
        for name, value in self.measured.items():
            known |= _KNOWN[name]
            values[name] = value
        values["time_us"] = self.time_us
        values["known"] = known
        values["sample_period_us"] = self.sample_period_us
        values["process_count"] = len(listed)
        values["event_types"] = self.event_types
        values["event_count"] = self.event_count
        values["driver_version"] = self.driver_version.encode()[:31]
        ring = [DeviceEvent(0)] * abi.STATUS_EVENTS
        for age, event in enumerate(reversed(self.events[-abi.STATUS_EVENTS :]), start=1):
            ring[(self.event_count - age) % abi.STATUS_EVENTS] = event
        reply = [abi.DEVICE_STATUS.pack(*values.values())]
        reply += [abi.DEVICE_EVENT.pack(*event) for event in ring]
        reply += [
            abi.DEVICE_PROCESS.pack(row.memory_bytes, row.pid, row.channel, *row.use)
            for row in listed
        ]
        return b"".join(reply).ljust(abi.STATUS_BYTES, b"\0")

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """The inverse of `pack`."""
        values = dict(zip(_FIELDS, abi.DEVICE_STATUS.unpack_from(data), strict=True))
        start = abi.DEVICE_STATUS.size
        end = start + abi.STATUS_EVENTS * abi.DEVICE_EVENT.size
        ring = [DeviceEvent(*fields) for fields in abi.DEVICE_EVENT.iter_unpack(data[start:end])]
        rows = data[end : end + values["process_count"] * abi.DEVICE_PROCESS.size]
        count = values["event_count"]
        return cls(
            values["time_us"],
            values["driver_version"].rstrip(b"\0").decode(),
            values["sample_period_us"],
            {name: values[name] for name, bit in _KNOWN.items() if values["known"] & bit},
            tuple(
                DeviceProcess(pid, channel, memory, ProcessUse(*use))
                for memory, pid, channel, *use in abi.DEVICE_PROCESS.iter_unpack(rows)
            ),
            values["event_types"],
            count,
            tuple(
                ring[number % abi.STATUS_EVENTS]
                for number in range(max(0, count - abi.STATUS_EVENTS), count)
            ),
        )


class DeviceStatusSource(Protocol):
    """Who measures a device."""

    def device_status(self) -> DeviceStatus:
        """Measure now; may wait for a short, bounded time.

        Raises:
            StatusUnavailableError: It could not be done.
        """
        ...

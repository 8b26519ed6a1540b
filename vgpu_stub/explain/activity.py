"""How the device was used while the program ran: counters of its channels, looked at now and then.

The device server keeps the counters anyway, so looking costs the program nothing. What matters is
the time from the first launch on: what a program does to get there is not its use of the GPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_INTERVAL_S: Final = 0.05
_LAUNCHES: Final = ("LAUNCH_KERNEL", "LAUNCH_COOPERATIVE", "GRAPH_LAUNCH", "BLAS")
_WAITS: Final = (
    "CONTEXT_SYNCHRONIZE",
    "STREAM_SYNCHRONIZE",
    "EVENT_SYNCHRONIZE",
    "COPY_DEVICE_TO_HOST",
)
_TICKS: Final = 100  # of a second, in /proc/<pid>/stat (USER_HZ)

Snapshot = Mapping[str, Any]


@dataclass(frozen=True)
class ChannelUse:
    """Counters of one channel at one moment.

    Attributes:
        worker_pid: Process of the host that carried out its commands.
        busy_s: Time in which the device worked, in seconds: for this channel, or for everybody.
        busy_for_all: Whether that is the time for everybody.
        cpu_s: Processor time of the process.
    """

    pid: int
    worker_pid: int
    process: str
    state: str
    error: int
    launches: int
    waits: int
    bytes_to_device: int
    bytes_to_host: int
    busy_s: float
    busy_for_all: bool
    memory_bytes: int
    cpu_s: float
    refused: Mapping[str, int]

    @property
    def moved_bytes(self) -> int:
        """Bytes copied, both ways."""
        return self.bytes_to_device + self.bytes_to_host


@dataclass(frozen=True)
class Use:
    """What one channel did, all in all and from its first launch on.

    Attributes:
        last: The channel at its end.
        peak_memory: Most device memory seen.
        launches: Kernels, graphs and BLAS calls since the first seen one.
        waits: Commands since then for which the program waited.
        moved_bytes: Copied since then.
        busy_s: Time since then in which the device worked.
        cpu_s: Processor time of the process since then.
        span_s: Time from then to the channel's end.
    """

    last: ChannelUse
    peak_memory: int
    launches: int
    waits: int
    moved_bytes: int
    busy_s: float
    cpu_s: float
    span_s: float

    @property
    def share(self) -> float:
        """Part of the time in which the device worked, 0 to 1."""
        return min(self.busy_s / self.span_s, 1.0) if self.span_s > 0 else 0.0


class ActivityRecorder:
    """Looks at a device server from entering to leaving."""

    def __init__(self, read: Callable[[], Snapshot], *, local_processes: bool) -> None:
        """Prepare.

        Args:
            read: Asks the server for a snapshot; raises OSError when it does not answer.
            local_processes: Whether the processes run on this machine, so that their processor
                time can be read.
        """
        self._read = read
        self._local = local_processes
        self._samples: dict[tuple[int, int], list[tuple[float, ChannelUse]]] = {}
        self._gpu_s = 0.0
        self._last_look: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vgpu-explain", daemon=True)

    def uses(self) -> list[Use]:
        """What each channel did, in the order in which they came."""
        return [_use_of(samples) for samples in self._samples.values()]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        try:
            snapshot = self._read()
        except OSError:
            return  # the server's end is somebody else's finding
        now = time.monotonic()
        self._count_gpu_time(now, snapshot)
        for row in _rows(snapshot):
            key = (row["worker_pid"], row["guest_pid"])
            samples = self._samples.setdefault(key, [])
            if samples and samples[-1][1].state == "ended":
                continue
            earlier = samples[-1][1].cpu_s if samples else 0.0
            cpu_s = _cpu_seconds(row["guest_pid"]) if self._local else 0.0
            use = _channel_use(row, max(cpu_s, earlier))
            if snapshot["executor"] == "cuda":
                # There a worker is busy with queueing, not with the work.
                use = replace(use, busy_s=self._gpu_s, busy_for_all=True)
            samples.append((now, use))

    def _count_gpu_time(self, now: float, snapshot: Snapshot) -> None:
        """Add up the time in which the physical GPU worked, for whomever, as its driver says."""
        if self._last_look is not None:
            percent = snapshot["measured"].get("gpu_percent", 0)
            self._gpu_s += (now - self._last_look) * percent / 100
        self._last_look = now


def _rows(snapshot: Snapshot) -> Iterator[Mapping[str, Any]]:
    yield from snapshot["ended_channels"]
    for device in snapshot["devices"]:
        yield from device["channels"]


def _channel_use(row: Mapping[str, Any], cpu_s: float) -> ChannelUse:
    commands, host = row["commands"], row["host"]
    return ChannelUse(
        pid=row["guest_pid"],
        worker_pid=row["worker_pid"],
        process=row["guest_process"],
        state=row["state"],
        error=row["error"],
        launches=sum(commands.get(name, 0) for name in _LAUNCHES),
        waits=sum(commands.get(name, 0) for name in _WAITS),
        bytes_to_device=host["bytes_to_device"],
        bytes_to_host=host["bytes_to_host"],
        busy_s=host["busy_ns"] / 1e9,
        busy_for_all=False,
        memory_bytes=host["memory_bytes"],
        cpu_s=cpu_s,
        refused=row["refused_functions"],
    )


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process of this machine; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _use_of(samples: list[tuple[float, ChannelUse]]) -> Use:
    end_s, last = samples[-1]
    start_s, start = next((sample for sample in samples if sample[1].launches), samples[-1])
    return Use(
        last,
        max(use.memory_bytes for _, use in samples),
        last.launches - start.launches,
        last.waits - start.waits,
        last.moved_bytes - start.moved_bytes,
        last.busy_s - start.busy_s,
        last.cpu_s - start.cpu_s,
        end_s - start_s,
    )

"""Turns two snapshots of a device server into what a monitor shows: counters, rates, totals.

Pure functions over the plain data of `vgpu_host.snapshot`; screens are elsewhere. A rate is the
difference of a counter between both snapshots by the time between them, and unknown (None) for a
channel that only the later one has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Snapshot = Mapping[str, Any]


@dataclass(frozen=True)
class ChannelRow:
    """One channel: of what process, where its rings stand, what it carried and how fast.

    Attributes:
        device: Name of its device within the server.
        channel: Channel number.
        process: Name of the guest process.
        guest_pid: Its process id in the guest.
        worker_pid: Process id of the channel's worker on the host.
        state: `starting`, `ready`, `failed` or `ended`.
        error: CUresult of a failed channel, else 0.
        head: Submission ring: slots that the host has taken.
        tail: Submission ring: slots that the guest has submitted.
        depth: Slots between them.
        entries: Slots of the ring.
        high_water: Most slots that the worker found waiting.
        worker_sleeps: Whether the worker sleeps now, so that the next command rings a doorbell.
        guest_sleeps: Whether the guest sleeps now, so that the next completion interrupts it.
        commands: Commands carried out.
        commands_per_s: Rate of those.
        kinds_per_s: Rate by command, busiest first, idle ones left out.
        bytes_to_device: Copied from guest to device memory.
        bytes_to_host: Copied back.
        to_device_per_s: Rate in bytes a second.
        to_host_per_s: Rate in bytes a second.
        busy: Part of the time in which the worker carried out commands, 0 to 1.
        errors: Commands that failed.
        last_error: CUresult of the last of them.
        memory_bytes: Device memory held.
        allocations: Allocations of it that are alive.
        modules: Modules loaded.
        registered_bytes: Guest memory that the channel may use.
        doorbells: Rung by the guest, each a trapped write.
        doorbells_per_s: Rate of those.
        waits: Sleeps of the guest, each a system call.
        sleeps: Sleeps of the worker.
        sleeps_per_s: Rate of those.
        interrupts: Signalled to the guest.
        interrupts_per_s: Rate of those.
        counts: Commands carried out by kind, most first.
        refused: Functions answered with CUDA_ERROR_NOT_SUPPORTED, and how often.
    """

    device: str
    channel: int
    process: str
    guest_pid: int
    worker_pid: int
    state: str
    error: int
    head: int
    tail: int
    depth: int
    entries: int
    high_water: int
    worker_sleeps: bool
    guest_sleeps: bool
    commands: int
    commands_per_s: float | None
    kinds_per_s: tuple[tuple[str, float], ...]
    bytes_to_device: int
    bytes_to_host: int
    to_device_per_s: float | None
    to_host_per_s: float | None
    busy: float | None
    errors: int
    last_error: int
    memory_bytes: int
    allocations: int
    modules: int
    registered_bytes: int
    doorbells: int
    doorbells_per_s: float | None
    waits: int
    sleeps: int
    sleeps_per_s: float | None
    interrupts: int
    interrupts_per_s: float | None
    counts: tuple[tuple[str, int], ...]
    refused: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ServerView:
    """One device server with its channels, those in use first."""

    name: str
    pid: int
    executor: str
    devices: int
    connected: int
    register_accesses: int
    resets: int
    channels: tuple[ChannelRow, ...]
    ended: tuple[ChannelRow, ...]


def server_view(name: str, now: Snapshot, before: Snapshot | None = None) -> ServerView:
    """What to show of a server.

    Args:
        name: Name of the server's folder.
        now: Its latest snapshot.
        before: An earlier one, for rates; without it there are none.
    """
    seconds = now["time"] - before["time"] if before else 0.0
    earlier = {_key(channel): channel for channel in _live_channels(before)} if before else {}
    devices = now["devices"]
    return ServerView(
        name=name,
        pid=now["pid"],
        executor=now["executor"],
        devices=len(devices),
        connected=sum(device["connected"] for device in devices),
        register_accesses=sum(device["register_accesses"] for device in devices),
        resets=sum(device["reset_count"] for device in devices),
        channels=tuple(
            _row(
                channel,
                earlier.get(_key(channel)),
                seconds,
                _busy_ns(channel, now) - _busy_ns(earlier.get(_key(channel)), before),
            )
            for channel in _live_channels(now)
        ),
        ended=tuple(_row(channel, None, 0.0, 0) for channel in reversed(now["ended_channels"])),
    )


def _live_channels(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [channel for device in snapshot["devices"] for channel in device["channels"]]


def _key(channel: Mapping[str, Any]) -> tuple[str, int, int]:
    return channel["device"], channel["channel"], channel["worker_pid"]


def _rate(now: int, before: int, seconds: float) -> float | None:
    return max(now - before, 0) / seconds if seconds > 0 else None


def _busy_ns(channel: Mapping[str, Any] | None, snapshot: Snapshot | None) -> int:
    """Time spent on commands up to a snapshot, of the batch that is not done yet as well."""
    if channel is None or snapshot is None:
        return 0
    host = channel["host"]
    since = host["busy_since_ns"]
    return int(host["busy_ns"] + (max(snapshot["monotonic_ns"] - since, 0) if since else 0))


def _row(
    now: Mapping[str, Any], before: Mapping[str, Any] | None, seconds: float, busy_ns: int
) -> ChannelRow:
    ring, host, guest = now["submission_ring"], now["host"], now["guest"]
    total = sum(now["commands"].values())
    commands_per_s = to_device = to_host = doorbells = sleeps = interrupts = busy = None
    kinds: dict[str, float] = {}
    if before and seconds > 0:
        was = before["host"]
        commands_per_s = _rate(total, sum(before["commands"].values()), seconds)
        to_device = _rate(host["bytes_to_device"], was["bytes_to_device"], seconds)
        to_host = _rate(host["bytes_to_host"], was["bytes_to_host"], seconds)
        doorbells = _rate(guest["doorbells"], before["guest"]["doorbells"], seconds)
        sleeps = _rate(host["sleeps"], was["sleeps"], seconds)
        interrupts = _rate(host["interrupts"], was["interrupts"], seconds)
        busy = min(max(busy_ns, 0) / seconds / 1e9, 1.0)
        kinds = {
            kind: (count - before["commands"].get(kind, 0)) / seconds
            for kind, count in now["commands"].items()
            if count > before["commands"].get(kind, 0)
        }
    return ChannelRow(
        device=now["device"],
        channel=now["channel"],
        process=now["guest_process"],
        guest_pid=now["guest_pid"],
        worker_pid=now["worker_pid"],
        state=now["state"],
        error=now["error"],
        head=ring["head"],
        tail=ring["tail"],
        depth=ring["depth"],
        entries=ring["entries"],
        high_water=host["ring_high_water"],
        worker_sleeps=ring["host_sleeps"],
        guest_sleeps=now["completion_ring"]["guest_sleeps"],
        commands=total,
        commands_per_s=commands_per_s,
        kinds_per_s=tuple(sorted(kinds.items(), key=lambda kind: -kind[1])),
        bytes_to_device=host["bytes_to_device"],
        bytes_to_host=host["bytes_to_host"],
        to_device_per_s=to_device,
        to_host_per_s=to_host,
        busy=busy,
        errors=host["errors"],
        last_error=host["last_error"],
        memory_bytes=host["memory_bytes"],
        allocations=host["allocations"],
        modules=host["modules"],
        registered_bytes=host["registered_bytes"],
        doorbells=guest["doorbells"],
        doorbells_per_s=doorbells,
        waits=guest["waits"],
        sleeps=host["sleeps"],
        sleeps_per_s=sleeps,
        interrupts=host["interrupts"],
        interrupts_per_s=interrupts,
        counts=tuple(sorted(now["commands"].items(), key=lambda kind: -kind[1])),
        refused=tuple(sorted(now["refused_functions"].items())),
    )

"""What a device server knows of its devices at one moment, as plain data for people and machines.

Counters of channels are read from shared memory, where guest and worker keep them
(`struct vgpu_guest_counters`, `struct vgpu_host_counters`), so looking costs the data path nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.function_names import FUNCTION_NAMES
from vgpu_stub.device.channels import Channel
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.rings import channel_offset

#: Grows when a field changes its meaning or goes.
SCHEMA_VERSION: Final = 1

Snapshot = dict[str, Any]


def _named(layout: Mapping[str, int], fields: Sequence[int]) -> dict[str, int]:
    return dict(zip(layout, fields, strict=True))


def _refused_functions(gpu: VirtualGpu, channel: int) -> dict[str, int]:
    """Calls that the guest's libraries refused, by name; the guest can write anything there."""
    counters = gpu.read_shared(channel + abi.REFUSED_OFFSET, 4 * abi.REFUSED_ENTRIES)
    refused = {
        FUNCTION_NAMES.get(number, f"function {number}"): count
        for number, count in enumerate(memoryview(counters).cast("I"))
        if count
    }
    size = abi.REFUSED_CALL.size * abi.REFUSED_NAMES
    calls = gpu.read_shared(channel + abi.REFUSED_NAMES_OFFSET, size)
    for name, count in abi.REFUSED_CALL.iter_unpack(calls):
        if count:
            refused[name.split(b"\0", 1)[0].decode(errors="backslashreplace")] = count
    return refused


def channel_snapshot(gpu: VirtualGpu, channel: Channel) -> Snapshot:
    """One channel with its rings and counters."""
    offset = channel_offset(channel.number)
    control = _named(
        abi.CHANNEL_CONTROL_OFFSETS,
        abi.CHANNEL_CONTROL.unpack(
            gpu.read_shared(offset + abi.CONTROL_OFFSET, abi.CHANNEL_CONTROL.size)
        ),
    )
    guest = _named(
        abi.GUEST_COUNTERS_OFFSETS,
        abi.GUEST_COUNTERS.unpack(
            gpu.read_shared(offset + abi.GUEST_COUNTERS_OFFSET, abi.GUEST_COUNTERS.size)
        ),
    )
    host_fields = abi.HOST_COUNTERS.unpack(
        gpu.read_shared(offset + abi.HOST_COUNTERS_OFFSET, abi.HOST_COUNTERS.size)
    )
    commands = host_fields[: abi.OPCODE_COUNT]
    names = list(abi.HOST_COUNTERS_OFFSETS)[1:]
    host = dict(zip(names, host_fields[abi.OPCODE_COUNT :], strict=True))
    return {
        "device": gpu.name,
        "channel": channel.number,
        "state": channel.state.value,
        "guest_pid": channel.pid,
        "guest_process": channel.name,
        "worker_pid": channel.worker.pid,
        "error": control["error"],
        "submission_ring": {
            "head": control["sq_head"],
            "tail": control["sq_tail"],
            "depth": (control["sq_tail"] - control["sq_head"]) & 0xFFFF_FFFF_FFFF_FFFF,
            "entries": abi.SQ_ENTRIES,
            "host_sleeps": bool(control["sq_sleeping"]),
        },
        "completion_ring": {
            "head": control["cq_head"],
            "tail": control["cq_tail"],
            "guest_sleeps": bool(control["cq_waiting"]),
        },
        "commands": {
            abi.COMMANDS[opcode].name: count
            for opcode, count in enumerate(commands)
            if count and opcode in abi.COMMANDS
        },
        "guest": {name: value for name, value in guest.items() if name != "reserved"},
        "host": host,
        "refused_functions": _refused_functions(gpu, offset),
        "registrations": len(channel.registrations),
    }


def device_snapshot(gpu: VirtualGpu) -> Snapshot:
    """One device with its channels."""
    state = gpu.snapshot()
    return {
        "name": state.name,
        "connected": state.connected,
        "enabled": state.enabled,
        "error": state.error,
        "reset_count": state.reset_count,
        "register_accesses": state.register_accesses,
        "dma_windows": state.dma_windows,
        "registers": state.registers,
        "channels": [channel_snapshot(gpu, channel) for channel in state.channels],
    }


def server_snapshot(
    devices: Sequence[VirtualGpu], ended: Iterable[Snapshot], executor: str, pid: int
) -> Snapshot:
    """A device server with its devices; `ended` holds last snapshots of channels that are gone."""
    # In this order a channel that ends meanwhile is in one of the two, or in both, never in none.
    found = [device_snapshot(gpu) for gpu in devices]
    live = {channel["worker_pid"] for device in found for channel in device["channels"]}
    return {
        "schema_version": SCHEMA_VERSION,
        "time": time.time(),
        "monotonic_ns": time.monotonic_ns(),
        "pid": pid,
        "executor": executor,
        "ended_channels": [row for row in list(ended) if row["worker_pid"] not in live],
        "devices": found,
    }

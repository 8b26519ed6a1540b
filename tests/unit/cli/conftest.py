"""Snapshots of a device server as `vgpu_host.snapshot` makes them, with chosen numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Snapshot = dict[str, Any]


def make_channel(
    number: int = 1,
    *,
    commands: dict[str, int] | None = None,
    to_device: int = 0,
    to_host: int = 0,
    **changes: Any,
) -> Snapshot:
    """A channel's snapshot."""
    channel: Snapshot = {
        "device": "gpu0",
        "channel": number,
        "state": "ready",
        "guest_pid": 100 + number,
        "guest_process": "python3",
        "worker_pid": 5000 + number,
        "error": 0,
        "submission_ring": {
            "head": 40,
            "tail": 44,
            "depth": 4,
            "entries": 4096,
            "host_sleeps": False,
        },
        "completion_ring": {"head": 7, "tail": 7, "guest_sleeps": False},
        "commands": commands or {},
        "guest": {
            "submissions": 44,
            "launches": 30,
            "doorbells": 2,
            "waits": 3,
            "ring_full": 0,
            "refused": 0,
            "staged_bytes": 0,
        },
        "host": {
            "bytes_to_device": to_device,
            "bytes_to_host": to_host,
            "errors": 0,
            "last_error": 0,
            "sleeps": 5,
            "interrupts": 6,
            "busy_ns": 1_500_000,
            "busy_since_ns": 0,
            "memory_bytes": 1 << 20,
            "allocations": 2,
            "registered_bytes": 4096,
            "modules": 1,
            "worker_pid": 5000 + number,
            "graph_nodes": 0,
            "graph_kernels": 0,
            "ring_high_water": 0,
        },
        "refused_functions": {},
        "registrations": 1,
    }
    return channel | changes


def make_server(
    *channels: Snapshot, time: float = 100.0, ended: list[Snapshot] | None = None
) -> Snapshot:
    """A server's snapshot with one device."""
    return {
        "schema_version": 1,
        "time": time,
        "monotonic_ns": int(time * 1e9),
        "pid": 4242,
        "executor": "software",
        "ended_channels": ended or [],
        "devices": [
            {
                "name": "gpu0",
                "connected": True,
                "enabled": True,
                "error": 0,
                "reset_count": 1,
                "register_accesses": 87,
                "dma_windows": 3,
                "channels": list(channels),
            }
        ],
    }


@pytest.fixture
def channel() -> Callable[..., Snapshot]:
    return make_channel


@pytest.fixture
def server() -> Callable[..., Snapshot]:
    return make_server

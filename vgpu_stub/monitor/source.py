"""Where a monitor's numbers come from: snapshots of the device servers that run on this machine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vgpu_host import runtime
from vgpu_stub.harness.device_server import DeviceServerError, read_snapshot

Snapshots = dict[Path, dict[str, Any]]
"""By folder of the server."""

Source = Callable[[], Snapshots]
"""Takes snapshots of what is to be watched."""


def take_snapshots(wanted: str | None = None) -> Snapshots:
    """Snapshots of running servers by folder; of `wanted` alone (name or path) where given."""
    snapshots = {}
    for folder in runtime.running_servers():
        if wanted in (None, folder.name, str(folder)):
            # A server may end between being found and being asked.
            with contextlib.suppress(DeviceServerError, json.JSONDecodeError):
                snapshots[folder] = read_snapshot(folder)
    return snapshots

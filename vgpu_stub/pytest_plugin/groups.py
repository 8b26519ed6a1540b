"""How many machines fit into memory, and how tests are put into groups so that no more run.

With `--dist loadgroup` xdist runs the tests of a group in one of its processes, and so with one
machine at a time.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from vgpu_qemu.errors import LauncherError
from vgpu_stub.pytest_plugin.settings import resolve

#: Host memory of a machine besides the guest's: QEMU, device server, worker.
_OVERHEAD_MIB: Final = 512


def group_machines(config: pytest.Config, items: Sequence[pytest.Item], processes: int) -> None:
    """Put tests that want a machine into groups, those of a module into the same.

    Tests that say their own group keep it. Every process of xdist comes to the same groups only if
    it sees the same memory, so what is free now does not count, but what is installed.
    """
    needs = [resolve(config, item.iter_markers("vgpu")).memory + _OVERHEAD_MIB for item in items]
    groups = max(1, min(processes, int(0.75 * _installed_mib()) // max(needs)))
    modules = sorted({item.nodeid.split("::")[0] for item in items})
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            number = modules.index(item.nodeid.split("::")[0]) % groups
            item.add_marker(pytest.mark.xdist_group(f"vgpu-vm-{number}"))


def check_memory(guest_mib: int) -> None:
    """Refuse a machine that does not fit, before it makes this one swap.

    Raises:
        LauncherError: It does not.
    """
    needed, available = guest_mib + _OVERHEAD_MIB, _available_mib()
    if available < needed:
        raise LauncherError(
            f"a machine needs {needed} MiB and this one has {available} MiB left: run fewer tests"
            " at once (pytest -n), or with --dist loadgroup, which keeps machines few"
        )


def _meminfo_mib(name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(match[1]) >> 10 if match else 0


def _group_limit() -> int | None:
    """Limit of this process's control group in bytes; None for none."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    return None


def _installed_mib() -> int:
    limit = _group_limit()
    installed = _meminfo_mib("MemTotal")
    return installed if limit is None else min(installed, limit >> 20)


def _available_mib() -> int:
    """Memory that may still be used: the machine's, or the control group's with its file cache."""
    available = _meminfo_mib("MemAvailable")
    limit = _group_limit()
    if limit is not None:
        group = Path("/sys/fs/cgroup")
        cache = re.search(r"^file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
        used = int((group / "memory.current").read_text()) - int(cache[1] if cache else 0)
        available = min(available, (limit - used) >> 20)
    return available

"""Monitors in a guest, whose device is reset and whose workers die under them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.progress import silent
from vgpu_qemu.vm import Vm
from vgpu_stub.harness.machine import GuestSettings, running_vm

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]

#: Asks NVML now and then, and says each time that the answer's kind changes.
WATCH = """
import ctypes, json, sys, time
nvml = ctypes.CDLL("libnvidia-ml.so.1")
assert nvml.nvmlInit_v2() == 0
handle, memory = ctypes.c_void_p(), (ctypes.c_uint64 * 3)()
assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) == 0
end = time.monotonic() + float(sys.argv[1])
counts = {}
while time.monotonic() < end:
    time.sleep(0.03)
    status = nvml.nvmlDeviceGetMemoryInfo(handle, memory)
    counts[status] = counts.get(status, 0) + 1
assert status == 0, status
print(json.dumps(sorted(counts)))
"""
DEVICE = "/sys/bus/pci/devices/0000:00:05.0"
SUCCESS, GPU_IS_LOST = 0, 15


def guest(vm: Vm, line: str) -> str:
    result = vm.run(line, timeout=90)
    output = (result.stdout + result.stderr).decode(errors="replace")
    assert result.status == 0, f"{line!r} ended with {result.status}: {output}"
    return output.strip()


def test_monitors_outlive_resets_and_see_no_dead_worker(tmp_path: Path) -> None:
    watch = tmp_path / "watch.py"
    watch.write_text(WATCH)
    options = ExecutorOptions("software", memory_bytes=1 << 30)
    with running_vm(options, GuestSettings(), silent) as (vm, server):
        vm.put(watch, "/tmp/watch.py")
        resets = f"for i in 1 2 3 4 5; do echo 1 > {DEVICE}/reset; sleep 0.3; done"
        kinds = guest(vm, f"python3 /tmp/watch.py 4 & {resets}; wait")
        assert set(json.loads(kinds)) <= {SUCCESS, GPU_IS_LOST}
        guest(vm, "python3 /opt/vgpu-stub/workloads/endless.py > /tmp/load 2>&1 &")
        guest(vm, "for i in $(seq 600); do grep -q ready /tmp/load && exit 0; sleep 0.05; done")
        (row,) = [row for device in server.snapshot()["devices"] for row in device["channels"]]
        os.kill(row["worker_pid"], signal.SIGKILL)
        assert guest(vm, "python3 /tmp/watch.py 1") == f"[{SUCCESS}]"
        assert guest(vm, f"cat {DEVICE}/state") == "live"

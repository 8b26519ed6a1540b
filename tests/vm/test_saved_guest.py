"""A guest that was saved after its boot goes on with a device that it had not seen."""

from __future__ import annotations

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.errors import VmError
from vgpu_qemu.progress import silent
from vgpu_stub.harness.ktap import KtapReader, count
from vgpu_stub.harness.machine import GuestSettings, running_vm
from vgpu_stub.harness.smoke import run_smoke

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]

OPTIONS = ExecutorOptions("software", memory_bytes=64 << 20)


@pytest.mark.parametrize("time", ["first", "second"])
def test_device_and_cuda_work_in_a_saved_guest(time: str) -> None:
    settings = GuestSettings(saved=True, timeout=200)
    with running_vm(OPTIONS, settings, silent) as (vm, server):
        line = "cat /sys/bus/pci/devices/0000:00:05.0/state; stat -c %G /dev/vgpu0; uname -r"
        state, group, release = vm.run(line).check().stdout.decode().split()
        assert (state, group) == ("live", "render")
        assert release.startswith("6.12")
        results = run_smoke(vm, "vector_add or test_ring or interrupt", reader=KtapReader())
        counts = count(results)
        assert counts["passed"] >= 15
        assert counts["failed"] == 0, [result for result in results if result.outcome == "failed"]
        assert server.snapshot()["devices"]


def test_a_saved_guest_has_the_time_and_randomness_of_its_own() -> None:
    said = []
    for _ in range(2):
        with running_vm(OPTIONS, GuestSettings(saved=True, timeout=200), silent) as (vm, _server):
            said.append(vm.run("od -An -N16 -x /dev/urandom; date +%s").check().stdout.split())
    assert said[0][:8] != said[1][:8]
    assert int(said[0][8]) <= int(said[1][8])


def test_root_ports_cannot_be_saved() -> None:
    settings = GuestSettings(saved=True, root_port=True)
    with (
        pytest.raises(VmError, match="root ports has no saved state"),
        running_vm(OPTIONS, settings, silent),
    ):
        pass

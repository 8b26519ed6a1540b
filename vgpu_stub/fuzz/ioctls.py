"""The target `ioctls`: the guest's kernel driver, raced by threads inside a machine.

The program that does it is guest/cuda/tests/fuzz/ioctls.c. It boots a machine, lets threads loose,
and then asks what must hold: the kernel has reported nothing, every call ended, every channel and
every page is given back, and the device works for the next program.
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.kernels import DEFAULT_KERNEL
from vgpu_qemu.progress import Progress, silent
from vgpu_qemu.vm import Vm
from vgpu_stub.harness.build import GUEST, BuildError
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.kernel_log import find_problems
from vgpu_stub.harness.machine import GUEST_FILES, GuestSettings, running_vm

_PROGRAM: Final = "/tmp/fuzz-ioctls"
_MEMORY_BYTES: Final = 256 << 20
#: What threads may still need once they have been told to stop, and a slow machine.
_GRACE_S: Final = 180.0
_DEVICE: Final = "/sys/bus/pci/devices/0000:00:05.0"
_RELEASED: Final = (
    f"for i in $(seq 600); do [ $(cat {_DEVICE}/registered_bytes) = 0 ] &&"
    f" grep -q '^0/' {_DEVICE}/channels && exit 0; sleep 0.05; done;"
    f" cat {_DEVICE}/registered_bytes {_DEVICE}/channels; exit 1"
)
#: A context, memory, and everything given back again, as the next program would do it.
_WORKS: Final = f"""cd {GUEST_FILES}/smoke && python3 -c '
import vgpu_abi as abi
from vgpu_channel import Channel
with Channel() as channel:
    (context, *_) = channel.call(abi.Opcode.CONTEXT_CREATE, 0, 0).result
    made = channel.call(abi.Opcode.MEMORY_ALLOCATE, 4096, context=context)
    assert made.status == 0, made
    freed = channel.call(abi.Opcode.MEMORY_FREE, made.result[0], context=context)
    assert freed.status == 0, freed
'"""
_KCOV: Final = "test -e /sys/kernel/debug/kcov"
_RATE: Final = re.compile(r"(\d+) cases in \d+ s \((\d+) cases a second\)")


@dataclass(frozen=True)
class IoctlSettings:
    """What a campaign in a guest does: `threads` race for `seconds`."""

    seed: int
    seconds: float = 30.0
    threads: int = 4
    kernel: str = DEFAULT_KERNEL
    cpus: int = 2


@dataclass(frozen=True)
class IoctlResult:
    """What came of it.

    Attributes:
        settings: What was asked for.
        cases: System calls and accesses.
        rate: Of them in a second.
        table: How many of each kind.
        failures: What must not be; empty when all is well.
        coverage: Whether the kernel could count coverage (CONFIG_KCOV).
    """

    settings: IoctlSettings
    cases: int
    rate: int
    table: str
    failures: tuple[str, ...]
    coverage: bool

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "target": "ioctls",
            "seed": self.settings.seed,
            "kernel": self.settings.kernel,
            "operations": self.cases,
            "operations_per_second": self.rate,
            "kcov": self.coverage,
            "findings": list(self.failures),
        }

    def __str__(self) -> str:
        shown = "\n".join(self.failures) or "no failure"
        return (
            f"{self.table}\nioctls: {self.cases} cases, {self.rate} a second, kernel "
            f"{self.settings.kernel}, seed {self.settings.seed}: {shown}"
        )


def build_program() -> Path:
    """The program for the guest, built where its source is newer.

    Raises:
        BuildError: It does not build.
    """
    folder = GUEST / "cuda"
    command = ["make", "-s", "-C", str(folder), "build/fuzz/ioctls"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"the ioctl fuzzer does not build:\n{done.stdout}{done.stderr}")
    return folder / "build" / "fuzz" / "ioctls"


def fuzz_ioctls(settings: IoctlSettings, progress: Progress = silent) -> IoctlResult:
    """Boot a machine, and fuzz its driver.

    Raises:
        LauncherError: The machine could not be started, or died.
        BuildError: Something for the guest does not build.
    """
    program = build_program()
    options = ExecutorOptions("software", memory_bytes=_MEMORY_BYTES, threads=1, watchdog_s=1.0)
    guest = GuestSettings(settings.kernel, cpus=settings.cpus)
    with running_vm(options, guest, progress) as (vm, server):
        return fuzz_guest(vm, server, program, settings)


def fuzz_guest(vm: Vm, server: DeviceServer, program: Path, settings: IoctlSettings) -> IoctlResult:
    """Fuzz the driver of a machine that runs."""
    vm.put(program, _PROGRAM)
    before = len(_kernel_log(vm))
    done = vm.run(
        [_PROGRAM, str(settings.seconds), str(settings.threads), str(settings.seed)],
        timeout=settings.seconds + _GRACE_S,
    )
    output = (done.stdout + done.stderr).decode(errors="replace").rstrip()
    failures = [line for line in output.splitlines() if line.startswith("WEDGED")]
    if done.status and not failures:
        failures.append(f"the fuzzer ended with {done.status}: {output[-500:]}")
    log = _kernel_log(vm)[before:]
    failures += [f"{problem}\n{problem.report}" for problem in find_problems(log)]
    failures += _not_released(vm, server)
    works = vm.run(_WORKS, timeout=_GRACE_S)
    if works.status:
        failures.append(f"the device does not work afterwards:\n{works.stderr.decode()[-2000:]}")
    counted = _RATE.search(output)
    cases, rate = (int(counted[1]), int(counted[2])) if counted else (0, 0)
    coverage = vm.run(_KCOV).status == 0
    return IoctlResult(settings, cases, rate, output, tuple(failures), coverage)


def _kernel_log(vm: Vm) -> str:
    return vm.run("dmesg").stdout.decode(errors="replace")


def _not_released(vm: Vm, server: DeviceServer) -> list[str]:
    found = []
    held = vm.run(_RELEASED, timeout=_GRACE_S)
    if held.status:
        found.append(f"the driver holds what nobody has open: {held.stdout.decode().split()}")
    deadline = time.monotonic() + 20
    while channels := [row for one in server.snapshot()["devices"] for row in one["channels"]]:
        if time.monotonic() > deadline:
            found.append(f"the host holds channels that nobody has open: {channels}")
            break
        time.sleep(0.05)
    return found

"""Lies to the kernel driver, in a VM: bound to the device for each lie, used, unbound and examined.

The kernel has the strictest checks that Debian's kernels have (docs/villain-device.md). One boot
serves many lies: the device tells the truth while nobody is bound. What the kernel reports of
itself fails the lie; a machine that does not come back is replaced.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.errors import LauncherError
from vgpu_qemu.kernels import find_kernel
from vgpu_qemu.overlay import OverlayFile
from vgpu_qemu.progress import Progress, silent
from vgpu_qemu.vm import CommandTimeoutError, Vm, VmConfig
from vgpu_stub.harness import build
from vgpu_stub.harness.kernel_log import find_problems
from vgpu_stub.harness.machine import GUEST_FILES, GUEST_LIBRARIES
from vgpu_stub.vfio_user import Server
from vgpu_stub.villain.device.liar import LyingGpu
from vgpu_stub.villain.device.library import PROGRAM, Told, judge
from vgpu_stub.villain.device.lie import Case, Lie, Target
from vgpu_stub.villain.device.result import Result
from vgpu_stub.villain.device.suite import skipped
from vgpu_stub.villain.device.workers import LyingWorkers
from vgpu_stub.villain.registry import Verdict

#: What Debian's kernels can check, beyond what they always do. 6.1 has no KFENCE and ignores it.
KERNEL_ARGUMENTS: Final = (
    "slub_debug=FZPU",
    "init_on_free=1",
    "kfence.sample_interval=1",
    "hung_task_panic=0",
    "sysctl.kernel.hung_task_timeout_secs=15",
    "sysctl.kernel.panic_on_oops=0",
)
_DEVICE_BYTES: Final = 64 << 20
_ADDRESS: Final = "0000:00:05.0"
#: Time limits of the driver in milliseconds: a suite cannot wait as long as a machine can.
_PARAMETERS: Final = "admin_timeout_ms=400 create_timeout_ms=800 unregister_timeout_ms=800"
#: After the program's own time the guest is asked whether it is still there.
_GRACE_S: Final = 30.0
_ANSWER_S: Final = 30.0
_MARK: Final = "== kernel =="
_SETUP: Final = f"""
mount -t debugfs none /sys/kernel/debug 2>/dev/null
insmod {GUEST_FILES}/vgpu_stub.ko {_PARAMETERS} &&
echo {_ADDRESS} > /sys/bus/pci/drivers/vgpu_stub/unbind && dmesg -C
"""
_SCRIPT: Final = """
drivers=/sys/bus/pci/drivers/vgpu_stub
device=/sys/bus/pci/devices/{address}
[ -e $drivers/{address} ] || echo {address} > $drivers/bind
echo call bind $?
if [ -e $drivers/{address} ]; then
    echo {seconds} - | timeout -s KILL {limit} {program} || echo end signal 9
    cat $device/* > /dev/null 2>&1
    echo 1 > $device/interrupt_test
    echo 1 > $device/reset
    echo call reset $?
    echo {address} > $drivers/unbind
else
    echo end exit 0
fi
echo {mark}
dmesg -c
"""
#: What the module has allocated and not freed, as SLUB knows it: cache, number, caller.
_ALLOCATIONS: Final = r"""
cd /sys/kernel/debug/slab || exit 1
for cache in kmalloc-*; do
    awk -v cache=$cache '/^ *[0-9]+ /{n = $1} /\[vgpu_stub\]/{if (n) {print cache, n, $1; n = 0}}' \
        $cache/alloc_traces
done
"""
#: Reading every allocation of a kernel takes long under emulation.
_ALLOCATIONS_S: Final = 180.0


@dataclass(frozen=True)
class GuestOptions:
    """The machine in which the driver runs.

    Attributes:
        kernel: A series of Debian's kernels, or the path of an image.
        accel: As `VmConfig` has it.
    """

    kernel: str = "6.12"
    accel: str = "auto"


class DriverVictim:
    """The kernel driver as victim, in a machine of its own; a context manager."""

    def __init__(self, options: GuestOptions, progress: Progress = silent) -> None:
        self._options = options
        self._progress = progress
        self._stack = contextlib.ExitStack()
        self._machine = contextlib.ExitStack()
        #: Machines started, the first included.
        self.boots = 0

    def __enter__(self) -> Self:
        executor = ExecutorOptions("software", memory_bytes=_DEVICE_BYTES, threads=1)
        self._workers = LyingWorkers(executor)
        self._folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vgpu-liar"))
        )
        self._files = self._guest_files()
        try:
            self._boot()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def try_case(self, case: Case, seed: int, round_number: int = 0) -> Result:
        """Tell a lie and judge what came of it."""
        result = skipped(case, Target.DRIVER, round_number)
        if result:
            return result
        start = monotonic()
        try:
            told, log = self.tell(case.lie(seed, round_number), case.seconds)
            verdict, text = judge(case, told)
            problems = find_problems(log)
            if problems:
                verdict = Verdict.FAIL
                text = "\n".join(problem.report for problem in problems)
        except CommandTimeoutError:
            verdict, text = self._examine(case)
        except LauncherError as error:
            verdict, text = Verdict.WEDGED, f"the machine ended: {error}"
            self._boot()
        seconds = monotonic() - start
        return Result(case.id, case.section, Target.DRIVER, round_number, verdict, text, seconds)

    def tell(self, lie: Lie, seconds: float) -> tuple[Told, str]:
        """Bind the driver to a device that tells a lie, use it and unbind it.

        Returns:
            What the program said, and the kernel's messages.

        Raises:
            CommandTimeoutError: The guest's side did not come back.
            LauncherError: The machine ended.
        """
        self._device.tell(lie)
        try:
            script = _SCRIPT.format(
                address=_ADDRESS,
                seconds=max(1, round(seconds)),
                limit=round(seconds + 5),
                program=f"{GUEST_FILES}/{PROGRAM}",
                mark=_MARK,
            )
            done = self._vm.run(script, timeout=seconds + _GRACE_S)
        finally:
            self._device.tell(Lie())
        said, _, log = done.stdout.decode(errors="replace").partition(_MARK)
        told = Told()
        for line in said.splitlines():
            told.take(line)
        return told, log

    def finish(self) -> Result:
        """Whether the module holds more now than after it had been used once."""
        start = monotonic()
        try:
            grown = self._allocations() - self._held
        except LauncherError as error:
            verdict, text = Verdict.WEDGED, f"the guest does not say what is allocated: {error}"
        else:
            verdict = Verdict.FAIL if grown else Verdict.PASS
            text = "; ".join(f"{count} more of {caller}" for caller, count in grown.items())
        return Result("memory-kept", "4", Target.DRIVER, 0, verdict, text, monotonic() - start)

    def lines(self, command: str) -> Sequence[str]:
        """Lines of what a command prints in the guest."""
        return self._vm.run(command, timeout=_ANSWER_S).stdout.decode(errors="replace").splitlines()

    def _allocations(self) -> Counter[str]:
        done = self._vm.run(_ALLOCATIONS, timeout=_ALLOCATIONS_S).check()
        held: Counter[str] = Counter()
        for line in done.stdout.decode(errors="replace").splitlines():
            cache, count, caller = line.split()
            held[f"{cache} from {caller}"] += int(count)
        return held

    def _examine(self, case: Case) -> tuple[Verdict, str]:
        """What became of a guest whose command did not come back; it is replaced."""
        try:
            log = "\n".join(self.lines("dmesg -c"))
        except (CommandTimeoutError, LauncherError) as error:
            text = f"the guest does not answer any more: {error}"
        else:
            text = "the guest answers, but the driver did not come back"
            for problem in find_problems(log):
                text += f"\n{problem.report}"
        self._boot()
        return Verdict.WEDGED, text

    def _guest_files(self) -> list[OverlayFile]:
        libraries = build.cuda_libraries()
        program = build.test_program(PROGRAM)
        module = build.driver(find_kernel(self._options.kernel, progress=self._progress))
        return [
            *(
                OverlayFile(path, f"{GUEST_LIBRARIES}/{path.name}")
                for path in libraries.glob("*.so*")
            ),
            OverlayFile(program, f"{GUEST_FILES}/{PROGRAM}"),
            OverlayFile(module, f"{GUEST_FILES}/vgpu_stub.ko"),
        ]

    def _boot(self) -> None:
        self._machine.close()
        self._workers.lie = Lie()
        self._device = LyingGpu(self._workers, Lie())
        self._machine.callback(self._device.close)
        socket = self._folder / f"device{self.boots}.sock"
        self._machine.enter_context(Server(socket, lambda: self._device, max_clients=1))
        self.boots += 1
        config = VmConfig(
            kernel=self._options.kernel,
            image="base",
            accel=self._options.accel,
            memory_mib=768,
            vfio_user_sockets=[socket],
            overlay=self._files,
            kernel_arguments=KERNEL_ARGUMENTS,
        )
        self._vm = self._machine.enter_context(Vm(config, progress=self._progress))
        self._vm.run(_SETUP, timeout=_ANSWER_S).check()
        self.tell(Lie(), _GRACE_S)
        self._held = self._allocations()

    def _close(self) -> None:
        self._machine.close()
        self._stack.close()

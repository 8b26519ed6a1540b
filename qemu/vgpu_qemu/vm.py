"""A virtual machine from start to end: `with Vm(VmConfig(...)) as vm: vm.run(["true"])`.

Entering prepares what the machine needs (fetching and building what the cache lacks), starts QEMU
and waits for the agent in the guest. Leaving, by whatever way, ends QEMU and its helpers and
removes their files. Anything that goes wrong is reported with the guest's last console lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import signal
import socket
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType

from vgpu_qemu.accelerator import Accelerator, choose_accelerator, host_facts, remembered_trial
from vgpu_qemu.agent_client import (
    AgentClient,
    AgentGoneError,
    CommandResult,
    CommandTimeoutError,
    OutputCallback,
)
from vgpu_qemu.binary import QemuBinary, find_qemu
from vgpu_qemu.boot_image import boot_image
from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.command_line import Machine, build_command
from vgpu_qemu.console import last_lines
from vgpu_qemu.errors import VmError, VmTimeoutError
from vgpu_qemu.image import RootImage, build_root_image, image_tools
from vgpu_qemu.initrd import build_initrd
from vgpu_qemu.kernels import DEFAULT_KERNEL, Kernel, find_kernel
from vgpu_qemu.overlay import OverlayFile, build_overlay
from vgpu_qemu.private_directory import private_directory, runtime_parent
from vgpu_qemu.process import ChildProcess
from vgpu_qemu.progress import Progress, silent
from vgpu_qemu.qmp_control import QmpControl
from vgpu_qemu.saved_guest import INCOMING, RESUME, restore, save
from vgpu_qemu.shared_folder import serve_folder, virtiofsd_command
from vgpu_qemu.terminal import run_on_terminal

_SHUTDOWN_SECONDS = 10.0
_RUNTIME_PREFIX = "vgpu-stub-vm-"


@dataclass(frozen=True)
class VmConfig:
    """What a virtual machine is to be.

    Attributes:
        kernel: A series such as `6.12`, or the path of a kernel image.
        image: A variant of the guest image: `cuda` or `base`.
        memory_mib: Guest memory in MiB.
        cpus: Number of virtual processors.
        accel: `auto`, `kvm` or `tcg`.
        cpu_model: QEMU's name of the processor to show; by default the fastest to emulate that has
            x86-64-v2 (no AVX), or the machine's own with KVM.
        vfio_user_sockets: Sockets of running device servers; the first device is 0000:00:05.0.
        drivers: Kernel modules of this kernel that the guest loads at start, in this order.
        overlay: Files and directories of this machine that the guest is to have.
        shared_folder: A folder that the guest sees at `/mnt/host`.
        boot_timeout: Seconds until the guest must be ready.
        timeout: Seconds that the machine may live; None for no limit.
        console_log: Where to keep the console log; without it, it goes with the machine.
        kernel_arguments: Added to the kernel's command line.
        root_port: Put each device behind a PCI Express root port of its own, `port0` and so on, so
            that its errors can be reported (AER); the first device is then 0000:01:00.0.
        saved: Start from the state of such a guest after its boot, which is saved at first use. Not
            with a shared folder or root ports.
    """

    kernel: str = DEFAULT_KERNEL
    image: str = "cuda"
    memory_mib: int = 1024
    cpus: int = 2
    accel: str = "auto"
    cpu_model: str | None = None
    vfio_user_sockets: Sequence[Path] = ()
    drivers: Sequence[Path] = ()
    overlay: Sequence[OverlayFile] = ()
    shared_folder: Path | None = None
    boot_timeout: float = 90.0
    timeout: float | None = None
    console_log: Path | None = None
    kernel_arguments: Sequence[str] = ()
    root_port: bool = False
    saved: bool = False


@dataclass(frozen=True)
class VmParts:
    """What a machine is made of, found or built before it starts."""

    qemu: QemuBinary
    kernel: Kernel
    image: RootImage
    boot_image: Path
    initrd: Path
    accelerator: Accelerator


def prepare(
    config: VmConfig, *, cache: Cache | None = None, progress: Progress = silent
) -> VmParts:
    """Find, fetch and build all that a machine needs; instant when the cache has everything.

    Raises:
        LauncherError: Something could not be had; says what and what to do.
    """
    cache = cache or Cache()
    qemu = find_qemu(cache=cache, progress=progress)
    kernel = find_kernel(config.kernel, cache=cache, progress=progress)
    image_tools(cache, progress)
    image = build_root_image(config.image, cache=cache, progress=progress)
    shared = config.shared_folder is not None
    if shared:
        virtiofsd_command(cache, progress)
    initrd = build_initrd(kernel, image.busybox, shared_folder=shared, cache=cache)
    trial = remembered_trial(qemu, kernel.vmlinuz, cache)
    accelerator = choose_accelerator(config.accel, host_facts(), trial)
    boot = boot_image(kernel, cache=cache, progress=progress)
    return VmParts(qemu, kernel, image, boot, initrd, accelerator)


class Vm:
    """A virtual machine; a context manager that may be entered once.

    Args:
        config: What it is to be.
        cache: Where its parts are kept.
        progress: Told about long steps.
    """

    def __init__(
        self, config: VmConfig, *, cache: Cache | None = None, progress: Progress = silent
    ) -> None:
        self.config = config
        self.boot_facts: dict[str, float] = {}
        self._cache = cache or Cache()
        self._progress = progress
        self._resources = contextlib.ExitStack()
        self._process: ChildProcess | None = None
        self._agent: AgentClient | None = None
        self._qmp: QmpControl | None = None
        self._console: Path | None = None
        self._expired = False

    def __enter__(self) -> Vm:
        """Start the machine and wait until it takes commands.

        Raises:
            LauncherError: It could not be prepared or did not start; nothing is left behind.
        """
        try:
            self._resources.enter_context(_termination_as_exception())
            self._start()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the machine at once and remove what belonged to it."""
        self._resources.close()

    @property
    def pid(self) -> int:
        """The process id of QEMU."""
        return self._running_process.pid

    @property
    def running(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.running

    @property
    def qmp(self) -> QmpControl:
        """The QMP connection to QEMU.

        Raises:
            VmError: The machine is not running.
        """
        if self._qmp is None:
            raise VmError("the virtual machine is not running")
        return self._qmp

    def console_lines(self, count: int = 20) -> list[str]:
        """Return the last lines of the guest's console."""
        return last_lines(self._console, count) if self._console else []

    def run(
        self,
        command: Sequence[str] | str,
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes = b"",
        on_stdout: OutputCallback | None = None,
        on_stderr: OutputCallback | None = None,
    ) -> CommandResult:
        """Run a command in the guest, as root, and return its exit status and output.

        Args:
            command: A program with its arguments, or a line for `sh -c`.
            timeout: Seconds after which it is killed with all of its process group.
            env: Variables added to the guest's plain environment.
            cwd: Working directory; `/root` if not given.
            stdin: Its standard input.
            on_stdout: Takes standard output as it comes, instead of the result.
            on_stderr: Takes standard error as it comes, instead of the result.

        Raises:
            CommandTimeoutError: It did not end in time; the machine goes on.
            GuestError: It could not be started.
            VmError: The machine ended meanwhile.
        """
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        with self._explained():
            return self._running_agent.run(
                argv,
                timeout=timeout,
                env=env,
                cwd=cwd,
                stdin=stdin,
                on_stdout=on_stdout,
                on_stderr=on_stderr,
            )

    def shell(self, command: Sequence[str] = ("bash", "-l"), **env: str) -> int:
        """Run an interactive program on this process's terminal; returns its exit status.

        Raises:
            VmError: The machine ended meanwhile.
        """
        with self._explained():
            return run_on_terminal(self._running_agent, list(command), env)

    def put(self, source: Path, target: str) -> None:
        """Copy a file or a directory of this machine to a path in the guest.

        Raises:
            GuestError: The guest could not store it.
            VmError: The machine ended meanwhile.
        """
        path = shlex.quote(target)
        if source.is_dir():
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                tar.add(source, arcname=".")
            self.run(f"mkdir -p {path} && tar -xf - -C {path}", stdin=buffer.getvalue()).check()
            return
        mode = f"{source.stat().st_mode & 0o777:o}"
        line = f'mkdir -p "$(dirname {path})" && cat > {path} && chmod {mode} {path}'
        self.run(line, stdin=source.read_bytes()).check()

    def get(self, source: str, target: Path) -> None:
        """Copy a file or a directory of the guest to a path on this machine.

        Raises:
            GuestError: The guest could not read it.
            VmError: The machine ended meanwhile.
        """
        path = shlex.quote(source)
        if self.run(["test", "-d", source]).status == 0:
            data = self.run(f"tar -cf - -C {path} .").check().stdout
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                tar.extractall(target, filter="data")
            return
        target.write_bytes(self.run(["cat", source]).check().stdout)

    def shutdown(self, timeout: float = _SHUTDOWN_SECONDS) -> None:
        """Let the guest end its programs and switch off, then wait for QEMU's end.

        Raises:
            VmTimeoutError: QEMU still ran after `timeout` seconds; leaving the block ends it.
        """
        self._running_agent.power_off()
        if not self._running_process.wait(timeout):
            raise VmTimeoutError(
                f"the guest did not switch off within {timeout:g} s", self.console_lines()
            )

    def _start(self) -> None:
        parts = prepare(self.config, cache=self._cache, progress=self._progress)
        if parts.accelerator.reason:
            self._progress(parts.accelerator.reason, None)
        directory = self._resources.enter_context(
            private_directory(runtime_parent(), _RUNTIME_PREFIX)
        )
        self._console = directory / "console.log"
        if self.config.console_log:
            self._resources.callback(_keep_log, self._console, self.config.console_log)
        overlay = directory / "overlay.erofs"
        build_overlay(overlay, self.config.overlay, self.config.drivers, self._cache)
        saved = self._saved_guest(parts, overlay)
        shared = None
        if self.config.shared_folder:
            server = serve_folder(self.config.shared_folder, directory, self._cache)
            shared = self._resources.enter_context(server)
        qmp_ours, qmp_theirs = socket.socketpair()
        agent_ours, agent_theirs = socket.socketpair()
        with qmp_theirs, agent_theirs:
            command = build_command(
                Machine(
                    command=parts.qemu.command,
                    accelerator=parts.accelerator.name,
                    cpu_model=self.config.cpu_model,
                    cpus=self.config.cpus,
                    memory_mib=self.config.memory_mib,
                    kernel=parts.boot_image,
                    initrd=parts.initrd,
                    root_image=parts.image.path,
                    overlay_image=overlay,
                    console_log=self._console,
                    qmp_descriptor=qmp_theirs.fileno(),
                    agent_descriptor=agent_theirs.fileno(),
                    vfio_user_sockets=self.config.vfio_user_sockets,
                    virtiofs_socket=shared,
                    kernel_arguments=self.config.kernel_arguments,
                    root_port=self.config.root_port,
                )
            )
            if saved:
                command += INCOMING
            self._process = ChildProcess(
                "QEMU",
                command,
                log=directory / "qemu.log",
                environment=parts.qemu.environment,
                descriptors=[qmp_theirs.fileno(), agent_theirs.fileno()],
            )
        self._resources.callback(self._process.stop, 0)
        self._limit_life()
        self._agent = AgentClient(agent_ours)
        self._resources.callback(self._agent.close)
        with self._explained():
            self._qmp = QmpControl(qmp_ours, timeout=self.config.boot_timeout)
            self._resources.callback(self._qmp.close)
            if saved:
                self._resume(saved)
            else:
                self._await_ready()

    def _saved_guest(self, parts: VmParts, overlay: Path) -> Path | None:
        """The state to start from, saved when there is none; None for a machine that boots."""
        config = self.config
        if not config.saved:
            return None
        if config.shared_folder or config.root_port:
            raise VmError("a machine with a shared folder or root ports has no saved state")
        files = [parts.boot_image, parts.initrd, parts.image.path]
        machine = [config.cpus, config.memory_mib, config.cpu_model, *config.kernel_arguments]
        facts = [parts.qemu.version, parts.accelerator.name, *machine, *map(str, files)]

        def build(path: Path) -> None:
            self._progress("booting a guest to save it", None)
            plain = replace(
                config, saved=False, vfio_user_sockets=(), timeout=None, console_log=None
            )
            with Vm(plain, cache=self._cache, progress=self._progress) as vm:
                save(vm.qmp, path)

        return self._cache.get("guest", content_key(facts, overlay), build)

    def _resume(self, state: Path) -> None:
        """Go on where a saved guest stood, with this machine's devices."""
        start = time.monotonic()
        restore(self.qmp, state, self.config.boot_timeout)
        environment = {"NOW": f"{time.time():.3f}"}
        self._running_agent.reseed(os.urandom(64))
        line = ["sh", "-c", RESUME]
        done = self._running_agent.run(line, timeout=self.config.boot_timeout, env=environment)
        done.check()
        self.boot_facts = {"uptime": round(time.monotonic() - start, 3)}

    def _await_ready(self) -> None:
        try:
            self.boot_facts = self._running_agent.wait_ready(self.config.boot_timeout)
        except TimeoutError:
            raise VmTimeoutError(
                f"the guest was not ready within {self.config.boot_timeout:g} s",
                self.console_lines(),
            ) from None

    def _limit_life(self) -> None:
        if self.config.timeout is None:
            return
        timer = threading.Timer(self.config.timeout, self._expire)
        timer.daemon = True
        timer.start()
        self._resources.callback(timer.cancel)

    def _expire(self) -> None:
        self._expired = True
        self._running_process.stop(0)

    @property
    def _running_process(self) -> ChildProcess:
        if self._process is None:
            raise VmError("the virtual machine has not been started")
        return self._process

    @property
    def _running_agent(self) -> AgentClient:
        if self._agent is None:
            raise VmError("the virtual machine has not been started")
        return self._agent

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn "the connection broke" into what happened to the machine."""
        try:
            yield
        except VmTimeoutError:
            raise
        except (AgentGoneError, VmError) as error:
            raise self._death(error) from error

    def _death(self, error: Exception) -> VmError:
        process = self._running_process
        process.wait(2.0)
        console = self.console_lines()
        if self._expired:
            return VmTimeoutError(
                f"the virtual machine reached its time limit of {self.config.timeout:g} s", console
            )
        if process.running:
            return VmError(str(error), console)
        if process.exit_status == 0:
            return VmError("the guest ended by itself: power-off, reboot or kernel panic", console)
        return VmError(process.describe_end(), console)


def _keep_log(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _termination_as_exception() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, so that they too leave nothing behind.

    Only where nobody else has taken these signals, and in the main thread.
    """
    signals = (signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    taken = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


__all__ = ["CommandResult", "CommandTimeoutError", "Vm", "VmConfig", "VmParts", "prepare"]

"""Boots a virtual machine with the device, for commands and tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.errors import LauncherError
from vgpu_qemu.kernels import DEFAULT_KERNEL, find_kernel
from vgpu_qemu.overlay import OverlayFile
from vgpu_qemu.progress import Progress
from vgpu_qemu.vm import Vm, VmConfig
from vgpu_stub.abi import generated
from vgpu_stub.faults import Rule
from vgpu_stub.harness.build import GUEST, cuda_libraries, driver, workloads
from vgpu_stub.harness.device_server import DeviceServer, DeviceServerError

#: Where the guest finds our CUDA libraries: the loader looks there without running ldconfig.
GUEST_LIBRARIES: Final = "/usr/lib/x86_64-linux-gnu"
#: Where the guest finds smoke tests and workloads.
GUEST_FILES: Final = "/opt/vgpu-stub"


@dataclass(frozen=True)
class GuestSettings:
    """What a command says about the virtual machine.

    `drivers` are the kernel modules that the guest loads at start; None for ours.
    """

    kernel: str = DEFAULT_KERNEL
    accel: str = "auto"
    cpus: int = 2
    memory_mib: int = 1024
    share: Path | None = None
    console_log: Path | None = None
    timeout: float | None = None
    identity: str | None = None
    image: str = "cuda"
    faults: tuple[Rule, ...] = ()
    record: Path | None = None
    kernel_arguments: tuple[str, ...] = ()
    boot_timeout: float = 90.0
    drivers: tuple[Path, ...] | None = None
    #: Put the device behind a PCI Express root port; see `VmConfig`.
    root_port: bool = False
    #: Start from a saved guest instead of booting; see `VmConfig`.
    saved: bool = False


def guest_files(libraries: Path) -> list[OverlayFile]:
    """What the guest gets besides its image: libraries, smoke tests, workloads."""
    files = [
        OverlayFile(path, f"{GUEST_LIBRARIES}/{path.name}") for path in libraries.glob("*.so*")
    ]
    workloads()
    for name in ("smoke", "workloads"):
        files.append(OverlayFile(GUEST / name, f"{GUEST_FILES}/{name}"))
    files.append(OverlayFile(Path(generated.__file__), f"{GUEST_FILES}/smoke/vgpu_abi.py"))
    return files


@contextmanager
def running_vm(
    options: ExecutorOptions, settings: GuestSettings, progress: Progress
) -> Iterator[tuple[Vm, DeviceServer]]:
    """Build what is missing, start a device server and boot a machine with the device.

    Raises:
        LauncherError: The machine could not be prepared or started.
        BuildError: The driver or the libraries could not be built.
        DeviceServerError: The device server did not start, or ended and took QEMU with it.
    """
    libraries = cuda_libraries()
    drivers = settings.drivers
    if drivers is None:
        drivers = (driver(find_kernel(settings.kernel, progress=progress)),)
    with DeviceServer(
        options,
        shared=True,
        identity=settings.identity,
        faults=settings.faults,
        record=settings.record,
    ) as server:
        config = VmConfig(
            kernel=settings.kernel,
            image=settings.image,
            accel=settings.accel,
            cpus=settings.cpus,
            memory_mib=settings.memory_mib,
            vfio_user_sockets=[server.device_socket],
            drivers=drivers,
            overlay=guest_files(libraries),
            shared_folder=settings.share,
            timeout=settings.timeout,
            console_log=settings.console_log,
            kernel_arguments=settings.kernel_arguments,
            boot_timeout=settings.boot_timeout,
            root_port=settings.root_port,
            saved=settings.saved,
        )
        with Vm(config, progress=progress) as vm:
            try:
                yield vm, server
            except LauncherError as error:
                # QEMU notices a server's end before the server is quite gone.
                if not server.ends_within(2.0):
                    raise
                raise DeviceServerError(
                    "the device server ended, and QEMU cannot go on with another one:"
                    f" {error}\n{server.log_tail()}".rstrip()
                ) from error

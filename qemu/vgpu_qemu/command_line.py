"""The QEMU command line of a virtual machine, as a pure function of what was decided before.

Nothing is looked up or created here, so that a test can compare the whole list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgpu_qemu.agent_protocol import PORT_NAME

DEVICE_ADDRESS = "05.0"
"""Where the first VGPU-STUB device sits: 0000:00:05.0; further ones follow in the next slots."""

ROOT_PORT_DEVICE_ADDRESS = "0000:01:00.0"
"""Where the first device sits behind a root port, which the firmware makes bus 1."""

SHARED_FOLDER_PATH = "/mnt/host"
"""Where the guest finds the shared folder."""

_EMULATED_CPU = "Nehalem,+rdrand,+rdseed"
"""Measured under TCG: with `max`, Python in the guest is 1.3 times slower (emulated AVX in the C
library, five-level page tables); without rdrand, booting waits for entropy."""

_KERNEL_ARGUMENTS = (
    "console=ttyS0",
    "quiet",
    "loglevel=4",
    "panic=-1",
    "mitigations=off",
    "no_timer_check",
    "tsc=reliable",
    "rcupdate.rcu_expedited=1",
    "random.trust_cpu=on",
    "cryptomgr.notests",
    "audit=0",
    "net.ifnames=0",
)


@dataclass(frozen=True)
class Machine:
    """Everything that QEMU is told.

    Attributes:
        command: How QEMU itself is started.
        accelerator: `kvm` or `tcg`.
        cpu_model: QEMU's name of the processor to show; None for the default.
        cpus: Number of virtual processors.
        memory_mib: Guest memory in MiB.
        kernel: The kernel image.
        initrd: The initial RAM disk.
        root_image: The root file system.
        overlay_image: The layer on top of it.
        console_log: Where the guest's serial console is written.
        qmp_descriptor: An inherited socket for QMP.
        agent_descriptor: An inherited socket for the guest agent.
        vfio_user_sockets: One device server each.
        virtiofs_socket: The shared folder's server, if there is one.
        kernel_arguments: Added to the kernel's command line.
        root_port: Put each device behind a PCI Express root port of its own, `port0` and so on,
            which has link registers and reports errors (AER).
    """

    command: Sequence[str]
    accelerator: str
    cpu_model: str | None
    cpus: int
    memory_mib: int
    kernel: Path
    initrd: Path
    root_image: Path
    overlay_image: Path
    console_log: Path
    qmp_descriptor: int
    agent_descriptor: int
    vfio_user_sockets: Sequence[Path] = ()
    virtiofs_socket: Path | None = None
    kernel_arguments: Sequence[str] = ()
    root_port: bool = False


def build_command(machine: Machine) -> list[str]:
    """Return the command line that runs the machine."""
    memory = f"memory-backend-memfd,id=mem,size={machine.memory_mib}M,share=on"
    return [
        *machine.command,
        "-name",
        "vgpu-stub",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-nographic",
        *("-machine", "q35,memory-backend=mem,vmport=off,hpet=off,usb=off,smbus=off,sata=off"),
        *_accelerator(machine),
        *("-smp", str(machine.cpus)),
        *("-m", str(machine.memory_mib)),
        *("-object", memory),
        *("-kernel", str(machine.kernel)),
        *("-initrd", str(machine.initrd)),
        *("-append", _kernel_command_line(machine)),
        *_console(machine),
        *_control(machine),
        *_disk("root", machine.root_image),
        *_disk("overlay", machine.overlay_image),
        *_shared_folder(machine),
        *_vfio_user(machine),
    ]


def _accelerator(machine: Machine) -> list[str]:
    if machine.accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", machine.cpu_model or "host"]
    return ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", machine.cpu_model or _EMULATED_CPU]


def _kernel_command_line(machine: Machine) -> str:
    arguments = list(_KERNEL_ARGUMENTS)
    if machine.virtiofs_socket:
        arguments.append(f"vgpu_stub.shared={SHARED_FOLDER_PATH}")
    return " ".join([*arguments, *machine.kernel_arguments])


def _console(machine: Machine) -> list[str]:
    return [
        *("-chardev", f"file,id=console,path={_escaped(machine.console_log)}"),
        *("-serial", "chardev:console"),
    ]


def _control(machine: Machine) -> list[str]:
    return [
        *("-chardev", f"socket,id=qmp,fd={machine.qmp_descriptor}"),
        *("-qmp", "chardev:qmp"),
        *("-chardev", f"socket,id=agent,fd={machine.agent_descriptor}"),
        *("-device", "virtio-serial-pci"),
        *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
    ]


def _disk(name: str, image: Path) -> list[str]:
    drive = f"if=none,id={name},file={_escaped(image)},format=raw,read-only=on,file.locking=off"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name}"]


def _shared_folder(machine: Machine) -> list[str]:
    if machine.virtiofs_socket is None:
        return []
    return [
        *("-chardev", f"socket,id=shared,path={_escaped(machine.virtiofs_socket)}"),
        *("-device", "vhost-user-fs-pci,chardev=shared,tag=shared"),
    ]


def _vfio_user(machine: Machine) -> list[str]:
    slot, function = (int(part, 16) for part in DEVICE_ADDRESS.split("."))
    options: list[str] = []
    for number, path in enumerate(machine.vfio_user_sockets):
        place: dict[str, object] = {"addr": f"{slot + number:02x}.{function}"}
        if machine.root_port:
            port = {
                "driver": "pcie-root-port",
                "id": f"port{number}",
                "chassis": number + 1,
                **place,
            }
            options += ["-device", json.dumps(port)]
            place = {"bus": f"port{number}", "addr": "00.0"}
        device = {
            "driver": "vfio-user-pci",
            "id": f"vgpu{number}",
            **place,
            "socket": {"type": "unix", "path": str(path)},
        }
        options += ["-device", json.dumps(device)]
    return options


def _escaped(path: Path) -> str:
    """Return a path for use in a comma-separated QEMU option."""
    return str(path).replace(",", ",,")

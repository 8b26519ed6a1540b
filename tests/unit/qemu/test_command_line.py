"""The QEMU command line, compared whole with golden files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from vgpu_qemu.command_line import Machine, build_command

GOLDEN = Path(__file__).parent / "golden"

PLAIN = Machine(
    command=["qemu-system-x86_64"],
    accelerator="tcg",
    cpu_model=None,
    cpus=2,
    memory_mib=1024,
    kernel=Path("/cache/vmlinux"),
    initrd=Path("/cache/initrd"),
    root_image=Path("/cache/root.erofs"),
    overlay_image=Path("/run/overlay.erofs"),
    console_log=Path("/run/console.log"),
    qmp_descriptor=7,
    agent_descriptor=9,
)


def lines(machine: Machine) -> str:
    """Return the command line with each option on a line of its own, as the golden files have."""
    text = ""
    for word in build_command(machine):
        text += f"\n{word}" if word.startswith("-") else f" {word}"
    return text.lstrip() + "\n"


def test_emulated_machine_without_devices() -> None:
    assert lines(PLAIN) == (GOLDEN / "tcg.txt").read_text()


def test_kvm_machine_with_two_devices_and_a_shared_folder() -> None:
    machine = dataclasses.replace(
        PLAIN,
        accelerator="kvm",
        cpus=4,
        memory_mib=4096,
        vfio_user_sockets=[Path("/run/a.sock"), Path("/run/b.sock")],
        virtiofs_socket=Path("/run/virtiofs.sock"),
        kernel_arguments=["dyndbg=+p"],
    )
    assert lines(machine) == (GOLDEN / "kvm-devices-shared.txt").read_text()


def test_first_device_is_at_slot_5_and_memory_is_shared() -> None:
    machine = dataclasses.replace(PLAIN, vfio_user_sockets=[Path("/run/a.sock")])
    command = build_command(machine)
    device = command[command.index("-device", command.index("virtio-blk-pci,drive=overlay")) + 1]
    assert device == (
        '{"driver": "vfio-user-pci", "id": "vgpu0", "addr": "05.0", '
        '"socket": {"type": "unix", "path": "/run/a.sock"}}'
    )
    assert "memory-backend-memfd,id=mem,size=1024M,share=on" in command


def test_a_root_port_takes_the_place_of_the_device_that_is_put_behind_it() -> None:
    machine = dataclasses.replace(
        PLAIN, vfio_user_sockets=[Path("/run/a.sock"), Path("/run/b.sock")], root_port=True
    )
    devices = [json.loads(word) for word in build_command(machine) if word.startswith("{")]
    assert [(device["id"], device.get("bus"), device["addr"]) for device in devices] == [
        ("port0", None, "05.0"),
        ("vgpu0", "port0", "00.0"),
        ("port1", None, "06.0"),
        ("vgpu1", "port1", "00.0"),
    ]


def test_chosen_processor_replaces_the_default() -> None:
    command = build_command(dataclasses.replace(PLAIN, cpu_model="max"))
    assert command[command.index("-cpu") + 1] == "max"


def test_commas_in_paths_are_escaped() -> None:
    command = build_command(dataclasses.replace(PLAIN, console_log=Path("/run/a,b.log")))
    assert "file,id=console,path=/run/a,,b.log" in command

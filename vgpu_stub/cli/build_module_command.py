"""`vgpu-stub build-module`: builds somebody's kernel module for a guest kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgpu_qemu.kernels import DEFAULT_KERNEL, find_kernel
from vgpu_qemu.progress import console_progress
from vgpu_stub.harness.build import own_modules


def build_module_command(
    folder: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="Sources with a Kbuild or a Makefile."),
    ],
    kernel: Annotated[
        list[str] | None,
        typer.Option(help="Guest kernel: 6.1, 6.12 or 7.2 (Debian's); may be given several times."),
    ] = None,
) -> None:
    """Build a kernel module for guests, with the headers of their kernel.

    Prints the path of each module: FOLDER/build/RELEASE/NAME.ko. Nothing else is written to the
    folder. Sources may include vgpu_stub_abi.h, the device's registers and structures.

    Examples:

        vgpu-stub build-module examples/first-driver

        vgpu-stub build-module my_driver --kernel 6.1 --kernel 7.2
    """
    for name in kernel or [DEFAULT_KERNEL]:
        with console_progress() as progress:
            found = find_kernel(name, progress=progress)
        for module in own_modules(folder, found):
            print(module)

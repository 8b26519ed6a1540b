"""The initial RAM disk: busybox, the modules that reach the root file system, and `init`.

Modules are stored uncompressed in the order in which they must be loaded, since decompressing and
resolving dependencies in an emulated guest would cost more than the larger file.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.cpio import CpioWriter
from vgpu_qemu.errors import ImageError
from vgpu_qemu.guest_files import image_file
from vgpu_qemu.kernels import Kernel

MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "erofs", "overlay")
SHARED_FOLDER_MODULES = ("virtiofs",)
_APPLETS = "sh mount insmod mkdir ifconfig hostname chown chroot sleep switch_root"
_DIRECTORIES = "dev proc sys image overlay memory root modules"


def build_initrd(kernel: Kernel, busybox: Path, *, shared_folder: bool, cache: Cache) -> Path:
    """Return the initial RAM disk for a kernel, building it when the cache lacks it.

    Args:
        kernel: A kernel with modules; a local image must have everything built in.
        busybox: A statically linked busybox.
        shared_folder: Whether the guest mounts a folder of this machine.
        cache: Where it is kept.
    """
    wanted = [*MODULES, *(SHARED_FOLDER_MODULES if shared_folder else ())]
    init = image_file("initramfs-init")
    key = content_key(kernel.release, str(kernel.modules_dir), wanted, init, busybox)

    def build(path: Path) -> None:
        with path.open("wb") as file:
            archive = CpioWriter(file)
            for name in _DIRECTORIES.split():
                archive.directory(name)
            archive.character_device("dev/console", 5, 1)
            archive.file("init", init.read_bytes(), 0o755)
            archive.file("bin/busybox", busybox.read_bytes(), 0o755)
            for name in _APPLETS.split():
                archive.link(f"bin/{name}", "busybox")
            modules = load_order(kernel.modules_dir, wanted) if kernel.modules_dir else {}
            for name, data in modules.items():
                archive.file(f"modules/{name}.ko", data)
            archive.file("modules/order", "".join(f"{name}.ko\n" for name in modules).encode())
            archive.close()

    return cache.get("initrd", key, build)


def load_order(modules_dir: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """Return modules and their dependencies by name, each after what it depends on.

    What a module depends on stands in the module itself. One that the kernel has built in needs no
    file and is left out.

    Raises:
        ImageError: The kernel has no such module.
    """
    files = {_module_name(path.name): path for path in modules_dir.glob("kernel/**/*.ko*")}
    built_in = {
        _module_name(Path(line).name)
        for line in (modules_dir / "modules.builtin").read_text().split()
    }
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in order or name in built_in:
            return
        if name not in files:
            raise ImageError(f"the kernel in {modules_dir} has no module {name}")
        data = read_module(files[name])
        found = re.search(rb"\0depends=([^\0]*)\0", data)
        for needed in found.group(1).decode().split(",") if found else []:
            if needed:
                add(_module_name(needed))
        order[name] = data

    for name in wanted:
        add(name)
    return order


def _module_name(file_name: str) -> str:
    return file_name.split(".ko")[0].replace("-", "_")


def read_module(path: Path) -> bytes:
    """Return a module's bytes, decompressed."""
    if path.suffix == ".ko":
        return path.read_bytes()
    done = subprocess.run(["xz", "-dc", str(path)], capture_output=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout

"""Builds what runs in the guest: the CUDA libraries and the driver, cached by their content."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from vgpu_host.nvrtc import NvrtcError, compile_ptx
from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.debian_package import build_package
from vgpu_qemu.kernels import SUPPORTED, Kernel, find_kernel
from vgpu_qemu.progress import console_progress
from vgpu_qemu.vm import VmConfig, prepare

ROOT: Final = Path(__file__).resolve().parents[2]
GUEST: Final = ROOT / "guest"
DRIVER_NAME: Final = "vgpu_stub.ko"

#: Grows when the way of building changes, so that older cache entries are left alone.
_RECIPE: Final = 1


class BuildError(Exception):
    """Something for the guest could not be built; the text has the end of the build's output."""


def _make(arguments: Sequence[str], what: str) -> None:
    if not shutil.which("make") or not shutil.which("gcc"):
        raise BuildError(f"{what} needs make and gcc: apt-get install make gcc")
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["make", "--silent", f"-j{os.cpu_count()}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        output = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise BuildError(f"{what} could not be built (`{' '.join(command)}`):\n{output}")


def cuda_libraries() -> Path:
    """Folder with our CUDA libraries, built where something has changed.

    Raises:
        BuildError: This is no checkout, or the build failed.
    """
    source = GUEST / "cuda"
    if not source.is_dir():
        raise BuildError(f"the CUDA libraries are built from a checkout; {source} is missing")
    with Cache().lock("cuda-libraries"):
        _make(["-C", str(source)], "the CUDA library")
    return source / "build"


def test_program(name: str) -> Path:
    """A test program of the CUDA libraries, which it finds beside its folder.

    Raises:
        BuildError: This is no checkout, or the build failed.
    """
    libraries = cuda_libraries()
    with Cache().lock("cuda-libraries"):
        _make(["-C", str(GUEST / "cuda"), f"build/tests/{name}"], f"the program {name}")
    return libraries / "tests" / name


def sanitized_libraries(*programs: str) -> Path:
    """Folder with our CUDA libraries built with ASan and UBSan, and some of their test programs.

    Raises:
        BuildError: This is no checkout, or the build failed.
    """
    cuda_libraries()
    source = GUEST / "cuda"
    target = source / "build" / "sanitize"
    wanted = " ".join(["all", *(f"build/sanitize/tests/{name}" for name in programs)])
    with Cache().lock("cuda-libraries"):
        _make(["-C", str(source), "sanitize", f"SANITIZED={wanted}"], "the checked CUDA library")
    return target


def workloads() -> Path:
    """Folder with the workloads' kernels as PTX, compiled where a source is newer.

    Raises:
        BuildError: A kernel does not compile.
    """
    source = GUEST / "workloads"
    target = source / "build"
    target.mkdir(exist_ok=True)
    for kernel in sorted((source / "kernels").glob("*.cu")):
        ptx = target / f"{kernel.stem}.ptx"
        if ptx.exists() and ptx.stat().st_mtime >= kernel.stat().st_mtime:
            continue
        try:
            text = compile_ptx(kernel.read_text(), name=kernel.name)
        except NvrtcError as error:
            raise BuildError(f"{kernel.name}: {error}") from error
        partial = ptx.with_suffix(f".{os.getpid()}")
        partial.write_bytes(text.rstrip(b"\0"))
        partial.rename(ptx)
    return target


def driver(kernel: Kernel) -> Path:
    """The guest driver for a kernel, built where the cache lacks it.

    Raises:
        BuildError: The kernel has no headers, or the build failed.
    """
    headers = kernel.headers_dir
    if headers is None:
        raise BuildError(
            f"there are no headers of kernel {kernel.release} to build the driver with"
        )
    sources = GUEST / "driver"
    inputs = sorted(path for path in sources.iterdir() if path.suffix in {".c", ".h"})
    inputs += [sources / "Kbuild", sources / "Makefile", *sorted((GUEST / "include").iterdir())]

    def build(target: Path) -> None:
        work = target.parent / "driver"
        include = target.parent / "include"
        work.mkdir()
        include.mkdir()
        for path in inputs:
            shutil.copy(path, include if path.parent.name == "include" else work)
        _make(["-C", str(work), f"KDIR={headers}"], f"the driver for {kernel.release}")
        target.mkdir()
        shutil.copy(work / DRIVER_NAME, target / DRIVER_NAME)

    key = content_key(_RECIPE, kernel.release, str(headers), *inputs)
    return Cache().get("driver", key, build) / DRIVER_NAME


def own_modules(folder: Path, kernel: Kernel) -> list[Path]:
    """Kernel modules built for a guest kernel from somebody's sources, next to those.

    The folder is one that `make -C KERNEL M=FOLDER` builds. It stays as it is, but for the modules
    in `build/RELEASE`; sources may include the ABI's headers.

    Args:
        folder: With sources and a Kbuild or a Makefile.
        kernel: The kernel that is to load them.

    Raises:
        BuildError: The kernel has no headers, the folder no Kbuild, or the build failed.
    """
    if kernel.headers_dir is None:
        raise BuildError(f"there are no headers of kernel {kernel.release} to build a module with")
    if not any((folder / name).is_file() for name in ("Kbuild", "Makefile")):
        raise BuildError(f"{folder} has neither a Kbuild nor a Makefile that says what to build")
    target = folder / "build" / kernel.release
    with TemporaryDirectory(prefix="vgpu-module-") as temporary:
        work = Path(temporary) / folder.absolute().name
        shutil.copytree(folder, work, ignore=shutil.ignore_patterns("build", ".*", "*.o", "*.ko"))
        include = f"KCFLAGS=-I{GUEST / 'include'}"
        _make(
            ["-C", str(kernel.headers_dir), f"M={work}", include, "modules"],
            f"the module in {folder} for {kernel.release}",
        )
        modules = sorted(work.glob("*.ko"))
        if not modules:
            raise BuildError(f"the Kbuild of {folder} names no module (obj-m)")
        target.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(module, target / module.name)) for module in modules]


def guests() -> None:
    """Fill the cache with all that virtual machines need, for every kernel and image.

    Raises:
        LauncherError: Something could not be fetched or built.
        BuildError: A driver could not be built.
    """
    with console_progress() as progress:
        for name in SUPPORTED:
            prepare(VmConfig(kernel=name), progress=progress)
            driver(find_kernel(name, progress=progress))
        prepare(VmConfig(image="base", shared_folder=ROOT), progress=progress)


def debian_package(folder: Path = ROOT / "dist") -> Path:
    """Our CUDA libraries as a Debian package in a folder.

    Raises:
        BuildError: The libraries could not be built.
        PackageError: The package could not be written.
    """
    return build_package(cuda_libraries(), ROOT / "LICENSE", version("vgpu-stub"), folder)


if __name__ == "__main__":
    if sys.argv[1:] == ["deb"]:
        print(debian_package().relative_to(Path.cwd()))
    else:
        workloads()
        if sys.argv[1:] == ["guests"]:
            guests()

"""Guest kernels: Debian's cloud kernels with modules and headers, or a local image.

A Debian kernel is fetched as packages and unpacked in the cache. Its headers are relocated there,
so that `make -C HEADERS M=... modules` builds a driver with this machine's own compiler and without
anything installed. `python -m vgpu_qemu.kernels fetch 6.1` prints where they are.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.errors import KernelError, LauncherError
from vgpu_qemu.packages import BOOKWORM, TRIXIE, TRIXIE_BACKPORTS, Archive
from vgpu_qemu.progress import Progress, console_progress, silent
from vgpu_qemu.runtime import fetch_runtime, runs_here, wrap_program

DEFAULT_KERNEL = "6.12"
SUPPORTED = {"6.1": BOOKWORM, "6.12": TRIXIE, "7.2": TRIXIE_BACKPORTS}
_LAYOUT = 1
"""Raised when the way a kernel is unpacked changes, so that old cache entries are left alone."""


_COMPILER_FEATURES = {
    "CC_HAS_MIN_FUNCTION_ALIGNMENT": ("-fmin-function-alignment=16", ""),
    "CC_HAS_ASSUME": ("", "void f(int x) { __attribute__((__assume__(x > 0))); }"),
    "CC_HAS_COUNTED_BY": ("", "struct s { int n; int v[] __attribute__((counted_by(n))); };"),
}
"""Options that Debian's compiler for a kernel may have and this machine's may lack: how to ask."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that a VM can boot.

    Attributes:
        release: What `uname -r` prints in the guest.
        vmlinuz: The compressed image.
        modules_dir: The directory with `kernel/` and `modules.*`; None for a local image.
        headers_dir: Usable as `make -C headers_dir M=... modules`; None for an image alone.
    """

    release: str
    vmlinuz: Path
    modules_dir: Path | None = None
    headers_dir: Path | None = None


def find_kernel(
    name: str = DEFAULT_KERNEL,
    *,
    cache: Cache | None = None,
    refresh: bool = False,
    progress: Progress = silent,
) -> Kernel:
    """Return a kernel, fetching it when the cache lacks it.

    Args:
        name: A series of `SUPPORTED`, or the path of a `bzImage` or of a built kernel tree.
        cache: Where kernels are kept.
        refresh: Look for a newer release of the series instead of using the one known here.
        progress: Told about downloads.

    Raises:
        KernelError: The name is no known series and no kernel image.
        PackageError: The packages could not be had.
    """
    if name in SUPPORTED:
        return _debian_kernel(name, cache or Cache(), refresh, progress)
    if Path(name).is_dir():
        return kernel_tree(Path(name))
    if "/" in name or Path(name).is_file():
        return local_kernel(Path(name))
    raise KernelError(
        f"unknown kernel {name!r}: use {', '.join(SUPPORTED)}, or the path of an image or a tree"
    )


def local_kernel(path: Path) -> Kernel:
    """Return a kernel from an image file on this machine.

    Raises:
        KernelError: The file is missing or no x86 boot image.
    """
    try:
        with path.open("rb") as file:
            head = file.read(0x1000)
            if head[0x202:0x206] != b"HdrS":
                raise KernelError(f"{path} is no Linux x86 boot image (bzImage)")
            file.seek(int.from_bytes(head[0x20E:0x210], "little") + 0x200)
            release = file.read(128).split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")
    except OSError as error:
        raise KernelError(f"kernel image {path}: {error.strerror}") from error
    return Kernel(release, path.absolute())


def kernel_tree(tree: Path) -> Kernel:
    """Return the kernel that was built in a source tree; drivers are built against the tree.

    What the root file system needs must be built in, as no modules are installed.

    Raises:
        KernelError: Nothing was built there.
    """
    image = tree / "arch/x86/boot/bzImage"
    symbols = tree / "Module.symvers"
    for path in (image, symbols):
        if not path.is_file():
            raise KernelError(
                f"{tree} has no {path.relative_to(tree)}: build it with `make bzImage modules`"
            )
    return replace(local_kernel(image), headers_dir=tree.absolute())


def newest(names: Sequence[str]) -> str:
    """Return the name with the highest version numbers in it."""
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def _debian_kernel(series: str, cache: Cache, refresh: bool, progress: Progress) -> Kernel:
    answer = f"kernel-{series}-{_LAYOUT}"
    known = None if refresh else cache.recall(answer)
    if known and (cache.path("kernel", known["key"])).exists():
        return _kernel_at(cache.path("kernel", known["key"]), known["release"])
    archive = Archive(SUPPORTED[series], cache=cache, progress=progress)
    release = _release(archive, series)
    packages = _packages(archive, release)
    key = f"{release}-{content_key(_LAYOUT, packages)}"

    def build(directory: Path) -> None:
        archive.unpack(packages, directory, what=f"kernel {release}")
        _relocate(directory, cache.path("kernel", key), release, cache, progress)

    entry = cache.get("kernel", key, build)
    cache.remember(answer, {"release": release, "key": key})
    return _kernel_at(entry, release)


def _release(archive: Archive, series: str) -> str:
    pattern = rf"linux-image-{re.escape(series)}\.\d+[\w+.~-]*?-cloud-amd64"
    names = archive.names(pattern)
    if not names:
        raise KernelError(f"no cloud kernel {series} in {', '.join(archive.suites.names)}")
    return newest(names).removeprefix("linux-image-")


def _packages(archive: Archive, release: str) -> list[str]:
    """Name the packages with the image, modules, headers and build tools, with versions."""
    image = f"linux-image-{release}"
    headers = f"linux-headers-{release}"
    parts = [name for name in archive.depends(image) if name.endswith(f"-{release}")]
    build_parts = [
        name
        for name in archive.depends(headers)
        if re.match(r"linux-(kbuild-|headers-.*-common$)", name)
    ]
    names = sorted({image, headers, *parts, *build_parts})
    return [f"{name}={archive.version(name)}" for name in names]


def _kernel_at(entry: Path, release: str) -> Kernel:
    modules = next(
        path
        for path in (entry / "lib/modules" / release, entry / "usr/lib/modules" / release)
        if (path / "kernel").is_dir()
    )
    vmlinuz = next(
        path for path in (entry / f"boot/vmlinuz-{release}", modules / "vmlinuz") if path.is_file()
    )
    return Kernel(release, vmlinuz, modules, entry / f"usr/src/linux-headers-{release}")


def _relocate(directory: Path, final: Path, release: str, cache: Cache, progress: Progress) -> None:
    """Make the headers usable from `final`, where `directory` is going to be renamed to."""
    headers = directory / f"usr/src/linux-headers-{release}"
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{final}/usr/src/"))
    variables = headers / ".kernelvariables"
    text = re.sub(r"^CC = .*$", "CC = $(CROSS_COMPILE)gcc", variables.read_text(), flags=re.M)
    variables.write_text(re.sub(r"^override CROSS_COMPILE.*$", "", text, flags=re.M))
    _adapt_to_compiler(headers)
    _adapt_build_tools(directory, final, cache, progress)


def _adapt_to_compiler(headers: Path) -> None:
    """Drop from the configuration what this machine's tools may lack and no module needs.

    The layout of every structure stays: type information for BPF is dropped for make only, which
    would otherwise want pahole.
    """
    auto_conf = headers / "include/config/auto.conf"
    text = re.sub(r"^CONFIG_DEBUG_INFO_BTF(_MODULES)?=y\n", "", auto_conf.read_text(), flags=re.M)
    text = re.sub(r"^CONFIG_PAHOLE_VERSION=.*$", "CONFIG_PAHOLE_VERSION=0", text, flags=re.M)
    autoconf_h = headers / "include/generated/autoconf.h"
    c_text = autoconf_h.read_text()
    for option, sample in _COMPILER_FEATURES.items():
        if not _compiles(sample):
            text = text.replace(f"CONFIG_{option}=y\n", "")
            c_text = c_text.replace(f"#define CONFIG_{option} 1\n", "")
    auto_conf.write_text(text)
    autoconf_h.write_text(c_text)


def _compiles(sample: tuple[str, str]) -> bool:
    flags, source = sample
    done = subprocess.run(
        ["gcc", "-Werror", *flags.split(), "-x", "c", "-c", "-o", "/dev/null", "-"],
        input=source,
        text=True,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _adapt_build_tools(directory: Path, final: Path, cache: Cache, progress: Progress) -> None:
    """Let build tools that need a newer C library than this machine's run with their own."""
    programs = [path for path in directory.glob("usr/lib/linux-kbuild-*/**/*") if _is_elf(path)]
    foreign = [path for path in programs if not runs_here(path)]
    if not foreign:
        return
    archive = Archive(TRIXIE, cache=cache, progress=progress)
    libraries = ["libelf1t64", "libssl3t64", "zlib1g"]
    runtime = fetch_runtime("kernel-build-tools", libraries, archive, cache)
    for path in foreign:
        wrap_program(path, runtime, final / path.relative_to(directory))


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF" and os.access(path, os.X_OK)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch kernels from the command line and print where their parts are."""
    parser = argparse.ArgumentParser(prog="python -m vgpu_qemu.kernels", description=main.__doc__)
    parser.add_argument("action", choices=["fetch", "headers"], help="print all parts, or headers")
    parser.add_argument("kernel", nargs="+", help=f"one of {', '.join(SUPPORTED)}, or an image")
    parser.add_argument("--refresh", action="store_true", help="look for newer releases")
    options = parser.parse_args(arguments)
    try:
        for name in options.kernel:
            with console_progress() as progress:
                kernel = find_kernel(name, refresh=options.refresh, progress=progress)
            if options.action == "headers":
                print(kernel.headers_dir or "")
            else:
                print(
                    f"release {kernel.release}\nvmlinuz {kernel.vmlinuz}\n"
                    f"modules {kernel.modules_dir}\nheaders {kernel.headers_dir}"
                )
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

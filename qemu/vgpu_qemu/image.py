"""The guest's root file system: a small Debian, built without installing or running anything in it.

Packages are unpacked, never configured: no maintainer script runs, so no privilege, chroot or
emulation is needed and the same package versions give the same image. What scripts would have made
(accounts, alternatives, library cache, compiled Python) is made here. The image is a read-only
EROFS without compression, because decompressing is what an emulated guest is slowest at.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.errors import ImageError
from vgpu_qemu.guest_files import image_file
from vgpu_qemu.packages import SID, TRIXIE, Archive, Suites
from vgpu_qemu.progress import Progress, silent
from vgpu_qemu.pycuda_wheel import pycuda_key, pycuda_packages
from vgpu_qemu.runtime import Runtime, fetch_runtime
from vgpu_qemu.wheels import GUEST_WHEELS, wheel_packages

_BASE_PACKAGES = [
    "base-files",
    "base-passwd",
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "kmod",
    "less",
    "libc-bin",
    "mawk",
    "mount",
    "pciutils",
    "procps",
    "python3",
    "sed",
    "strace",
    "tar",
    "udev",
    "util-linux",
]
_CUDA_PACKAGES = [
    "python3-mako",
    "python3-numpy",
    "python3-platformdirs",
    "python3-pytest",
    "python3-pytest-timeout",
    "python3-pyudev",
    "python3-typing-extensions",
]
_LLM_PACKAGES = [
    "libggml0",
    "llama.cpp-tests",
    "llama.cpp-tools",
    "python3-numpy",
]


@dataclass(frozen=True)
class Variant:
    """What one kind of guest holds.

    Attributes:
        packages: Packages that come with all that they depend on.
        suites: Where they come from.
        alone: Packages that come without what they depend on.
        with_pycuda: Whether pycuda is built for it.
    """

    packages: Sequence[str]
    suites: Suites = TRIXIE
    alone: Sequence[str] = ()
    with_pycuda: bool = False


VARIANTS = {
    "base": Variant(_BASE_PACKAGES),
    "cuda": Variant([*_BASE_PACKAGES, *_CUDA_PACKAGES], with_pycuda=True),
    # What the CUDA backend of GGML depends on is NVIDIA's libraries, and ours take their place.
    "llm": Variant([*_BASE_PACKAGES, *_LLM_PACKAGES], SID, alone=["libggml0-backend-cuda"]),
}
"""What a guest can hold: `base` has a shell and Python; `cuda` also numpy, pytest and pycuda; `llm`
has llama.cpp with its CUDA backend and tests, as Debian's unstable release builds them."""

_RECIPE = 3
"""Raised when the way of building changes, so that the cache builds anew."""

_TOOLS = ["erofs-utils", "lz4", "zstd"]
_UNWANTED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/bash-completion",
    "usr/share/lintian",
    "usr/share/zsh",
    "usr/lib/systemd",
    "usr/lib/udev/hwdb.d",
    "usr/lib/python3/dist-packages/numpy/[!_]*/**/tests",  # numpy.testing needs _core/tests
    "usr/lib/python3.[0-9]*/test",
    "usr/lib/python3.[0-9]*/idlelib",
    "usr/lib/python3.[0-9]*/lib2to3",
    "usr/lib/python3.[0-9]*/turtledemo",
)
_ALTERNATIVES = {
    "usr/bin/awk": "mawk",
    "usr/bin/pager": "less",
    "usr/sbin/udevd": "../bin/udevadm",
    "usr/bin/test-backend-ops": "../libexec/x86_64-linux-gnu/ggml/test-backend-ops",
    "usr/lib/x86_64-linux-gnu/libblas.so.3": "blas/libblas.so.3",
    "usr/lib/x86_64-linux-gnu/liblapack.so.3": "lapack/liblapack.so.3",
}
_IMAGE_UUID = "2f0f6f6c-7667-7075-8073-747562000001"
_EPOCH = "1700000000"
"""Time stamp of every file, so that equal contents give equal images."""


@dataclass(frozen=True)
class RootImage:
    """A root file system ready to boot.

    Attributes:
        path: The EROFS image.
        busybox: A static busybox of the same packages, for the initial RAM disk.
    """

    path: Path
    busybox: Path


def image_tools(cache: Cache, progress: Progress = silent) -> Runtime:
    """Return the programs that make images and unpack kernels, from a fixed Debian release."""
    return fetch_runtime(
        "image-tools", _TOOLS, Archive(TRIXIE, cache=cache, progress=progress), cache
    )


def build_root_image(
    variant: str = "cuda", *, cache: Cache | None = None, progress: Progress = silent
) -> RootImage:
    """Return the root image of a variant, building it when the cache lacks it.

    Raises:
        ImageError: The variant is unknown or a step failed.
        PackageError: Packages could not be had.
    """
    cache = cache or Cache()
    if variant not in VARIANTS:
        raise ImageError(f"unknown image {variant!r}: use one of {', '.join(VARIANTS)}")
    content = VARIANTS[variant]
    recipe = content_key(
        _RECIPE,
        [content.packages, content.alone, content.suites.names, _UNWANTED, _ALTERNATIVES],
        image_file("rootfs"),
        [pycuda_key(), GUEST_WHEELS] if content.with_pycuda else "",
    )
    answer = f"image-{variant}-{recipe}"
    known = cache.recall(answer)
    if known is None or not cache.path("image", known).exists():
        archive = Archive(content.suites, cache=cache, progress=progress)
        closure = archive.closure(content.packages)
        closure += [f"{name}={archive.version(name)}" for name in content.alone]
        known = f"{variant}-{content_key(closure, recipe)}"

        def build(entry: Path) -> None:
            entry.mkdir()
            with cache.scratch() as scratch:
                tree = scratch / "root"
                archive.unpack(closure, tree, what=f"guest image {variant!r}")
                if content.with_pycuda:
                    site = tree / "usr/lib/python3/dist-packages"
                    for packages in (pycuda_packages, wheel_packages):
                        shutil.copytree(packages(cache, progress), site, dirs_exist_ok=True)
                shutil.copy2(tree / "usr/bin/busybox", entry / "busybox")
                progress(f"finishing guest image {variant!r}", None)
                finish_tree(tree)
                make_erofs(tree, entry / "root.erofs", cache, progress)

        cache.get("image", known, build)
        cache.remember(answer, known)
    entry = cache.path("image", known)
    return RootImage(entry / "root.erofs", entry / "busybox")


def image_tree(
    variant: str = "cuda", *, cache: Cache | None = None, progress: Progress = silent
) -> Path:
    """Return the files of a variant's root image in a directory, for programs without a VM.

    Raises:
        ImageError: The variant is unknown or a step failed.
        PackageError: Packages could not be had.
    """
    cache = cache or Cache()
    image = build_root_image(variant, cache=cache, progress=progress)
    tools = image_tools(cache, progress)

    def extract(entry: Path) -> None:
        progress(f"unpacking image {variant!r}", None)
        command = [*tools.command(tools.root / "usr/bin/fsck.erofs"), f"--extract={entry}"]
        command += ["--no-preserve-owner", str(image.path)]
        run_step(command, f"unpacking image {variant!r}")

    return cache.get("tree", image.path.parent.name, extract)


def finish_tree(tree: Path) -> None:
    """Do in an unpacked root what packages' scripts would have done, and drop what is not used."""
    for pattern in _UNWANTED:
        for path in list(tree.glob(pattern)):
            shutil.rmtree(path)
    for name, target in _ALTERNATIVES.items():
        if (tree / name).parent.joinpath(target).exists() and not (tree / name).exists():
            (tree / name).symlink_to(target)
    shutil.copytree(image_file("rootfs"), tree, dirs_exist_ok=True)
    (tree / "etc/machine-id").write_text("uninitialized\n")
    python = (tree / "usr/bin/python3").resolve().name
    run_step(
        [
            *Runtime(tree).command(tree / "usr/bin" / python),
            *("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
            *("-s", str(tree), "-p", "/"),
            *(str(tree / "usr/lib" / python), str(tree / "usr/lib/python3/dist-packages")),
        ],
        "compiling Python modules",
    )
    run_step([str(tree / "usr/sbin/ldconfig"), "-r", str(tree)], "writing the library cache")


def make_erofs(source: Path, image: Path, cache: Cache, progress: Progress = silent) -> None:
    """Write a read-only file system image of a directory or of a tar file, owned by root."""
    tools = image_tools(cache, progress)
    command = [*tools.command(tools.root / "usr/bin/mkfs.erofs"), "--quiet"]
    command += ["-T", _EPOCH, "-U", _IMAGE_UUID, "--all-root"]
    if source.is_file():
        command += ["--tar=f"]
    run_step([*command, str(image), str(source)], f"writing {image.name}")


def run_step(command: Sequence[str], what: str) -> None:
    """Run one step of a build.

    Raises:
        ImageError: It failed; with the last lines that it printed.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise ImageError(f"{what} failed (status {done.returncode}):\n" + "\n".join(lines))

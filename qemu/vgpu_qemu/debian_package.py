"""Our CUDA libraries as a Debian package, for guests and machines that install by package.

It provides the names that Debian's CUDA programs depend on, and conflicts with NVIDIA's packages of
the same files. Equal libraries give an equal package: owners, order and times are fixed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from vgpu_qemu.errors import PackageError
from vgpu_qemu.image import run_step
from vgpu_qemu.private_directory import private_directory

PACKAGE = "vgpu-stub-cuda"
_LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu"
#: What programs depend on, by the library that stands behind the name, with the version that it is
#: taken for: that of the driver series, or of the CUDA release whose API it has.
_PROVIDES = {
    "libcuda.so.1": ("libcuda1", "libcuda.so.1"),
    "libcudart.so.12": ("libcudart12",),
    "libcudart.so.13": ("libcudart13",),
    "libcublas.so.12": ("libcublas12",),
    "libcublas.so.13": ("libcublas13",),
    "libnvidia-ml.so.1": ("libnvidia-ml1", "libnvidia-ml.so.1"),
}
_VERSIONS = {"12": "12.9", "13": "13.0"}
_DRIVER_VERSION = "580"
_TIME = 1700000000


def provided_names(libraries: Sequence[str]) -> list[str]:
    """The `Provides` entries of a package with these libraries."""
    found = []
    for library, names in _PROVIDES.items():
        if library in libraries:
            version = _VERSIONS.get(library.rsplit(".", 1)[1], _DRIVER_VERSION)
            found += [f"{name} (= {version})" for name in names]
    return found


def control_text(version: str, libraries: Sequence[str], size_kib: int) -> str:
    """The package's control file."""
    provides = provided_names(libraries)
    replaced = sorted({entry.split(" ")[0] for entry in provides})
    fields = {
        "Package": PACKAGE,
        "Version": version,
        "Architecture": "amd64",
        "Section": "libs",
        "Priority": "optional",
        "Maintainer": "The engineers of VGPU-STUB <vgpu-stub@example.invalid>",
        "Installed-Size": str(size_kib),
        "Depends": "libc6 (>= 2.34)",
        "Provides": ", ".join(provides),
        "Conflicts": ", ".join(replaced),
        "Replaces": ", ".join(replaced),
        "Description": "CUDA libraries of the VGPU-STUB virtual GPU\n"
        " libcuda, libcudart, libcublas and libnvidia-ml for a guest with a VGPU-STUB\n"
        " device. They carry CUDA calls to the host and replace NVIDIA's libraries.",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def build_package(libraries: Path, licence: Path, version: str, folder: Path) -> Path:
    """Write the package into a folder and return its path.

    Args:
        libraries: Folder with the built libraries.
        licence: The licence's text.
        version: Of the package, as Debian takes it.
        folder: Where it goes; created when missing.

    Raises:
        PackageError: A library is missing, the version is none, or dpkg-deb failed.
    """
    if not re.fullmatch(r"[0-9][A-Za-z0-9.+~]*", version):
        raise PackageError(f"{version!r} is no version of a Debian package")
    if shutil.which("dpkg-deb") is None:
        raise PackageError("dpkg-deb is missing: building a package needs Debian or Ubuntu")
    present = [name for name in _PROVIDES if (libraries / name).is_file()]
    if "libcuda.so.1" not in present:
        raise PackageError(f"{libraries} has no libcuda.so.1: run `make cuda`")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{PACKAGE}_{version}_amd64.deb"
    with private_directory(folder, "deb-") as work:
        tree = work / "tree"
        (tree / _LIBRARY_FOLDER).mkdir(parents=True)
        for name in present:
            shutil.copyfile(libraries / name, tree / _LIBRARY_FOLDER / name)
        documents = tree / "usr/share/doc" / PACKAGE
        documents.mkdir(parents=True)
        shutil.copyfile(licence, documents / "copyright")
        size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
        control = tree / "DEBIAN"
        control.mkdir()
        (control / "control").write_text(control_text(version, present, -(-size // 1024)))
        (control / "triggers").write_text("activate-noawait ldconfig\n")
        for path in [tree, *tree.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (_TIME, _TIME))
        run_step(
            [
                *("env", f"SOURCE_DATE_EPOCH={_TIME}", "dpkg-deb", "--root-owner-group"),
                *("--build", str(tree), str(target)),
            ],
            f"writing {target.name}",
        )
    return target

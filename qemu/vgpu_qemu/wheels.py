"""Python packages of the guest that PyPI has as wheels: fetched by pip, unpacked and kept."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.errors import ImageError
from vgpu_qemu.progress import Progress, silent

GUEST_WHEELS = (
    "cuda-bindings==13.5.0",
    "cuda-pathfinder==1.9.0",
    "gguf==0.19.0",
    "pyyaml==6.0.3",
    "tqdm==4.70.1",
)
"""NVIDIA's binding of the driver API, and the reader of model files, with what both import."""

_PYTHON = "3.13"
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "any")


def wheel_packages(cache: Cache, progress: Progress = silent) -> Path:
    """Return a directory with the packages of `GUEST_WHEELS`, for the guest's `sys.path`.

    Raises:
        ImageError: A wheel could not be fetched.
    """

    def build(directory: Path) -> None:
        with cache.scratch() as work:
            progress("fetching Python packages for the guest", None)
            wheels = download_wheels(work / "wheels", GUEST_WHEELS)
            directory.mkdir()
            unpack_wheels(wheels, directory)

    return cache.get("wheels", content_key(GUEST_WHEELS), build)


def download_wheels(directory: Path, requirements: Sequence[str]) -> list[Path]:
    """Fetch wheels for the guest's Python, exactly those that are named; returns all in the folder.

    Raises:
        ImageError: A wheel could not be fetched; with pip's last lines.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", _PYTHON, "--dest", str(directory)]
    command += [f"--platform={platform}" for platform in _PLATFORMS]
    done = subprocess.run(
        [*command, *requirements],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ImageError(f"fetching {', '.join(requirements)} failed:\n{lines}")
    return sorted(directory.glob("*.whl"))


def unpack_wheels(wheels: Sequence[Path], directory: Path) -> None:
    """Unpack wheels into one folder."""
    for path in wheels:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(directory)

"""Find a QEMU that can attach a vfio-user device, or fetch Debian's.

`-device vfio-user-pci` came with QEMU 10.1, which few distributions carry yet; so a QEMU on this
machine is used when it has the device, and otherwise Debian's backport runs from the cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.errors import PackageError, QemuNotFoundError
from vgpu_qemu.packages import TRIXIE_BACKPORTS, Archive
from vgpu_qemu.progress import Progress, silent
from vgpu_qemu.runtime import Runtime, fetch_runtime

QEMU_VARIABLE = "VGPU_STUB_QEMU"
PROGRAM = "qemu-system-x86_64"
MINIMUM_VERSION = (10, 1)
_PROBE_SECONDS = 30


@dataclass(frozen=True)
class QemuBinary:
    """A QEMU that has been found able to run our machines.

    Attributes:
        command: The start of its command line, with everything needed to find its own data.
        version: Such as `(11, 1, 3)`.
        environment: Variables to set for it.
        origin: Where it comes from, for people.
    """

    command: tuple[str, ...]
    version: tuple[int, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""


def find_qemu(*, cache: Cache | None = None, progress: Progress = silent) -> QemuBinary:
    """Return a QEMU >= 10.1 with `vfio-user-pci`, fetching one if this machine has none.

    The order is `$VGPU_STUB_QEMU` (which must do, or it is an error), `PATH`, the cache, Debian.

    Raises:
        QemuNotFoundError: None was found and none could be fetched; says why.
    """
    cache = cache or Cache()
    if explicit := os.environ.get(QEMU_VARIABLE):
        return _checked(explicit, cache)
    found = shutil.which(PROGRAM)
    reason = "none on PATH"
    if found:
        try:
            return _checked(found, cache)
        except QemuNotFoundError as error:
            reason = str(error)
    try:
        archive = Archive(TRIXIE_BACKPORTS, cache=cache, progress=progress)
        runtime = fetch_runtime("qemu", ["qemu-system-x86"], archive, cache)
    except PackageError as error:
        raise QemuNotFoundError(
            f"no QEMU >= 10.1 with vfio-user-pci ({reason}), and Debian's could not be fetched: "
            f"{error}\nInstall one, or set {QEMU_VARIABLE} to it."
        ) from error
    return _bundled(runtime, cache)


def _checked(path: str, cache: Cache) -> QemuBinary:
    return _probe(QemuBinary((path,), (), {}, path), Path(path), cache)


def _bundled(runtime: Runtime, cache: Cache) -> QemuBinary:
    program = runtime.root / "usr/bin" / PROGRAM
    data = [runtime.root / "usr/share/qemu", runtime.root / "usr/share/seabios"]
    command = [*runtime.command(program)]
    for directory in data:
        command += ["-L", str(directory)]
    modules = str(runtime.root / "usr/lib/x86_64-linux-gnu/qemu")
    unprobed = QemuBinary(
        tuple(command), (), {"QEMU_MODULE_DIR": modules}, f"Debian's, in {runtime.root}"
    )
    return _probe(unprobed, program, cache)


def _probe(binary: QemuBinary, program: Path, cache: Cache) -> QemuBinary:
    """Return the binary with its version, or raise when it will not do; asked once per file."""
    try:
        status = program.stat()
    except OSError as error:
        raise QemuNotFoundError(f"{program}: {error.strerror}") from error
    answer = "qemu-" + content_key(str(program), status.st_mtime_ns, status.st_size)
    known = cache.recall(answer)
    if known is None:
        version = parse_version(_output(binary, "--version"))
        devices = _output(binary, "-device", "help")
        known = {"version": version, "vfio_user": 'name "vfio-user-pci"' in devices}
        cache.remember(answer, known)
    version = tuple(known["version"])
    if version < MINIMUM_VERSION or not known["vfio_user"]:
        raise QemuNotFoundError(
            f"{program} is QEMU {'.'.join(map(str, version))} "
            f"{'with' if known['vfio_user'] else 'without'} vfio-user-pci; needed: >= 10.1 with it"
        )
    return QemuBinary(binary.command, version, binary.environment, binary.origin)


def parse_version(text: str) -> tuple[int, ...]:
    """Return the version that `qemu --version` prints, or () when there is none."""
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()


def _output(binary: QemuBinary, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [*binary.command, *arguments],
            env={**os.environ, **binary.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QemuNotFoundError(f"{binary.command[0]} cannot be run: {error}") from error
    return done.stdout

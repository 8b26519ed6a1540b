"""A folder of this machine inside the guest, through virtio-fs.

Debian's cloud kernels have virtio-fs but not 9p, so a `virtiofsd` serves the folder: the machine's
own if it has one, else Debian's from the cache.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgpu_qemu.cache import Cache
from vgpu_qemu.errors import VmError
from vgpu_qemu.packages import TRIXIE, Archive
from vgpu_qemu.process import ChildProcess
from vgpu_qemu.progress import Progress, silent
from vgpu_qemu.runtime import fetch_runtime

_INSTALLED = Path("/usr/libexec/virtiofsd")


def virtiofsd_command(cache: Cache, progress: Progress = silent) -> list[str]:
    """Return the start of a command line that runs virtiofsd, fetching it if need be."""
    installed = shutil.which("virtiofsd") or (str(_INSTALLED) if _INSTALLED.exists() else None)
    if installed:
        return [installed]
    archive = Archive(TRIXIE, cache=cache, progress=progress)
    runtime = fetch_runtime("virtiofsd", ["virtiofsd"], archive, cache)
    return runtime.command(runtime.root / "usr/libexec/virtiofsd")


@contextmanager
def serve_folder(folder: Path, directory: Path, cache: Cache) -> Iterator[Path]:
    """Serve a folder while the block lasts.

    Args:
        folder: What the guest gets, readable and writable as this user may.
        directory: Where the socket and the server's log go.
        cache: Where virtiofsd is kept.

    Yields:
        The path of the socket for QEMU.

    Raises:
        VmError: The folder does not exist.
    """
    if not folder.is_dir():
        raise VmError(f"shared folder {folder} is no directory")
    path = directory / "virtiofs.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        command = [
            *virtiofsd_command(cache),
            *("--fd", str(listener.fileno())),
            *("--shared-dir", str(folder.resolve())),
            *("--sandbox", "none"),
            *("--log-level", "error"),
        ]
        server = ChildProcess(
            "virtiofsd",
            command,
            log=directory / "virtiofsd.log",
            descriptors=[listener.fileno()],
        )
    try:
        yield path
    finally:
        server.stop()

"""Where running device servers are found: one folder each, with their sockets.

`$XDG_RUNTIME_DIR/vgpu-stub/<name>` (else below the temporary folder, private to the user). The
folder of a server that was killed stays behind; it is removed by whoever looks next.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MONITOR_SOCKET: Final = "monitor.sock"
CONTROL_SOCKET: Final = "control.sock"
DEVICE_SOCKET: Final = "vfio-user.sock"
LOG_FILE: Final = "server.log"
REPORTS_FOLDER: Final = "reports"


def runtime_root() -> Path:
    """The folder of all servers of this user; made when missing, readable by the user alone."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    root = Path(base) / "vgpu-stub" if base else _temporary_root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{root} must belong to you and be closed to others")
    return root


def _temporary_root() -> Path:
    return Path(tempfile.gettempdir()) / f"vgpu-stub-{os.getuid()}"


def make_server_folder(name: str | None = None) -> Path:
    """Make the folder of a new server.

    Raises:
        FileExistsError: A server of that name runs.
    """
    root = runtime_root()
    if name is None:
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
    folder = root / name
    if folder.exists() and not _answers(folder):
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder


def running_servers() -> Iterator[Path]:
    """Folders of servers that answer; those of dead ones are removed."""
    for folder in sorted(runtime_root().iterdir()):
        if _answers(folder):
            yield folder
        elif _is_stale(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _answers(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        # Not the socket of monitors: whoever connects there is answered with a snapshot.
        probe.connect(str(folder / CONTROL_SOCKET))
        return True
    return False


def _is_stale(folder: Path) -> bool:
    # A folder without a socket may belong to a server that is just starting.
    return (folder / MONITOR_SOCKET).exists()

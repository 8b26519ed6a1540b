"""A private directory for one virtual machine's sockets, images and log.

It is removed with the machine. Should this process be killed, the lock that it holds on the
directory is released, and the next machine of the same user removes what was left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "vgpu-stub-vm-"


@contextlib.contextmanager
def runtime_directory() -> Iterator[Path]:
    """Yield a new directory that only this user can enter; it is removed at the end."""
    parent = _parent()
    _remove_abandoned(parent)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _parent() -> Path:
    run = os.environ.get("XDG_RUNTIME_DIR")
    return Path(run) if run and os.access(run, os.W_OK) else Path(tempfile.gettempdir())


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            status = os.fstat(descriptor)
            if status.st_uid == os.getuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)

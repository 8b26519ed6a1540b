"""Directories that go with the process that made them: of a virtual machine, of a build.

They are removed at the end of the block that uses them. Should the process be killed, the lock that
it holds on its directory is released, and the next one of the same user removes what was left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def private_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new directory that only this user can enter; it is removed at the end.

    Args:
        parent: An existing directory.
        prefix: Start of the name; abandoned directories of that prefix are removed first.
    """
    _remove_abandoned(parent, prefix)
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def runtime_parent() -> Path:
    """Return where a virtual machine's files go: `$XDG_RUNTIME_DIR`, else the temporary one."""
    run = os.environ.get("XDG_RUNTIME_DIR")
    return Path(run) if run and os.access(run, os.W_OK) else Path(tempfile.gettempdir())


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            # One that was made just now is not locked yet, but empty, so nothing would be lost by
            # waiting for its owner: only what holds files can be abandoned.
            if os.fstat(descriptor).st_uid == os.getuid() and any(path.iterdir()):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(descriptor)

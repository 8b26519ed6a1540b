"""Compiled kernels on disk: one file per key, checked when read, bounded in total.

The directory may be entered by its owner only, because its contents are executed. Any number of
processes may use it at once without a lock: files appear whole by a rename, and a file that goes
away or is damaged only means that its kernel is compiled again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import time
from pathlib import Path

DEFAULT_LIMIT = 2 << 30
_SUFFIX = ".o"
_DIGEST_SIZE = hashlib.sha256().digest_size
#: Seconds after which a file that was never renamed is a leftover of a process that died.
_ABANDONED_AFTER = 3600

_log = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """`kernels` in the user's cache directory, `~/.cache/vgpu-stub` unless set otherwise.

    `VGPU_STUB_CACHE` names the cache directory itself; `XDG_CACHE_HOME` names its parent.
    """
    if explicit := os.environ.get("VGPU_STUB_CACHE"):
        return Path(explicit).expanduser().absolute() / "kernels"
    parent = os.environ.get("XDG_CACHE_HOME")
    return (Path(parent) if parent else Path.home() / ".cache") / "vgpu-stub" / "kernels"


class ObjectCache:
    """Object files by key, at most `limit` bytes of them; the longest unused go first.

    Raises:
        PermissionError: others may write to the directory, or it is another user's.
    """

    def __init__(self, directory: Path, limit: int = DEFAULT_LIMIT) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise PermissionError(
                f"{directory} must belong to this user and not be writable by others, because "
                "the code in it is executed; remove it or set VGPU_STUB_CACHE"
            )
        self._directory = directory
        self._limit = limit
        # The first file saved looks at what other processes have left.
        self._unchecked = limit

    def load(self, key: str) -> bytes | None:
        """The object of a key; None if there is none, or only a damaged one."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("cannot read the compiled kernel %s: %s", path, error)
            return None
        digest, image = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
        if digest != _digest(key, image):
            _log.warning("the compiled kernel %s is damaged and is made again", path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return image

    def save(self, key: str, image: bytes) -> None:
        """Store an object under its key; a full disk costs the entry, no more."""
        try:
            self._write(self._path(key), _digest(key, image) + image)
            # Listing the directory at every file would cost more than it frees.
            self._unchecked += len(image)
            if self._unchecked >= self._limit // 16:
                self._unchecked = 0
                self._trim()
        except OSError as error:
            _log.warning("cannot keep a compiled kernel in %s: %s", self._directory, error)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{_SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _trim(self) -> None:
        """Remove what was unused longest until an eighth of the limit is free."""
        files: list[tuple[float, int, str]] = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(_SUFFIX):
                        files.append((status.st_mtime, status.st_size, entry.path))
                    elif time.time() - status.st_mtime > _ABANDONED_AFTER:
                        Path(entry.path).unlink()
        total = sum(size for _, size, _ in files)
        if total <= self._limit:
            return
        for _, size, path in sorted(files):
            if total <= self._limit - self._limit // 8:
                break
            with contextlib.suppress(OSError):
                Path(path).unlink(missing_ok=True)
                total -= size


def _digest(key: str, image: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + image).digest()

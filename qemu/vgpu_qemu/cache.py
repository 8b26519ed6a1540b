"""A cache of things that are slow to fetch or build, shared by all processes of a user.

Each entry is a file or directory named by its kind and a key that covers everything it was made
from, so an entry never goes stale: other inputs give another key. An entry is built under a lock
in a scratch directory and renamed into place when it is whole, so readers see all of it or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vgpu_qemu.private_directory import private_directory

ENVIRONMENT_VARIABLE = "VGPU_STUB_CACHE"
_KEY_LENGTH = 16


def default_cache_root() -> Path:
    """Return the cache directory of this user, `~/.cache/vgpu-stub` unless set otherwise.

    `VGPU_STUB_CACHE` names the directory itself; `XDG_CACHE_HOME` names its parent.
    """
    if explicit := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(explicit).expanduser().absolute()
    parent = os.environ.get("XDG_CACHE_HOME")
    return (Path(parent) if parent else Path.home() / ".cache") / "vgpu-stub"


def content_key(*parts: object) -> str:
    """Return a short key that changes when any of the parts does.

    A part is a `Path` to a file (its content counts, not its name), a `Path` to a directory (names,
    modes and contents of the files under it), `bytes`, or any value that JSON can express.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = _digest_of_path(part)
        elif isinstance(part, bytes):
            data = hashlib.sha256(part).digest()
        else:
            data = hashlib.sha256(json.dumps(part, sort_keys=True).encode()).digest()
        digest.update(data)
    return digest.hexdigest()[:_KEY_LENGTH]


class Cache:
    """A directory of entries `KIND/KEY`, each built once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_cache_root()

    def path(self, kind: str, key: str) -> Path:
        """Return where the entry is or would be."""
        return self.root / kind / key

    def get(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """Return the entry's path, building it first if it is not there.

        Args:
            kind: What sort of thing it is, such as `kernel`.
            key: Identifies the inputs; see `content_key`.
            build: Called with a path that does not exist yet, in an empty scratch directory of the
                cache's file system; it must create a file or directory there. When it raises,
                nothing is kept.
        """
        entry = self.path(kind, key)
        if entry.exists():
            return entry
        with self.lock(f"{kind}-{key}"):
            if not entry.exists():
                self._build(entry, build)
        return entry

    def _build(self, entry: Path, build: Callable[[Path], None]) -> None:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as scratch:
            made = scratch / "entry"
            build(made)
            made.rename(entry)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty directory on the cache's file system; it is removed afterwards."""
        parent = self.root / "scratch"
        parent.mkdir(parents=True, exist_ok=True)
        with private_directory(parent, "work-") as directory:
            yield directory

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of that name against other processes and threads."""
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def remember(self, name: str, value: Any) -> None:
        """Keep a small answer, such as which exact version a name was resolved to."""
        directory = self.root / "answers"
        directory.mkdir(parents=True, exist_ok=True)
        with self.scratch() as scratch:
            written = scratch / "answer"
            written.write_text(json.dumps(value, sort_keys=True), encoding="utf-8")
            written.rename(directory / f"{name}.json")

    def recall(self, name: str) -> Any:
        """Return what was kept under that name, or None."""
        try:
            return json.loads((self.root / "answers" / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None


def _digest_of_path(path: Path) -> bytes:
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    digest = hashlib.sha256()
    for child in sorted(path.rglob("*")):
        if child.is_file() and "__pycache__" not in child.parts:
            name = child.relative_to(path).as_posix()
            digest.update(f"{name}\0{child.stat().st_mode & 0o777:o}\0".encode())
            digest.update(_digest_of_path(child))
    return digest.digest()

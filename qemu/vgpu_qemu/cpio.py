"""Write cpio archives in the "newc" form, which Linux unpacks as its first root file system.

Only what an initial RAM disk needs: directories, regular files, symbolic links and device nodes,
owned by root and without times, so the same input gives the same bytes on every machine.
"""

from __future__ import annotations

import stat
from typing import BinaryIO


class CpioWriter:
    """Appends entries to an archive; call `close` at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inode = 0
        self._directories: set[str] = set()

    def directory(self, path: str) -> None:
        """Add a directory and its parents, each once."""
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name and name not in self._directories:
                self._directories.add(name)
                self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file, and its directory when it is new."""
        if "/" in path:
            self.directory(path.rsplit("/", 1)[0])
        self._entry(path, stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link, and its directory when it is new."""
        if "/" in path:
            self.directory(path.rsplit("/", 1)[0])
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int) -> None:
        """Add a device node, and its directory when it is new."""
        if "/" in path:
            self.directory(path.rsplit("/", 1)[0])
        self._entry(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def close(self) -> None:
        """Write the archive's end; the file stays open."""
        self._entry("TRAILER!!!", 0)

    def _entry(
        self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._write(header + encoded)
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._file.write(data + bytes(-len(data) % 4))

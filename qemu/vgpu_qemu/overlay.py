"""The second, small layer of the guest: files that change while one works on them.

The agent, driver modules, CUDA libraries, tests and workloads come in here, so that building any of
them anew costs a fraction of a second and never touches the root image.
"""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vgpu_qemu.cache import Cache
from vgpu_qemu.errors import ImageError
from vgpu_qemu.guest_files import GUEST_LIBRARY, standard_files
from vgpu_qemu.image import make_erofs


@dataclass(frozen=True)
class OverlayFile:
    """A file or a directory of this machine that the guest is to have.

    Attributes:
        source: Here; a directory stands for all that is in it, links are followed.
        target: Absolute path in the guest.
    """

    source: Path
    target: str


def build_overlay(
    image: Path, files: Sequence[OverlayFile], drivers: Sequence[Path], cache: Cache
) -> None:
    """Write the overlay image.

    Args:
        image: The file to write.
        files: What the caller wants in the guest; later entries win.
        drivers: Kernel modules that the guest loads at start, in this order.
        cache: Where the image tools are kept.

    Raises:
        ImageError: A source is missing, a target is no absolute path.
    """
    members: dict[str, Path] = dict(standard_files())
    for number, driver in enumerate(drivers):
        members[f"{GUEST_LIBRARY}/modules/{number:02}-{driver.name}"] = driver
    for file in files:
        members.update(_expand(file))
    archive = image.with_suffix(".tar")
    _write_tar(archive, members)
    try:
        make_erofs(archive, image, cache)
    finally:
        archive.unlink(missing_ok=True)


def _expand(file: OverlayFile) -> Mapping[str, Path]:
    target = PurePosixPath(file.target)
    if not target.is_absolute() or ".." in target.parts:
        raise ImageError(f"guest path {file.target!r}: an absolute path without '..' is needed")
    name = str(target).lstrip("/")
    if file.source.is_file():
        return {name: file.source}
    if not file.source.is_dir():
        raise ImageError(f"{file.source} for guest path {file.target} does not exist")
    return {
        f"{name}/{path.relative_to(file.source).as_posix()}": path
        for path in sorted(file.source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _write_tar(archive: Path, members: Mapping[str, Path]) -> None:
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        made: set[str] = set()
        for name, source in sorted(members.items()):
            for parent in [*PurePosixPath(_real(name)).parents][-2::-1]:
                if str(parent) not in made:
                    made.add(str(parent))
                    entry = tarfile.TarInfo(str(parent))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            data = source.read_bytes()
            entry = tarfile.TarInfo(_real(name))
            entry.size = len(data)
            entry.mode = 0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644
            tar.addfile(entry, io.BytesIO(data))


def _real(name: str) -> str:
    """Return the path with Debian's links of the top directories resolved.

    An overlay with a real `/lib` would hide the image's link `/lib -> usr/lib`, and all behind it.
    """
    first = name.split("/", 1)[0]
    return f"usr/{name}" if first in {"bin", "sbin", "lib", "lib64"} else name

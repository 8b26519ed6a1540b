"""Gets PTX out of files as developers have them: PTX, CUDA C++, programs and libraries.

Of a fat binary the image is taken that a device of the wanted capability would choose: the newest
that is not newer than the device.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vgpu_host.fat_binary import MAGIC, FatBinaryError, FatImage, read_fat_binaries
from vgpu_host.nvrtc import NvrtcError, compile_ptx

_CUDA_SUFFIXES = (".cu", ".cuh")


class PtxFileError(Exception):
    """A file has no PTX that could be shown; the text says what it is and what to do."""


@dataclass(frozen=True, slots=True)
class PtxImage:
    """One PTX text of a file.

    Attributes:
        label: Which one it is, for people.
        text: PTX.
    """

    label: str
    text: bytes


def read_ptx(path: Path, capability: tuple[int, int]) -> Iterator[PtxImage]:
    """The PTX images of a file, for a device of a compute capability.

    Raises:
        PtxFileError: There are none.
    """
    try:
        if path.suffix in _CUDA_SUFFIXES:
            yield _compile(path, capability)
            return
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise PtxFileError(f"{path} is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if data.find(MAGIC) >= 0:
                    yield from _choose_all(path, data, capability[0] * 10 + capability[1])
                    return
                text = data[:]
    except OSError as error:
        raise PtxFileError(f"cannot read {path}: {error.strerror}") from error
    except (NvrtcError, FatBinaryError, UnicodeDecodeError) as error:
        raise PtxFileError(f"{path}: {error}") from error
    if text.startswith(b"\x7fELF"):
        raise PtxFileError(
            f"{path} has no fat binary: it is no CUDA program, or machine code for one GPU"
        )
    yield PtxImage(path.name, text.rstrip(b"\0"))


def _compile(path: Path, capability: tuple[int, int]) -> PtxImage:
    architecture = f"compute_{capability[0]}{capability[1]}"
    return PtxImage(path.name, compile_ptx(path.read_text(), architecture, path.name))


def _choose_all(path: Path, data: mmap.mmap, newest: int) -> Iterator[PtxImage]:
    seen: set[str] = set()
    found = False
    for number, images in enumerate(read_fat_binaries(data)):
        fitting = [image for image in images if image.is_ptx and image.architecture <= newest]
        seen |= {_describe(image) for image in images}
        if fitting:
            found = True
            chosen = max(fitting, key=lambda image: image.architecture)
            yield PtxImage(f"image {number}, {_describe(chosen)}", chosen.unpack())
    if not found:
        raise PtxFileError(
            f"{path} has no PTX for {newest / 10} or less, only {', '.join(sorted(seen))}"
        )


def _describe(image: FatImage) -> str:
    return f"{'PTX' if image.is_ptx else 'machine code'} for {image.architecture / 10}"

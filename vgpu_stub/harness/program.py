"""How a program on this machine finds our CUDA libraries and a device: by its environment."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Tells the CUDA library where the device server is.
SOCKET_VARIABLE: Final = "VGPU_STUB_SOCKET"


def device_variables(socket: Path, libraries: Path) -> dict[str, str]:
    """Variables by which a program finds our CUDA libraries and the device."""
    paths = [str(libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": ":".join(paths), SOCKET_VARIABLE: str(socket)}


def program_environment(socket: Path, libraries: Path) -> dict[str, str]:
    """The environment in which a program finds our CUDA libraries and the device."""
    return {**os.environ, **device_variables(socket, libraries)}


@contextmanager
def report_folder(prefix: str) -> Iterator[Path]:
    """A folder that every process of a program can write to, also one of another user."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o1733)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

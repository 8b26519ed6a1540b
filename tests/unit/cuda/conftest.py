"""The CUDA library as it is built for the guest."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

CUDA = Path(__file__).resolve().parents[3] / "guest/cuda"


@pytest.fixture(scope="session")
def build() -> Path:
    """Folder of the built library and its objects."""
    done = subprocess.run(
        ["make", "-C", str(CUDA), "-j2", "tests"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return CUDA / "build"


@pytest.fixture(scope="session")
def library(build: Path) -> ctypes.CDLL:
    """The library, loaded and not initialized."""
    return ctypes.CDLL(str(build / "libcuda.so.1"))

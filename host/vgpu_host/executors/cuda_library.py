"""The driver library of NVIDIA: whether it is here, and where."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path


def available() -> str | None:
    """Why the physical GPU cannot be used here, or None when it can."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "NVIDIA's driver library libcuda.so.1 is not installed"
    result = library.cuInit(0)
    if result:
        return f"cuInit fails with {result}"
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return "the driver shows no device"
    for module, name in (("pycuda.driver", "pycuda"), ("cuda.bindings", "cuda-bindings")):
        if not _installed(module):
            return f"the Python package {name} is not installed: pip install 'vgpu-stub[cuda]'"
    return None


def driver_folder() -> Path:
    """Folder of the driver library that this process has loaded (`available` loads it).

    Raises:
        FileNotFoundError: None is loaded.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/libcuda.so" in line:
            return Path(line.split(maxsplit=5)[5]).parent
    raise FileNotFoundError("libcuda.so.1 is not loaded")


def _installed(module: str) -> bool:
    # Other packages of NVIDIA bring a `cuda` without bindings.
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False

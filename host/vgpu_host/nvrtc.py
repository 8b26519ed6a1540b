"""Compiles CUDA C++ to PTX with NVRTC from NVIDIA's wheel; no GPU and no toolkit is needed.

Release 12 of the wheel (`nvidia-cuda-nvrtc-cu12`) still targets compute_61, release 13 starts at
compute_75.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path


class NvrtcError(Exception):
    """Compilation failed; the message carries NVRTC's log."""


@cache
def _library() -> ctypes.CDLL:
    found = importlib.util.find_spec("nvidia")
    for root in found.submodule_search_locations or () if found else ():
        for path in sorted(Path(root).glob("cuda_nvrtc/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    try:
        return ctypes.CDLL("libnvrtc.so.12")
    except OSError:
        raise NvrtcError("NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12") from None


def _check(status: int, action: str) -> None:
    if status:
        function = _library().nvrtcGetErrorString
        function.restype = ctypes.c_char_p
        raise NvrtcError(f"{action}: {function(status).decode()}")


def compile_ptx(
    source: str, arch: str = "compute_61", name: str = "kernel.cu", line_info: bool = False
) -> bytes:
    """Compile CUDA C++ to PTX text.

    Args:
        source: the translation unit.
        arch: virtual architecture, e.g. `compute_61`.
        name: file name in messages.
        line_info: have the PTX name lines of the source.

    Raises:
        NvrtcError: with the compiler's log.
    """
    library = _library()
    program = ctypes.c_void_p()
    _check(
        library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), 0, None, None
        ),
        "cannot create an NVRTC program",
    )
    try:
        options = [f"--gpu-architecture={arch}".encode()]
        if line_info:
            options.append(b"--generate-line-info")
        array = (ctypes.c_char_p * len(options))(*options)
        status = library.nvrtcCompileProgram(program, len(options), array)
        if status:
            log = _fetch("nvrtcGetProgramLog", program).decode(errors="replace")
            raise NvrtcError(f"{name} does not compile for {arch}:\n{log}")
        return _fetch("nvrtcGetPTX", program).rstrip(b"\0")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _fetch(function: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(_library(), f"{function}Size")(program, ctypes.byref(size)), function)
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(_library(), function)(program, buffer), function)
    return buffer.raw.rstrip(b"\0")

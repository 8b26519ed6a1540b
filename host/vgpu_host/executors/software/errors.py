"""Errors of the software GPU.

`PtxError` is raised while a module or one of its functions is loaded, `DeviceFault` while memory is
checked or a kernel runs. Both carry the `CUresult` that a CUDA program is to see.
"""

from __future__ import annotations

from enum import IntEnum


class CudaResult(IntEnum):
    """The `CUresult` values that this package raises, named as in cuda.h."""

    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    INVALID_IMAGE = 200
    INVALID_CONTEXT = 201
    NO_BINARY_FOR_GPU = 209
    UNSUPPORTED_LIMIT = 215
    INVALID_PTX = 218
    UNSUPPORTED_PTX_VERSION = 222
    INVALID_SOURCE = 300
    INVALID_HANDLE = 400
    NOT_FOUND = 500
    ILLEGAL_ADDRESS = 700
    LAUNCH_OUT_OF_RESOURCES = 701
    LAUNCH_TIMEOUT = 702
    ASSERT = 710
    MISALIGNED_ADDRESS = 716
    LAUNCH_FAILED = 719
    HARDWARE_STACK_ERROR = 714
    COOPERATIVE_LAUNCH_TOO_LARGE = 720
    NOT_SUPPORTED = 801


class SoftwareGpuError(Exception):
    """Base of every error of the software GPU; `result` is the `CUresult` to report."""

    def __init__(self, result: int, message: str) -> None:
        super().__init__(message)
        self.result = int(result)
        self.message = message


class DeviceFault(SoftwareGpuError):  # noqa: N818 (CUDA calls these faults)
    """A kernel, or an access on behalf of one, touched what it must not; names the thread."""


class TooManyBlocksError(SoftwareGpuError):
    """A cooperative launch of more blocks than can be under way at a time."""


class PtxError(SoftwareGpuError):
    """PTX that cannot be run here; `log` names the line, the instruction and the reason."""

    def __init__(self, result: int, log: str) -> None:
        super().__init__(result, log)
        self.log = log


class UnsupportedError(Exception):
    """One statement cannot be translated; turned into a `PtxError` with its line by the loader."""

    def __init__(self, reason: str, position: int = -1, text: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position
        self.text = text

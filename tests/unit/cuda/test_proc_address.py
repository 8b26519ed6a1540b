"""cuGetProcAddress chooses the ABI variant by version and by kind of default stream."""

from __future__ import annotations

import ctypes

import pytest

SUCCESS, INVALID_VALUE, NOT_FOUND = 0, 1, 500
FOUND, UNKNOWN, TOO_NEW = 0, 1, 2
PER_THREAD = 2


def look_up(
    library: ctypes.CDLL, name: str, version: int, flags: int = 0
) -> tuple[int, int | None, int]:
    entry = ctypes.c_void_p(1)
    found = ctypes.c_int(-1)
    result = library.cuGetProcAddress_v2(
        name.encode(), ctypes.byref(entry), version, ctypes.c_uint64(flags), ctypes.byref(found)
    )
    return result, entry.value, found.value


def address(library: ctypes.CDLL, symbol: str) -> int | None:
    return ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value


@pytest.mark.parametrize(
    ("name", "version", "flags", "symbol"),
    [
        ("cuInit", 2000, 0, "cuInit"),
        ("cuDeviceGetUuid", 9020, 0, "cuDeviceGetUuid"),
        ("cuDeviceGetUuid", 11040, 0, "cuDeviceGetUuid_v2"),
        ("cuDevicePrimaryCtxRelease", 7000, 0, "cuDevicePrimaryCtxRelease"),
        ("cuCtxCreate", 3020, 0, "cuCtxCreate_v2"),
        ("cuCtxCreate", 13000, 0, "cuCtxCreate_v4"),
        ("cuCtxGetDevice", 12090, 0, "cuCtxGetDevice"),
        ("cuCtxGetDevice", 13000, 0, "cuCtxGetDevice_v2"),
        ("cuEventElapsedTime", 2000, 0, "cuEventElapsedTime"),
        ("cuEventElapsedTime", 12080, 0, "cuEventElapsedTime_v2"),
        ("cuStreamGetCaptureInfo", 11030, PER_THREAD, "cuStreamGetCaptureInfo_v2_ptsz"),
        ("cuStreamBeginCapture", 10000, 0, "cuStreamBeginCapture"),
        ("cuMemcpyHtoD", 2000, 0, "cuMemcpyHtoD"),
        ("cuMemcpyHtoD", 3020, 0, "cuMemcpyHtoD_v2"),
        ("cuMemcpyHtoD", 7000, PER_THREAD, "cuMemcpyHtoD_v2_ptds"),
        ("cuLaunchKernel", 7000, PER_THREAD, "cuLaunchKernel_ptsz"),
        ("cuMemAlloc", 13000, PER_THREAD, "cuMemAlloc_v2"),
        ("cuGetProcAddress", 11030, 0, "cuGetProcAddress"),
        ("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2"),
    ],
)
def test_newest_variant_not_above_the_version(
    library: ctypes.CDLL, name: str, version: int, flags: int, symbol: str
) -> None:
    assert look_up(library, name, version, flags) == (SUCCESS, address(library, symbol), FOUND)


def test_unknown_name_gives_null(library: ctypes.CDLL) -> None:
    assert look_up(library, "cuNoSuchFunction", 13000) == (NOT_FOUND, None, UNKNOWN)
    assert look_up(library, "", 0) == (NOT_FOUND, None, UNKNOWN)


def test_function_newer_than_the_version_gives_null(library: ctypes.CDLL) -> None:
    assert look_up(library, "cuCtxGetId", 11000) == (NOT_FOUND, None, TOO_NEW)


def test_contradicting_flags_are_invalid(library: ctypes.CDLL) -> None:
    assert look_up(library, "cuInit", 2000, 3)[0] == INVALID_VALUE

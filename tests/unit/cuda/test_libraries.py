"""The guest's libraries beside libcuda: their exports and what they need."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from vgpu_stub.abi import driver_api
from vgpu_stub.abi.library_api import LIBRARIES, Library, State, symbols

CUBLAS_STATUS_NOT_SUPPORTED = 15
VERSIONS = [(library, version) for library in LIBRARIES for version in library.sonames]


def exports(path: Path) -> set[str]:
    """Symbols of a library, with their version node."""
    table = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--with-symbol-versions", path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rows = [line.split() for line in table.splitlines()]
    return {name for _, kind, name in rows if kind in "TW"}


@pytest.mark.parametrize(("library", "version"), VERSIONS)
def test_exports_are_the_table_and_nothing_else(
    build: Path, library: Library, version: str
) -> None:
    soname = library.sonames[version]
    node = f"@@{soname}" if library.versioned else ""
    expected = {f"{row.name}{node}" for row in symbols(library) if version in row.versions}
    assert exports(build / soname) == expected


@pytest.mark.parametrize(("library", "version"), VERSIONS)
def test_libraries_call_no_function_of_the_driver_that_only_refuses(
    build: Path, library: Library, version: str
) -> None:
    table = subprocess.run(
        ["nm", "--dynamic", "--undefined-only", build / library.sonames[version]],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    imports = {line.split()[-1] for line in table.splitlines()}
    refused = {e.symbol for e in driver_api.entry_points() if e.state is driver_api.State.REFUSED}
    assert imports & refused == set()


@pytest.mark.parametrize(("library", "version"), VERSIONS)
def test_libraries_need_ours_and_the_c_library_only(
    build: Path, library: Library, version: str
) -> None:
    soname = library.sonames[version]
    dynamic = subprocess.run(
        ["readelf", "--dynamic", build / soname], check=True, capture_output=True, text=True
    ).stdout
    assert f"soname: [{soname}]" in dynamic
    needed = {line.split("[")[1][:-1] for line in dynamic.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libcuda.so.1", "libc.so.6", "ld-linux-x86-64.so.2"}


def test_what_ggml_imports_of_cublas_works() -> None:
    (cublas,) = (library for library in LIBRARIES if library.name == "cublas")
    states = {row.name: row.state for row in symbols(cublas)}
    for name in (
        "cublasCreate_v2",
        "cublasDestroy_v2",
        "cublasSetStream_v2",
        "cublasSetMathMode",
        "cublasSetWorkspace_v2",
        "cublasGetStatusString",
        "cublasSgemm_v2",
        "cublasSgemmBatched",
        "cublasSgemmStridedBatched",
        "cublasGemmEx",
        "cublasGemmBatchedEx",
        "cublasGemmStridedBatchedEx",
        "cublasStrsmBatched",
    ):
        assert states[name] is not State.REFUSED, name


@pytest.mark.parametrize("version", ["12", "13"])
def test_refused_functions_of_cublas_say_so(
    build: Path, library: ctypes.CDLL, version: str
) -> None:
    (table,) = (each for each in LIBRARIES if each.name == "cublas")
    cublas = ctypes.CDLL(str(build / table.sonames[version]))
    refused = [
        row.name for row in symbols(table) if row.state is State.REFUSED and version in row.versions
    ]
    assert len(refused) > 400
    assert {getattr(cublas, name)() for name in refused} == {CUBLAS_STATUS_NOT_SUPPORTED}

"""libcudart beside NVIDIA's: errors in words, layouts, and what loading a program costs."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from time import perf_counter

import pytest

NVIDIA = Path(__file__).resolve().parents[3] / ".venv/lib"
#: NVIDIA's own runtimes, from the wheels that bring their headers. They answer without a device.
NATIVE = {"12": "cuda_runtime/lib/libcudart.so.12", "13": "cu13/lib/libcudart.so.13"}
VERSIONS = tuple(NATIVE)


def native(version: str) -> ctypes.CDLL:
    found = sorted(NVIDIA.glob(f"python3*/site-packages/nvidia/{NATIVE[version]}"))
    if not found:
        pytest.skip(f"NVIDIA's {NATIVE[version]} is not installed")
    return with_texts(ctypes.CDLL(str(found[0])))


def with_texts(library: ctypes.CDLL) -> ctypes.CDLL:
    library.cudaGetErrorName.restype = ctypes.c_char_p
    library.cudaGetErrorString.restype = ctypes.c_char_p
    return library


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runtime(build: Path, version: str) -> ctypes.CDLL:
    # Its dependency is found by name: load it first.
    ctypes.CDLL(str(build / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
    return with_texts(ctypes.CDLL(str(build / f"libcudart.so.{version}")))


def test_errors_have_nvidias_names_and_words(runtime: ctypes.CDLL, version: str) -> None:
    theirs = native(version)
    unknown = theirs.cudaGetErrorName(-1)
    known = [code for code in range(10100) if theirs.cudaGetErrorName(code) != unknown]
    assert len(known) > 130
    for code in (*known, -1, 99999):
        assert runtime.cudaGetErrorName(code) == theirs.cudaGetErrorName(code), code
        assert runtime.cudaGetErrorString(code) == theirs.cudaGetErrorString(code), code


def test_versions_are_those_of_the_headers(runtime: ctypes.CDLL, version: str) -> None:
    found = ctypes.c_int()
    assert runtime.cudaRuntimeGetVersion(ctypes.byref(found)) == 0
    assert found.value // 1000 == int(version)


#: Size of cudaDeviceProp and offsets of fields that programs read, by the ABI of each version.
LAYOUTS = {
    "12": (
        1032,
        {"uuid": 256, "major": 360, "unifiedAddressing": 604, "memoryPoolsSupported": 744},
    ),
    "13": (
        1008,
        {"uuid": 256, "major": 360, "unifiedAddressing": 588, "memoryPoolsSupported": 720},
    ),
}


def test_device_properties_have_the_layout_of_their_version(version: str, tmp_path: Path) -> None:
    """The headers that our library is compiled against say what programs of that version read."""
    size, offsets = LAYOUTS[version]
    lines = [f'_Static_assert(sizeof(struct cudaDeviceProp) == {size}, "size");']
    lines += [
        f'_Static_assert(offsetof(struct cudaDeviceProp, {name}) == {offset}, "{name}");'
        for name, offset in offsets.items()
    ]
    source = tmp_path / "layout.c"
    source.write_text("\n".join(["#include <stddef.h>", "#include <driver_types.h>", *lines, ""]))
    # Those of CUDA 12 come first, and take crt/ from the others.
    folders = ("cuda_runtime", "cu13") if version == "12" else ("cu13",)
    include = [
        argument
        for folder in folders
        for path in NVIDIA.glob(f"python3*/site-packages/nvidia/{folder}/include")
        for argument in ("-isystem", str(path))
    ]
    subprocess.run(["gcc", "-fsyntax-only", *include, source], check=True)


def test_registering_is_an_insertion_and_needs_no_device(runtime: ctypes.CDLL) -> None:
    """libggml-cuda.so registers 7112 kernels in 145 images while it is loaded."""
    runtime.__getattr__("__cudaRegisterFatBinary").restype = ctypes.c_void_p
    register = runtime.__getattr__("__cudaRegisterFunction")
    wrapper = ctypes.create_string_buffer(24)
    begin = perf_counter()
    handles = [runtime.__getattr__("__cudaRegisterFatBinary")(wrapper) for _ in range(145)]
    for number in range(7112):
        handle = ctypes.c_void_p(handles[number % 145])
        register(handle, ctypes.c_void_p(0x10000 + 16 * number), b"k", b"k", -1, *[None] * 5)
    spent = perf_counter() - begin
    assert len(set(handles)) == 145
    assert spent < 1.0  # 20 ms, of which ctypes takes most
    # A name is there as soon as it is registered, and gone with its image.
    name = ctypes.c_char_p()
    known = ctypes.c_void_p(0x10000 + 16 * 7111)
    assert runtime.cudaFuncGetName(ctypes.byref(name), known) == 0
    assert name.value == b"k"
    for address in handles:
        runtime.__getattr__("__cudaUnregisterFatBinary")(ctypes.c_void_p(address))
    assert runtime.cudaFuncGetName(ctypes.byref(name), known) == 400


def test_launch_stubs_of_every_program_are_exported(build: Path, version: str) -> None:
    table = subprocess.run(
        ["nm", "--dynamic", "--defined-only", build / f"libcudart.so.{version}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = set(re.findall(r" T (\w+)@@libcudart\.so\." + version, table))
    assert {
        "__cudaRegisterFatBinary",
        "__cudaRegisterFatBinaryEnd",
        "__cudaUnregisterFatBinary",
        "__cudaRegisterFunction",
        "__cudaRegisterVar",
        "__cudaPushCallConfiguration",
        "__cudaPopCallConfiguration",
        "__cudaGetKernel",
        "__cudaLaunchKernel",
    } <= names

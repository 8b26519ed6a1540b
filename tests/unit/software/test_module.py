"""Loading: what is accepted, what is refused and with which result, what a function reports."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from vgpu_host.executors.software import module
from vgpu_host.executors.software.errors import PtxError
from vgpu_host.executors.software.function import ParamInfo
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.profiles import PROFILES
from vgpu_host.executors.software.translation import Translation
from vgpu_host.nvrtc import NvrtcError, compile_ptx

from .conftest import HEADER, Device

INVALID_IMAGE, NO_BINARY, INVALID_PTX, UNSUPPORTED_VERSION = 200, 209, 218, 222


@pytest.mark.parametrize(
    ("image", "result", "log"),
    [
        (b"", INVALID_IMAGE, "not PTX"),
        (b"\x7fELF\x02\x01\x01\x00\x00", INVALID_IMAGE, "not PTX"),
        (b"hello world", INVALID_IMAGE, "does not start with .version"),
        (b".version 7.0\n.target sm_75\n.address_size 64\n", NO_BINARY, "sm_75"),
        (b".version 7.0\n.target sm_61\n.address_size 32\n", INVALID_PTX, ".address_size"),
        (b".version 7.0\n", INVALID_PTX, ".target"),
        (b".version 99.0\n.target sm_61\n.address_size 64\n", UNSUPPORTED_VERSION, "99.0"),
        (b".version 1.4\n.target sm_61\n.address_size 64\n", UNSUPPORTED_VERSION, "1.4"),
        (HEADER.encode() + b"nonsense;", INVALID_PTX, "line 4"),
        (HEADER.encode() + b".visible .entry f() {", INVALID_PTX, "line 4"),
    ],
)
def test_images_that_are_refused(device: Device, image: bytes, result: int, log: str) -> None:
    with pytest.raises(PtxError) as caught:
        device.gpu.load_module(image)
    assert caught.value.result == result
    assert log in caught.value.log


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("tex.1d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [t, {%r1}];", "tex"),
        ("frobnicate.b32 %r1, %r2;", "instruction frobnicate is not supported"),
        ("add.wide.u32 %r1, %r1, %r2;", "modifier .wide"),
        ("mov.u32 %r1, %undeclared;", "undeclared register"),
        ("mov.u32 %r1, %pm0;", "special register"),
        ("bra NOWHERE;", "undefined label"),
        ("call (), missing, ();", "does not define the function missing"),
        ("ld.param.u32 %r1, [nothing];", "unknown"),
        ("ld.param.u32 %r1;", "wrong number"),
        ("mov.b32 %r1, {};", "wrong number"),
    ],
)
def test_statements_that_are_refused(device: Device, statement: str, reason: str) -> None:
    ptx = f".visible .entry f() {{\n.reg .b32 %r<4>; .reg .f32 %f<5>;\n{statement}\nret;\n}}"
    with pytest.raises(PtxError) as caught:
        device.function(ptx)
    assert caught.value.result == INVALID_PTX
    assert "f: line 6: " in caught.value.log
    assert reason in caught.value.log
    assert statement.rstrip(";").split("[")[0] in caught.value.log.replace("  ", " ")


@pytest.mark.parametrize(
    "declaration",
    ["{} .align 4 .b8 v[-16];", "{} .b32 v[abc];", "{} .b8 v[09];", "{} .align 3 .b8 v[8];",
     "{} .align 0 .b8 v[8];", "{} .align 99999999999999999999 .b8 v[8];"],
)  # fmt: skip
@pytest.mark.parametrize("space", [".global", ".const", ".shared", ".local", ".param"])
def test_sizes_and_alignments_that_make_no_sense_are_refused(
    device: Device, space: str, declaration: str
) -> None:
    text = declaration.format(space)
    if space in (".global", ".const"):
        ptx = f"{text}\n.visible .entry f() {{ ret; }}"
    elif space == ".param":
        ptx = f".visible .entry f({text.rstrip(';')}) {{ ret; }}"
    else:
        ptx = f".visible .entry f() {{\n{text}\nret;\n}}"
    with pytest.raises(PtxError, match=r"array size|alignment") as caught:
        device.function(ptx)
    assert caught.value.result == INVALID_PTX


def test_a_refused_function_does_not_spoil_its_module(device: Device) -> None:
    module = device.gpu.load_module(
        (HEADER + ".entry bad() { wmma.foo; ret; } .entry good() { ret; }").encode()
    )
    assert module.function_names() == ("bad", "good")
    module.get_function("good").launch((1, 1, 1), (1, 1, 1), 0, b"")
    with pytest.raises(PtxError):
        module.get_function("bad")
    with pytest.raises(KeyError):
        module.get_function("absent")
    with pytest.raises(KeyError):
        module.get_global("absent")


def test_nesting_without_end_is_refused(device: Device) -> None:
    depth = 700
    functions = "".join(f".func g{i}() {{ call g{i + 1}, (); ret; }}" for i in range(depth))
    with pytest.raises(PtxError) as caught:
        device.function(
            f"{functions} .func g{depth}() {{ ret; }} .entry f() {{ call g0, (); ret; }}"
        )
    assert "nested too deeply" in caught.value.log


def test_function_properties(device: Device) -> None:
    function = device.cuda(
        """struct S { char c[12]; double d; };
        extern "C" __global__ void __launch_bounds__(192) f(char a, double b, S s, int *out) {
            __shared__ float tile[100];
            int local[40];
            tile[threadIdx.x % 100] = a + b + s.d + s.c[3];
            for (int i = 0; i < 40; i++) local[i] = tile[i] + i;
            out[0] = local[out[1] % 40];
        }"""
    )
    assert function.name == "f"
    assert function.params == (
        ParamInfo(0, 1),
        ParamInfo(8, 8),
        ParamInfo(16, 24),
        ParamInfo(40, 8),
    )
    assert function.param_bytes == 48
    assert function.static_shared_bytes == 400
    assert function.local_bytes == 160
    assert function.max_threads_per_block == 192
    assert 4 <= function.num_regs <= 255


def test_structures_by_value(device: Device) -> None:
    function = device.cuda(
        """struct S { int n; float f[5]; };
        extern "C" __global__ void f(S s, float *out) {
            out[threadIdx.x] = s.f[threadIdx.x % s.n] * 2;
        }"""
    )
    out = device.zeros(32, np.float32)
    parameters = struct.pack("<i5fQ", 5, 1.0, 2.0, 3.0, 4.0, 5.0, out)
    function.launch((1, 1, 1), (32, 1, 1), 0, parameters)
    got = device.download(out, 32, np.float32).tolist()
    assert got == [2.0 * (t % 5 + 1) for t in range(32)]


def test_newer_targets_run_on_a_newer_device(tmp_path: Path) -> None:
    gpu = SoftwareGpu(
        total_memory=1 << 24,
        threads=1,
        cache_dir=tmp_path,
        translation=Translation(PROFILES["sm_80"]),
    )
    try:
        ptx = compile_ptx(
            'extern "C" __global__ void f(int *p) { atomicAdd(p, threadIdx.x); }', "compute_75"
        )
        cell = gpu.alloc(4)
        function = gpu.load_module(ptx + b"\0").get_function("f")
        function.launch((2, 1, 1), (96, 1, 1), 0, struct.pack("<Q", cell))
        device = Device(gpu)
        assert device.download(cell, 1, np.int32)[0] == 2 * 95 * 48
        assert gpu.attributes()[75] == 8
    finally:
        gpu.close()


def test_kernels_come_from_the_cache_the_second_time(tmp_path: Path) -> None:
    ptx = (HEADER + ".entry f() { ret; }").encode()
    for expected in (1, 0):
        gpu = SoftwareGpu(total_memory=1 << 20, threads=1, cache_dir=tmp_path / "cache")
        gpu.load_module(ptx).get_function("f").launch((1, 1, 1), (1, 1, 1), 0, b"")
        assert gpu.compiler.compiled == expected
        gpu.close()
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_module_known_from_an_earlier_run_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ptx = HEADER + (
        ".global .align 8 .u64 place = table+8; .global .align 4 .u32 table[3] = {5, 6, 7};"
        ".entry f(.param .u64 out, .param .u32 step) { .reg .b64 %x, %y; .reg .b32 %v;"
        " mov.u64 %x, place; ld.global.u64 %x, [%x]; ld.global.u32 %v, [%x];"
        " ld.param.u64 %y, [out]; st.global.u32 [%y], %v; ret; }"
    )

    def run() -> tuple[list[int], tuple[ParamInfo, ...]]:
        gpu = SoftwareGpu(total_memory=1 << 20, threads=1, cache_dir=tmp_path / "cache")
        try:
            # Memory that the other run did not have makes all addresses differ.
            out = [gpu.alloc(4) for _ in range(3)][-1]
            function = gpu.load_module(ptx.encode()).get_function("f")
            function.launch((1, 1, 1), (1, 1, 1), 0, struct.pack("<QI", out, 0))
            return Device(gpu).download(out, 1, np.uint32).tolist(), function.params
        finally:
            gpu.close()

    expected = ([7], (ParamInfo(0, 8), ParamInfo(8, 4)))
    assert run() == expected

    def looked(*_: object) -> None:
        raise AssertionError("the text was looked at")

    monkeypatch.setattr(module, "translate", looked)
    monkeypatch.setattr(module, "index_module", looked)
    assert run() == expected


def test_another_translation_has_an_entry_of_its_own(tmp_path: Path) -> None:
    ptx = (HEADER + ".entry f() { ret; }").encode()
    for translation in (Translation(), Translation(PROFILES["sm_80"]), Translation(general=True)):
        gpu = SoftwareGpu(
            total_memory=1 << 20, threads=1, cache_dir=tmp_path / "cache", translation=translation
        )
        gpu.load_module(ptx).get_function("f").launch((1, 1, 1), (1, 1, 1), 0, b"")
        assert gpu.compiler.compiled == 1
        gpu.close()


def test_a_kernel_damaged_on_disk_is_compiled_again(tmp_path: Path) -> None:
    ptx = (HEADER + ".entry f() { ret; }").encode()
    for _ in range(2):
        gpu = SoftwareGpu(total_memory=1 << 20, threads=1, cache_dir=tmp_path / "cache")
        gpu.load_module(ptx).get_function("f").launch((1, 1, 1), (1, 1, 1), 0, b"")
        assert gpu.compiler.compiled == 1
        gpu.close()
        for file in (tmp_path / "cache").iterdir():
            file.write_bytes(file.read_bytes()[:-8])


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="writable by others"):
        SoftwareGpu(total_memory=1 << 20, threads=1, cache_dir=tmp_path)


def test_compiler_errors_carry_the_log() -> None:
    with pytest.raises(NvrtcError, match="undefined_name"):
        compile_ptx('extern "C" __global__ void f() { undefined_name(); }')


def test_memory_is_accounted_and_returned(device: Device) -> None:
    gpu = device.gpu
    before = gpu.free_memory
    pointers = [gpu.alloc(size) for size in (1, 511, 512, 5000, 1 << 20)]
    assert all(pointer % 512 == 0 for pointer in pointers)
    assert before - gpu.free_memory == 512 * 3 + 5120 + (1 << 20)
    aligned = gpu.alloc(10, alignment=65536)
    assert aligned % 65536 == 0
    for pointer in [*pointers[::2], *pointers[1::2], aligned]:
        gpu.free(pointer)
    assert gpu.free_memory == before
    with pytest.raises(MemoryError):
        gpu.alloc(gpu.total_memory + 1)
    with pytest.raises(KeyError):
        gpu.free(aligned)


def test_freed_pages_read_as_zero_again(device: Device) -> None:
    pointer = device.upload(np.full(1 << 16, 255, np.uint8))
    device.gpu.free(pointer)
    again = device.gpu.alloc(1 << 16)
    got = device.download(again, 1 << 16, np.uint8)
    assert not got[4096:-4096].any()
    device.gpu.free(again)


@pytest.mark.parametrize("statement", ["mov.u64 %x;", "cvt.u64.u32 %x;", "add.u64 %x, %x;"])
def test_statements_with_too_few_operands_are_refused(device: Device, statement: str) -> None:
    ptx = ".func g() { ret; } .entry f() { .reg .b64 %x; call g, (); " + statement + " ret; }"
    with pytest.raises(PtxError) as caught:
        device.function(ptx)
    assert caught.value.result == INVALID_PTX
    assert "wrong number or kind of operands" in caught.value.log

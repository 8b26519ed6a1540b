"""`printf` and `assert` in kernels: text, arguments of every kind, and the error after it."""

from __future__ import annotations

import pytest

from vgpu_host.executors.software.errors import CudaResult, DeviceFault

from .conftest import Device


def printed(device: Device, source: str, threads: int = 1) -> str:
    device.cuda(source).launch((1, 1, 1), (threads, 1, 1), 0, b"")
    return device.gpu.output.take().decode()


def kernel(body: str) -> str:
    return 'extern "C" __global__ void f() {' + body + "}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (r'"plain\n"', "plain\n"),
        (r'"%d %5d|%-5d|%05d\n", -1, 42, 42, 42', "-1    42|42   |00042\n"),
        (r'"%u %x %#X %o\n", 4000000000u, 255, 255, 8', "4000000000 ff 0XFF 10\n"),
        (r'"%lld %lu %d\n", -5000000000ll, 5000000000ul, 7', "-5000000000 5000000000 7\n"),
        (r'"%f %.3e %g\n", 1.5f, 1e-10, 0.25', "1.500000 1.000e-10 0.25\n"),
        (r'"%s and %8s|%.2s\n", "one", "two", "three"', "one and      two|th\n"),
        (r'"%c%c%%\n", 72, 105', "Hi%\n"),
        (r'"%*d|%.*f\n", 6, 3, 1, 2.25', "     3|2.2\n"),
        (r'"%p\n", (void*)0x1234', "0x1234\n"),
        (r'"%hhd %hd\n", 257, 65537', "1 1\n"),
    ],
)
def test_formats_as_c_does(device: Device, arguments: str, expected: str) -> None:
    assert printed(device, kernel(f"printf({arguments});")) == expected


def test_each_active_thread_prints_its_own_arguments(device: Device) -> None:
    source = kernel('if (threadIdx.x % 16 == 3) printf("%d %d\\n", threadIdx.x, blockIdx.x);')
    assert printed(device, source, 40) == "3 0\n19 0\n35 0\n"


def test_yields_the_number_of_arguments(device: Device) -> None:
    assert printed(device, kernel('int n = printf("%d,%d;", 1, 2); printf("%d", n);')) == "1,2;2"


def test_output_is_taken_once(device: Device) -> None:
    assert printed(device, kernel('printf("x");')) == "x"
    assert device.gpu.output.take() == b""


def test_a_wild_string_is_not_read(device: Device) -> None:
    source = kernel('printf("%s|%s\\n", (char*)64, (char*)0);')
    assert printed(device, source) == "(bad address)|(null)\n"


def test_output_beyond_the_capacity_is_dropped(device: Device) -> None:
    output = device.gpu.output
    full, output.capacity = output.capacity, 10
    try:
        assert printed(device, kernel('printf("1234\\n");'), 32) == "1234\n1234\n"
    finally:
        output.capacity = full


def test_failed_assertion_names_the_place_and_ends_the_kernel(device: Device) -> None:
    source = kernel(
        "if (threadIdx.x == 16 && threadIdx.y)"
        ' __assertfail("a < b", "file.cu", 7, "void f()", sizeof(char));'
    )
    declaration = (
        'extern "C" __device__ void '
        "__assertfail(const char*, const char*, unsigned, const char*, size_t);\n"
    )
    with pytest.raises(DeviceFault, match="assertion") as caught:
        device.cuda(declaration + source).launch((2, 1, 1), (17, 2, 1), 0, b"")
    assert caught.value.result == CudaResult.ASSERT
    assert device.gpu.output.take() == (
        b"file.cu:7: void f(): block: [0,0,0], thread: [16,1,0] Assertion `a < b` failed.\n"
    )

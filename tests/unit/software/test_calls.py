"""Calls that cannot be inlined: recursion, pointers to functions, and the stack of a thread."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vgpu_host.executors.software.errors import CudaResult, DeviceFault, PtxError
from vgpu_host.nvrtc import compile_ptx

from .conftest import Device


def run(device: Device, source: str, *more: int, threads: int = 64) -> list[int]:
    """Run `f(int *out, ...)` of CUDA C++ in one block; a word per thread comes back."""
    function = device.cuda(source)
    out = device.zeros(threads, np.int32)
    codes = "".join("Q" if each >> 31 else "i" for each in more)
    function.launch((1, 1, 1), (threads, 1, 1), 0, struct.pack(f"<Q{codes}", out, *more))
    got: list[int] = device.download(out, threads, np.int32).tolist()
    return got


def test_recursion_with_two_calls(device: Device) -> None:
    """Registers of the caller outlive the calls, to a depth that differs from lane to lane."""
    got = run(
        device,
        """__device__ __noinline__ int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
        extern "C" __global__ void f(int *out) { out[threadIdx.x] = fib(threadIdx.x & 15); }""",
    )
    numbers = [0, 1]
    while len(numbers) < 16:
        numbers.append(numbers[-1] + numbers[-2])
    assert got == [numbers[t & 15] for t in range(64)]


def test_quicksort(device: Device) -> None:
    """Each thread sorts an array of its own."""
    size, threads = 40, 64
    function = device.cuda(
        """__device__ __noinline__ void sort(int *d, int l, int r) {
            if (l >= r) return;
            int p = d[(l + r) / 2], i = l, j = r;
            while (i <= j) {
                while (d[i] < p) i++;
                while (d[j] > p) j--;
                if (i <= j) { int t = d[i]; d[i++] = d[j]; d[j--] = t; }
            }
            sort(d, l, j); sort(d, i, r);
        }
        extern "C" __global__ void f(int *d, int n) { sort(d + threadIdx.x * n, 0, n - 1); }"""
    )
    data = np.random.default_rng(1).integers(0, 50, (threads, size), dtype=np.int32)
    pointer = device.upload(data)
    function.launch((1, 1, 1), (threads, 1, 1), 0, struct.pack("<Qi", pointer, size))
    got = device.download(pointer, threads * size, np.int32).reshape(threads, size)
    assert got.tolist() == np.sort(data, axis=1).tolist()


def test_functions_that_call_each_other(device: Device) -> None:
    got = run(
        device,
        """__device__ __noinline__ int odd(int n);
        __device__ __noinline__ int even(int n) { return n ? odd(n - 1) + 2 : 100; }
        __device__ __noinline__ int odd(int n) { return n ? even(n - 1) + 1 : 200; }
        extern "C" __global__ void f(int *out) { out[threadIdx.x] = even(threadIdx.x); }""",
    )
    assert got == [(t + 1) // 2 * 2 + t // 2 + (200 if t & 1 else 100) for t in range(64)]


def test_arrays_of_each_call_are_its_own(device: Device) -> None:
    """Pointers to a caller's array stay good in what it calls."""
    got = run(
        device,
        """__device__ __noinline__ int walk(int depth, int *above) {
            int mine[4];
            for (int i = 0; i < 4; i++) mine[i] = above ? above[i] + depth : i;
            int below = depth ? walk(depth - 1, mine) : 0;
            if (above) above[depth & 3] += 1;
            return below + mine[0] + mine[1] * 10 + mine[2] * 100 + mine[3] * 1000;
        }
        extern "C" __global__ void f(int *out) { out[threadIdx.x] = walk(threadIdx.x & 7, 0); }""",
    )

    def walk(depth: int, above: list[int] | None) -> int:
        mine = [above[i] + depth if above else i for i in range(4)]
        below = walk(depth - 1, mine) if depth else 0
        if above:
            above[depth & 3] += 1
        return below + mine[0] + mine[1] * 10 + mine[2] * 100 + mine[3] * 1000

    assert got == [walk(t & 7, None) for t in range(64)]


def test_functions_in_a_table(device: Device) -> None:
    """Lanes of a warp call different functions by one instruction, and meet again behind it."""
    got = run(
        device,
        """__device__ int add(int a, int b) { return a + b; }
        __device__ int sub(int a, int b) { return a - b; }
        __device__ int mul(int a, int b) { return a * b; }
        typedef int (*operation)(int, int);
        __constant__ operation table[3] = {add, sub, mul};
        extern "C" __global__ void f(int *out) {
            int t = threadIdx.x, r = table[t % 3](t, 7);
            __syncthreads();
            out[t] = r * 1000 + __shfl_xor_sync(~0u, r, 1);
        }""",
    )
    values = [(t + 7, t - 7, t * 7)[t % 3] for t in range(64)]
    assert got == [values[t] * 1000 + values[t ^ 1] for t in range(64)]


def test_virtual_functions_of_objects_that_another_kernel_made(device: Device) -> None:
    module = device.gpu.load_module(
        compile_ptx(
            """struct Shape { int k; __device__ virtual int f(int) = 0; };
            struct Times : Shape { __device__ int f(int x) override { return x * k; } };
            struct Power : Shape {
                __device__ int f(int x) override { return k ? x * (k--, f(x)) : 1; }
            };
            extern "C" __global__ void make(char *room) {
                Shape *s = threadIdx.x & 1 ? (Shape *)new (room + 16 * threadIdx.x) Power
                                           : (Shape *)new (room + 16 * threadIdx.x) Times;
                s->k = threadIdx.x & 7;
            }
            extern "C" __global__ void f(int *out, char *room) {
                out[threadIdx.x] = ((Shape *)(room + 16 * threadIdx.x))->f(3);
            }"""
        )
    )
    room, out = device.zeros(64 * 4, np.int32), device.zeros(64, np.int32)
    for name, arguments in (("make", (room,)), ("f", (out, room))):
        parameters = struct.pack(f"<{len(arguments)}Q", *arguments)
        module.get_function(name).launch((1, 1, 1), (64, 1, 1), 0, parameters)
    got = device.download(out, 64, np.int32).tolist()
    assert got == [3 ** (t & 7) if t & 1 else 3 * (t & 7) for t in range(64)]


def test_structures_by_value(device: Device) -> None:
    got = run(
        device,
        """struct Pair { long long a; int b; char c; };
        __device__ __noinline__ Pair swap(Pair p, int depth) {
            Pair q; q.a = p.b; q.b = (int)p.a + depth; q.c = p.c + 1;
            return depth ? swap(q, depth - 1) : q;
        }
        extern "C" __global__ void f(int *out) {
            Pair p; p.a = threadIdx.x; p.b = 1000; p.c = 3;
            Pair q = swap(p, threadIdx.x % 5);
            out[threadIdx.x] = (int)q.a * 7 + q.b * 3 + q.c;
        }""",
    )

    def swap(a: int, b: int, c: int, depth: int) -> tuple[int, int, int]:
        a, b, c = b, a + depth, c + 1
        return swap(a, b, c, depth - 1) if depth else (a, b, c)

    expected = [swap(t, 1000, 3, t % 5) for t in range(64)]
    assert got == [a * 7 + b * 3 + c for a, b, c in expected]


def test_barrier_in_a_recursive_function(device: Device) -> None:
    got = run(
        device,
        """__device__ __noinline__ int turn(int *cells, int depth) {
            if (!depth) return 0;
            __syncthreads();
            int seen = cells[(threadIdx.x + depth) % blockDim.x];
            __syncthreads();
            cells[threadIdx.x] = seen + 1;
            return turn(cells, depth - 1) + seen;
        }
        extern "C" __global__ void f(int *out) {
            __shared__ int cells[96];
            cells[threadIdx.x] = threadIdx.x;
            out[threadIdx.x] = turn(cells, 4);
        }""",
        threads=96,
    )
    cells, sums = list(range(96)), [0] * 96
    for depth in (4, 3, 2, 1):
        seen = [cells[(t + depth) % 96] for t in range(96)]
        cells = [value + 1 for value in seen]
        sums = [a + b for a, b in zip(sums, seen, strict=True)]
    assert got == sums


def test_exit_in_a_called_function(device: Device) -> None:
    got = run(
        device,
        """__device__ __noinline__ int dive(int n) {
            if (n == 3) asm volatile("exit;");
            return n ? dive(n - 1) + 1 : 5;
        }
        extern "C" __global__ void f(int *out) { out[threadIdx.x] = dive(threadIdx.x & 3); }""",
    )
    assert got == [0 if t & 3 == 3 else 5 + (t & 3) for t in range(64)]


def test_endless_recursion_fills_the_stack(device: Device) -> None:
    with pytest.raises(DeviceFault) as caught:
        run(
            device,
            """__device__ __noinline__ int deep(int n) { return n < 0 ? n : deep(n + 1) * 3 + 1; }
            extern "C" __global__ void f(int *out) { out[threadIdx.x] = deep(threadIdx.x); }""",
        )
    assert caught.value.result == CudaResult.HARDWARE_STACK_ERROR


def test_trap_in_a_called_function(device: Device) -> None:
    with pytest.raises(DeviceFault) as caught:
        run(
            device,
            """__device__ __noinline__ int dive(int n) {
                if (n == 9) asm volatile("trap;");
                return n == 60 ? 1 : dive(n + 1) * 3;
            }
            extern "C" __global__ void f(int *out) { out[threadIdx.x] = dive(threadIdx.x & 3); }""",
        )
    assert caught.value.result == CudaResult.LAUNCH_FAILED
    assert caught.value.message.endswith("trap")


def test_pointer_to_no_function(device: Device) -> None:
    with pytest.raises(DeviceFault) as caught:
        run(
            device,
            """typedef int (*operation)(int);
            extern "C" __global__ void f(int *out, operation where) { *out = where(1); }""",
            0xDEAD0000,
        )
    assert caught.value.result == CudaResult.LAUNCH_FAILED
    assert "to no such function" in caught.value.message


ALLOCA = """.version 7.3
.target sm_52
.address_size 64
.func (.param .u32 sum) spread(.param .u32 count) {
    .reg .b32 %r<9>; .reg .b64 %x<9>; .reg .pred %p;
    ld.param.u32 %r1, [count]; mov.u32 %r2, 0;
    mul.wide.u32 %x1, %r1, 4; alloca.u64 %x2, %x1, 32;
    and.b64 %x3, %x2, 31; cvt.u32.u64 %r5, %x3;
    LOOP: mul.wide.u32 %x4, %r2, 4; add.u64 %x4, %x4, %x2; st.local.u32 [%x4], %r2;
    add.u32 %r2, %r2, 1; setp.lt.u32 %p, %r2, %r1; @%p bra LOOP;
    SUM: sub.u32 %r2, %r2, 1; mul.wide.u32 %x4, %r2, 4; add.u64 %x4, %x4, %x2;
    ld.local.u32 %r6, [%x4]; add.u32 %r5, %r5, %r6; setp.ne.u32 %p, %r2, 0; @%p bra SUM;
    st.param.u32 [sum], %r5; ret; }
.visible .entry f(.param .u64 p, .param .u32 first, .param .u32 most) {
    .reg .b32 %r<9>; .reg .b64 %x<9>;
    .reg .pred %p;
    ld.param.u64 %x1, [p]; ld.param.u32 %r4, [most]; mov.u32 %r1, %tid.x; mul.wide.u32 %x2, %r1, 4;
    add.u64 %x3, %x1, %x2; mov.u32 %r2, 0; ld.param.u32 %r5, [first];
    AGAIN: { .param .u32 a; .param .u32 b; st.param.u32 [a], %r5; call (b), spread, (a);
    ld.param.u32 %r3, [b]; } add.u32 %r2, %r2, %r3;
    add.u32 %r5, %r5, 1; setp.le.u32 %p, %r5, %r4; @%p bra AGAIN;
    st.global.u32 [%x3], %r2; ret; }
"""


def test_memory_of_alloca_lasts_until_the_return(device: Device) -> None:
    """All calls together ask for more than the stack has; too large a one is an error."""
    function = device.gpu.load_module(ALLOCA.encode()).get_function("f")
    out = device.zeros(32, np.int32)
    function.launch((1, 1, 1), (32, 1, 1), 0, struct.pack("<QII", out, 1, 300))
    expected = sum(n * (n - 1) // 2 for n in range(1, 301))
    assert device.download(out, 32, np.int32).tolist() == [expected] * 32
    with pytest.raises(DeviceFault) as caught:
        function.launch((1, 1, 1), (32, 1, 1), 0, struct.pack("<QII", out, 17000, 17000))
    assert caught.value.result == CudaResult.HARDWARE_STACK_ERROR


def test_kernels_that_launch_kernels_are_refused(device: Device) -> None:
    text = """.version 6.0
    .target sm_50
    .address_size 64
    .extern .func (.param .b32 r) cudaLaunchDeviceV2(.param .b64 a, .param .b64 b);
    .visible .entry f() { .reg .b64 %x; .param .b64 a; .param .b64 b; .param .b32 r;
    call (r), cudaLaunchDeviceV2, (a, b); ret; }"""
    with pytest.raises(PtxError) as caught:
        device.gpu.load_module(text.encode()).get_function("f")
    assert "dynamic parallelism" in caught.value.log
    assert "cudaLaunchDeviceV2" in caught.value.log

"""Divergent control flow: random flow graphs against a lane-by-lane interpreter."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import numpy as np
import pytest

from vgpu_host.executors.software.codegen import control

from .conftest import Device

M32 = 0xFFFFFFFF
REGISTERS = 5
OPERATIONS = {
    "add.u32": lambda a, b: a + b,
    "sub.u32": lambda a, b: a - b,
    "xor.b32": lambda a, b: a ^ b,
    "mul.lo.u32": lambda a, b: a * b,
    "max.u32": max,
}


@dataclass
class Step:
    """One random instruction: target, operation, two source registers, optional predicate."""

    target: int
    operation: str
    a: int
    b: int
    predicated: bool


@dataclass
class Node:
    """A block: steps, then a jump to `taken` if register % modulus == 0, else to `fallen`."""

    steps: list[Step]
    register: int
    modulus: int
    taken: int
    fallen: int


def random_graph(seed: int, blocks: int) -> list[Node]:
    rng = random.Random(seed)

    def step() -> Step:
        return Step(
            rng.randrange(REGISTERS),
            rng.choice(list(OPERATIONS)),
            rng.randrange(REGISTERS),
            rng.randrange(REGISTERS),
            rng.random() < 0.3,
        )

    return [
        Node(
            [step() for _ in range(rng.randrange(1, 4))],
            rng.randrange(REGISTERS),
            rng.choice([2, 3, 5]),
            rng.randrange(blocks + 1),
            rng.randrange(blocks + 1),
        )
        for _ in range(blocks)
    ]


def to_ptx(graph: list[Node], barriers: bool) -> str:
    lines = [
        ".visible .entry f(.param .u64 p, .param .u32 uniform) {",
        ".reg .b32 %v<10>, %t<4>; .reg .b64 %x<3>; .reg .pred %p, %q;",
        "mov.u32 %t0, %tid.x; ld.param.u32 %v1, [uniform]; mov.u32 %v2, 7; mov.u32 %v0, %t0;",
        "mul.lo.u32 %v3, %t0, %t0; mov.u32 %v4, 1; mov.u32 %v9, 0;",
    ]
    for index, node in enumerate(graph):
        lines.append(f"B{index}: add.u32 %v9, %v9, 1; setp.gt.u32 %p, %v9, 40; @%p bra END;")
        for step in node.steps:
            guard = ""
            if step.predicated:
                lines.append(f"and.b32 %t1, %v{step.a}, 4; setp.ne.u32 %q, %t1, 0;")
                guard = "@%q "
            lines.append(f"{guard}{step.operation} %v{step.target}, %v{step.a}, %v{step.b};")
        lines.append(f"rem.u32 %t2, %v{node.register}, {node.modulus}; setp.eq.u32 %p, %t2, 0;")
        lines.append(f"@%p bra {target(graph, node.taken)}; bra {target(graph, node.fallen)};")
    lines.append("END:")
    if barriers:
        lines.append("bar.sync 0;")
    lines.append("ld.param.u64 %x1, [p]; mad.wide.u32 %x1, %t0, 24, %x1;")
    for number, register in enumerate([0, 1, 2, 3, 4, 9]):
        lines.append(f"st.global.u32 [%x1+{4 * number}], %v{register};")
    lines.append("ret; }")
    return "\n".join(lines)


def target(graph: list[Node], index: int) -> str:
    return "END" if index == len(graph) else f"B{index}"


def interpret(graph: list[Node], thread: int, uniform: int) -> list[int]:
    values = [thread, uniform, 7, thread * thread & M32, 1]
    at, steps = 0, 0
    while at < len(graph):
        steps += 1
        if steps > 40:
            break
        node = graph[at]
        for step in node.steps:
            if not step.predicated or values[step.a] & 4:
                result = OPERATIONS[step.operation](values[step.a], values[step.b])
                values[step.target] = result & M32
        at = node.taken if values[node.register] % node.modulus == 0 else node.fallen
    return [*values, steps]


@pytest.mark.parametrize("most_live", [control._MOST_LIVE, 0], ids=["values", "in memory"])
@pytest.mark.parametrize("seed", range(24))
def test_random_flow_graph(
    device: Device, seed: int, most_live: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registers as values of LLVM, and in the warp's context as in the largest kernels."""
    monkeypatch.setattr(control, "_MOST_LIVE", most_live)
    graph = random_graph(seed, blocks=3 + seed % 8)
    threads = 80
    function = device.function(to_ptx(graph, barriers=seed % 2 == 1))
    out = device.zeros(threads * 6, np.uint32)
    function.launch((1, 1, 1), (threads, 1, 1), 0, struct.pack("<QI", out, 12))
    got = device.download(out, (threads, 6), np.uint32)
    assert got.tolist() == [interpret(graph, thread, 12) for thread in range(threads)]


def test_barrier_inside_divergent_loops(device: Device) -> None:
    function = device.cuda(
        """extern "C" __global__ void f(int *out, int n) {
            __shared__ int cell;
            int t = threadIdx.x, sum = 0;
            if (t >= n) return;
            for (int i = 0; i < 6; i++) {
                if (t == i) cell = i * 10;
                __syncthreads();
                int extra = 0;
                for (int k = 0; k < t % 7; k++) extra += cell + k;
                sum += extra;
                __syncthreads();
            }
            out[t] = sum;
        }"""
    )
    out = device.zeros(100, np.int32)
    function.launch((1, 1, 1), (128, 1, 1), 0, struct.pack("<Qi", out, 100))
    expected = [sum(sum(i * 10 + k for k in range(t % 7)) for i in range(6)) for t in range(100)]
    assert device.download(out, 100, np.int32).tolist() == expected


def test_switch_through_a_branch_table(device: Device) -> None:
    body = (
        "TS: .branchtargets L0, L1, L2, L3; and.b32 %r1, %a, 3; brx.idx %r1, TS;"
        "L0: mov.u32 %d, 100; bra DONE; L1: mov.u32 %d, 200; bra DONE;"
        "L2: mov.u32 %d, 300; bra DONE; L3: mov.u32 %d, 400; DONE:"
    )
    lanes = np.arange(70, dtype=np.uint32)
    got = device.run_lanes(body, [lanes], np.uint32)
    assert got.tolist() == [100 * (t % 4 + 1) for t in range(70)]


def test_return_in_the_middle_of_a_device_function(device: Device) -> None:
    function = device.cuda(
        """__device__ __noinline__ int g(int x) {
            for (int i = 0; i < 10; i++) if (i * i > x) return i;
            return -x;
        }
        extern "C" __global__ void f(int *out) {
            int t = threadIdx.x;
            if (t == 50) return;
            out[t] = g(t) + (t % 2 ? g(t * 2) : 1000);
        }"""
    )

    def g(x: int) -> int:
        return next((i for i in range(10) if i * i > x), -x)

    out = device.zeros(128, np.int32)
    function.launch((1, 1, 1), (128, 1, 1), 0, struct.pack("<Q", out))
    expected = [0 if t == 50 else g(t) + (g(t * 2) if t % 2 else 1000) for t in range(128)]
    assert device.download(out, 128, np.int32).tolist() == expected


def test_registers_that_were_never_written_read_as_zero(device: Device) -> None:
    body = "setp.lt.u32 %p, %a, 20; @%p mov.u32 %r9, 5; add.u32 %d, %r9, %r10;"
    got = device.run_lanes(body, [np.arange(64, dtype=np.uint32)], np.uint32)
    assert got.tolist() == [5] * 20 + [0] * 44


def test_lanes_that_left_by_a_predicated_exit_do_nothing_more(device: Device) -> None:
    function = device.function(
        """.visible .entry f(.param .u64 p) { .reg .b32 %r<4>; .reg .b64 %x<4>; .reg .pred %p<2>;
        ld.param.u64 %x1, [p]; mov.u32 %r1, %tid.x; mul.wide.u32 %x2, %r1, 4; add.u64 %x3, %x1, %x2;
        and.b32 %r2, %r1, 3; setp.eq.u32 %p1, %r2, 2;
        @%p1 exit;
        st.global.u32 [%x3], 1; ret; }"""
    )
    out = device.zeros(32, np.uint32)
    function.launch((1, 1, 1), (32, 1, 1), 0, struct.pack("<Q", out))
    assert device.download(out, 32, np.uint32).tolist() == [int(t & 3 != 2) for t in range(32)]


def test_lanes_that_go_back_at_once_wait_for_those_that_take_longer(device: Device) -> None:
    """`for (i = 0; i < 9; i++) { sum += i; if (odd) continue; i++; sum *= 3; }`"""
    function = device.function(
        """.visible .entry f(.param .u64 p) { .reg .b32 %t, %o, %i, %s; .reg .b64 %x;
        .reg .pred %p, %q; mov.u32 %t, %tid.x; and.b32 %o, %t, 1; setp.eq.u32 %q, %o, 1;
        mov.u32 %i, 0; mov.u32 %s, %t;
        HEAD: setp.ge.u32 %p, %i, 9; @%p bra END;
        add.u32 %s, %s, %i; add.u32 %i, %i, 1; @%q bra HEAD;
        add.u32 %i, %i, 1; mul.lo.u32 %s, %s, 3; bra HEAD;
        END: ld.param.u64 %x, [p]; mad.wide.u32 %x, %t, 8, %x; st.global.v2.u32 [%x], {%s, %i};
        ret; }"""
    )
    out = device.zeros(128, np.uint32)
    function.launch((1, 1, 1), (64, 1, 1), 0, struct.pack("<Q", out))
    expected = []
    for thread in range(64):
        i, total = 0, thread
        while i < 9:
            total += i
            i += 1
            if thread % 2 == 0:
                i += 1
                total *= 3
        expected.append([total & M32, i])
    assert device.download(out, (64, 2), np.uint32).tolist() == expected

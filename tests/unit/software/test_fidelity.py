"""What instructions are worth, and how often they ran."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vgpu_host.executors.software.codegen import kernel
from vgpu_host.executors.software.codegen.registry import TABLE
from vgpu_host.executors.software.counts import CountTable, KernelCounts, merged, read_counts
from vgpu_host.executors.software.errors import DeviceFault
from vgpu_host.executors.software.fidelity import APPROXIMATE, DIFFERENT, EXACT, Fidelity, judge
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.index import index_module
from vgpu_host.executors.software.translation import Translation
from vgpu_host.executors.software.translator import Lowering

from .conftest import HEADER, Device

#: 2 blocks of 40 threads: two warps each, the second with 8 lanes.
GRID, BLOCK = (2, 1, 1), (40, 1, 1)
WARPS, THREADS = 4, 80

KERNEL = """
.func (.param .b32 r) half(.param .b32 x) {
  .reg .f32 %f<3>;
  ld.param.f32 %f1, [x];
  mul.f32 %f2, %f1, 0f3F000000;
  st.param.f32 [r], %f2;
  ret;
}
.entry f(.param .u64 out) {
  .reg .pred %p<3>; .reg .b32 %r<8>; .reg .b64 %x<4>; .reg .f32 %f<4>;
  .param .b32 argument; .param .b32 result;
  ld.param.u64 %x1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, 0;
LOOP:
  add.u32 %r2, %r2, 1;
  setp.lt.u32 %p1, %r2, 5;
  @%p1 bra LOOP;
  bar.sync 0;
  setp.ge.u32 %p2, %r1, 4;
  @%p2 bra END;
  cvt.rn.f32.u32 %f1, %r1;
  ex2.approx.f32 %f1, %f1;
  st.param.f32 [argument], %f1;
  call (result), half, (argument);
  ld.param.f32 %f1, [result];
  mul.wide.u32 %x2, %r1, 4;
  add.u64 %x2, %x1, %x2;
  st.global.cg.f32 [%x2], %f1;
END:
  mov.u32 %r3, %clock;
  ret;
}
"""


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Callable[..., SoftwareGpu]]:
    made: list[SoftwareGpu] = []

    def make(**arguments: Any) -> SoftwareGpu:
        arguments = {
            "total_memory": 1 << 20,
            "threads": 1,
            "translation": Translation(count=True),
            "cache_dir": tmp_path / "cache",
            **arguments,
        }
        made.append(SoftwareGpu(**arguments))
        return made[-1]

    yield make
    for gpu in made:
        gpu.close()


def launch(gpu: SoftwareGpu, text: str = KERNEL, grid: Any = GRID, block: Any = BLOCK) -> None:
    out = gpu.alloc(4096)
    gpu.load_module((HEADER + text).encode()).get_function("f").launch(
        grid, block, 0, struct.pack("<Q", out)
    )


def counts_of(gpu: SoftwareGpu) -> KernelCounts:
    (counts,) = merged(table.read() for table in gpu.counts)
    return counts


def test_instructions_of_warps_and_threads_are_counted(
    counting: Callable[..., SoftwareGpu],
) -> None:
    gpu = counting()
    launch(gpu)
    counts = counts_of(gpu)
    assert (counts.kernel, counts.launches) == ("f", 1)
    assert counts.warps == {
        "ld.param.u64": WARPS,
        "mov.u32": 2 * WARPS,
        "add.u32": 5 * WARPS,
        "setp.lt.u32": 5 * WARPS,
        "bra": 6 * WARPS,
        "bar.sync": WARPS,
        "setp.ge.u32": WARPS,
        # Only the first warp of each block has threads below 4.
        "cvt.rn.f32.u32": 2,
        "ex2.approx.f32": 2,
        "st.param.f32": 4,
        "ld.param.f32": 4,
        "mul.f32": 2,
        "mul.wide.u32": 2,
        "add.u64": 2,
        "st.global.cg.f32": 2,
        "mov.u32(%clock)": WARPS,
        "ret": WARPS + 2,
    }
    for name in ("ex2.approx.f32", "mul.f32", "st.global.cg.f32"):
        assert counts.threads[name] == 8
    assert counts.threads["add.u32"] == 5 * THREADS
    assert counts.threads["bra"] == 6 * THREADS
    assert counts.threads["bar.sync"] == counts.threads["mov.u32(%clock)"] == THREADS


@pytest.mark.parametrize("general", [False, True])
def test_counts_do_not_depend_on_host_threads_or_the_cache(
    counting: Callable[..., SoftwareGpu], general: bool
) -> None:
    counts = []
    for threads in (1, 3, 1):
        gpu = counting(threads=threads, translation=Translation(count=True, general=general))
        function = gpu.load_module((HEADER + KERNEL).encode()).get_function("f")
        out = struct.pack("<Q", gpu.alloc(4096))
        for block in (40, 64, 40):
            function.launch((512, 1, 1), (block, 1, 1), 0, out)
        counts.append(counts_of(gpu))
    assert counts[0].launches == 3
    assert counts[0].threads["add.u32"] == 5 * 512 * (40 + 64 + 40)
    assert counts[1] == counts[0]
    assert counts[2] == counts[0]


def test_steps_that_stand_for_one_instruction_count_once(
    counting: Callable[..., SoftwareGpu],
) -> None:
    gpu = counting()
    launch(
        gpu,
        """.entry f(.param .u64 out) {
        .reg .pred %p<3>; .reg .b32 %r<8>;
        mov.u32 %r1, %tid.x;
        setp.lt.u32 %p1, %r1, 32;
        @%p1 bar.sync 1, 32;
        setp.lt.u32 %p2, %r1, 8;
        @%p2 bra LEFT;
        shfl.sync.idx.b32 %r2, %r1, 0, 31, -1;
        bra END;
        LEFT: shfl.sync.idx.b32 %r2, %r1, 0, 31, -1;
        END: ret; }""",
        (1, 1, 1),
        (32, 1, 1),
    )
    assert counts_of(gpu).threads == {
        "mov.u32": 32,
        "setp.lt.u32": 64,
        "bar.sync": 32,
        "bra": 32 + 24,
        "shfl.sync.idx.b32": 32,
        "ret": 32,
    }


def test_counts_outlive_a_kernel_that_fails(
    counting: Callable[..., SoftwareGpu], tmp_path: Path
) -> None:
    gpu = counting(counts_dir=tmp_path)
    with pytest.raises(DeviceFault):
        launch(gpu, ".entry f(.param .u64 out) { .reg .b32 %r<2>; mov.u32 %r1, 1; trap; ret; }")
    (counts,) = read_counts(tmp_path)
    assert counts.launches == 1
    assert counts.threads["mov.u32"] == 32


def test_tables_of_one_kernel_are_added_up(tmp_path: Path) -> None:
    for launches in (1, 2):
        table = CountTable(tmp_path, "f", ("add.u32 ret", ""), workers=2)
        for _ in range(launches):
            table.launched()
    (counts,) = read_counts(tmp_path)
    assert (counts.kernel, counts.launches) == ("f", 3)
    (tmp_path / "7-0.counts").write_bytes(bytes(64))
    assert len(list(read_counts(tmp_path))) == 1


def test_nothing_is_counted_unless_asked_for(counting: Callable[..., SoftwareGpu]) -> None:
    gpu = counting(translation=Translation())
    launch(gpu)
    assert gpu.counts == []
    source = index_module((HEADER + KERNEL).encode())
    texts = [
        Lowering(source, "f", (), Translation(count=count), True).text.llvm
        for count in (False, True)
    ]
    assert ["%counts" in text for text in texts] == [False, True]


def test_every_instruction_has_been_judged() -> None:
    assert kernel.FAMILIES
    judged = {*EXACT, *DIFFERENT, *(opcode for opcode, _, _ in APPROXIMATE)}
    assert {*TABLE, "bra", "brx", "call", "ret", "exit"} <= judged
    assert str(judge("frobnicate.u32")) == "nobody has compared it with a GPU"


@pytest.mark.parametrize(
    ("name", "fidelity"),
    [
        ("div.rn.f32", Fidelity.EXACT),
        ("div.full.ftz.f32", Fidelity.APPROXIMATE),
        ("sqrt.rn.f64", Fidelity.EXACT),
        ("sin.f32", Fidelity.APPROXIMATE),
        ("sqrt.approx.ftz.f32", Fidelity.APPROXIMATE),
        ("ex2.approx.ftz.f16x2", Fidelity.APPROXIMATE),
        ("ex2.approx.ftz.bf16x2", Fidelity.APPROXIMATE),
        ("ld.global.f32", Fidelity.EXACT),
        ("ld.global.nc.f32", Fidelity.DIFFERENT),
        ("st.global.L1::no_allocate.b32", Fidelity.DIFFERENT),
        ("mov.u64(%globaltimer)", Fidelity.DIFFERENT),
        ("mov.u32(%clock_hi)", Fidelity.DIFFERENT),
        ("griddepcontrol.wait", Fidelity.DIFFERENT),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", Fidelity.APPROXIMATE),
        ("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", Fidelity.EXACT),
        ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", Fidelity.APPROXIMATE),
        ("wgmma.wait_group.sync.aligned", Fidelity.DIFFERENT),
        ("wmma.load.a.sync.aligned.row.m16n16k16.f16", Fidelity.EXACT),
        ("isspacep.const", Fidelity.DIFFERENT),
    ],
)
def test_modifiers_decide(name: str, fidelity: Fidelity) -> None:
    judgement = judge(name)
    assert judgement.fidelity is fidelity
    assert bool(str(judgement)) is (fidelity is not Fidelity.EXACT)


# -- errors of approximate instructions -----------------------------------------------------------

#: Bits of the significand, exponent of the least subnormal number, numpy type of the register.
FORMATS = {
    "f32": (24, -149, np.float32),
    "f64": (53, -1074, np.float64),
    "f16": (11, -24, np.uint16),
    "bf16": (8, -133, np.uint16),
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "div": lambda a, b: a / b,
    "rcp": lambda a: 1 / a,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


def operands(opcode: str, kind: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    random = np.random.default_rng(61)
    if opcode in ("ex2", "tanh", "sin", "cos"):
        limit = {"ex2": 14, "tanh": 4}.get(opcode, 6.28)
        values = random.uniform(-limit, limit, 1 << 15)
    elif opcode == "lg2":
        values = np.concatenate(
            [np.exp2(random.uniform(-120, 120, 1 << 14)), random.uniform(0.5, 2, 1 << 14)]
        )
    else:
        values = np.exp2(random.uniform(-120, 120, 1 << 15))
    result: np.ndarray[Any, np.dtype[np.float32]] = values.astype(np.float32)
    if kind == "bf16":
        result = (result.view(np.uint32) & 0xFFFF0000).view(np.float32)
    elif kind == "f16":
        result = result.astype(np.float16).astype(np.float32)
    return result


def to_register(values: Any, kind: str) -> Any:
    if kind == "f16":
        return values.astype(np.float16).view(np.uint16)
    if kind == "bf16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(FORMATS[kind][2])


def from_register(values: Any, kind: str) -> Any:
    if kind == "f16":
        return values.view(np.float16)
    if kind == "bf16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


@pytest.mark.parametrize(("opcode", "mode", "kind"), list(APPROXIMATE))
def test_errors_are_as_the_report_says(hopper: Device, opcode: str, mode: str, kind: str) -> None:
    claimed = APPROXIMATE[opcode, mode, kind].ours
    assert claimed is not None
    values = operands(opcode, kind)
    inputs = [values] if opcode != "div" else [values, values[::-1].copy()]
    if opcode == "div":
        inputs = [np.clip(each, 2.0**-60, 2.0**60) for each in inputs]
    flush = ".ftz" if (opcode, kind) == ("ex2", "bf16") or kind == "f64" else ""
    names = ", ".join(("%d", "%a", "%b")[: len(inputs) + 1])
    bits, least, type_ = FORMATS[kind]
    got = from_register(
        hopper.run_lanes(
            f"{opcode}.{mode}{flush}.{kind} {names};",
            [to_register(each, kind) for each in inputs],
            type_,
        ),
        kind,
    ).astype(np.longdouble)
    true = FUNCTIONS[opcode](*(each.astype(np.longdouble) for each in inputs))
    unit = np.ldexp(np.longdouble(1), np.maximum(np.frexp(np.abs(true))[1] - bits, least))
    normal = np.isfinite(got) & (true != 0)
    assert normal.mean() > 0.9
    worst = float((np.abs(got - true) / unit)[normal].max())
    assert worst <= claimed + 0.01 * (claimed == 0.5)
    assert worst > 0.4, "the operands are too easy"

"""Functions that are made of what the processor has: the same results on each."""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from vgpu_host.executors.software.host_functions import definitions, dot_name
from vgpu_host.executors.software.ir import WARP_SIZE

Array = np.ndarray[Any, np.dtype[Any]]


def run(features: str, a: str, b: str, operands: list[Array]) -> Array:
    """Call a dot product, compiled for a processor with some features only."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    wanted = {name: True for name in features.split(",") if name}
    kind = f"<{WARP_SIZE} x i32>"
    name = dot_name(a == "s", b == "s")
    text = f"""
        define void @run(ptr %pa, ptr %pb, ptr %pc) {{
            %a = load {kind}, ptr %pa, align 4
            %b = load {kind}, ptr %pb, align 4
            %c = load {kind}, ptr %pc, align 4
            %r = call {kind} @{name}({kind} %a, {kind} %b, {kind} %c)
            store {kind} %r, ptr %pc, align 4
            ret void
        }}
    """
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(
        cpu="x86-64-v2", features=",".join(f"+{n}" for n in wanted), opt=2, jit=True
    )
    module = llvm.parse_assembly(text + definitions(text, wanted))
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    assembly = machine.emit_assembly(module)
    assert ("vpdpbusd" in assembly) == ("vnni" in features)
    assert ("pmaddwd" in assembly) == ("vnni" not in features)
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        total = operands[2].copy()
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(
            engine.get_function_address("run")
        )
        function(operands[0].ctypes.data, operands[1].ctypes.data, total.ctypes.data)
        return total


@pytest.mark.parametrize(
    "features", ["", "avx2", "avx2,avx512bw", "avx2,avxvnni", "avx512bw,avx512vnni"]
)
@pytest.mark.parametrize("signs", ["ss", "su", "us", "uu"])
def test_dot_products_of_bytes(features: str, signs: str) -> None:
    have = llvm.get_host_cpu_features()
    missing = [name for name in features.split(",") if name and not have.get(name)]
    if missing:
        pytest.skip(f"this processor has no {missing[0]}")
    random = np.random.default_rng(3)
    edges = np.array([0x80808080, 0x7F7F7F7F, 0xFFFFFFFF, 0, 0x80FF7F01], np.uint32)
    a, b = (np.concatenate([edges, random.integers(0, 2**32, 27, np.uint32)]) for _ in "ab")
    b = np.roll(b, 1)
    c = random.integers(0, 2**32, 32, np.uint32)
    types = [np.int8 if sign == "s" else np.uint8 for sign in signs]
    x, y = (v.view(t).astype(np.int64).reshape(32, 4) for v, t in zip((a, b), types, strict=True))
    expected = ((x * y).sum(1) + c).astype(np.uint32)
    np.testing.assert_array_equal(run(features, signs[0], signs[1], [a, b, c]), expected)

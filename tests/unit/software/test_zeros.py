"""Registers that are zero where they are read."""

from __future__ import annotations

import pytest

from vgpu_host.executors.software.index import index_module
from vgpu_host.executors.software.ir import Register
from vgpu_host.executors.software.translation import Translation
from vgpu_host.executors.software.translator import Lowering
from vgpu_host.executors.software.zeros import Zeros

HEADER = """.version 8.4
.target sm_61
.address_size 64
.visible .entry f(.param .u32 n, .param .u64 p) {
.reg .b32 %a, %b, %i, %n, %none; .reg .b64 %p; .reg .pred %q;
ld.param.u32 %n, [n]; ld.param.u64 %p, [p]; setp.eq.u32 %q, %n, 7;
"""


def is_zero(code: str, name: str) -> bool:
    """Whether a register is zero at the (only) store of a kernel."""
    source = index_module(f"{HEADER}{code}\nst.global.u32 [%p], %a;\nret;\n}}".encode())
    lowering = Lowering(source, "f", (), Translation(), True)
    for number, block in enumerate(lowering.analysis.blocks):
        for instruction in block.instructions:
            if instruction.opcode == "st":
                constants = lowering.analysis.constants
                return Zeros(lowering.analysis.blocks, constants).is_zero(
                    number, instruction, Register(name)
                )
    raise AssertionError("no store")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("mov.u32 %a, 0;", True),
        ("mov.u32 %a, 0; add.u32 %a, %a, %n;", False),
        ("mov.u32 %b, 0; mov.u32 %a, %b; add.u32 %b, %n, 1;", True),
        ("mov.u32 %a, %n; @%q mov.u32 %a, 0;", False),
        ("mov.u32 %a, 0; @%q bra L; mov.u32 %b, 1; L:", True),
        ("mov.u32 %a, 0; @%q bra L; mov.u32 %a, %n; L:", False),
        ("mov.u32 %a, %n; @%q bra L; mov.u32 %a, 0; bra M; L: mov.u32 %a, 0; M:", True),
        (
            "mov.u32 %a, 0; mov.u32 %i, 0; L: add.u32 %i, %i, 1; "
            "setp.lt.u32 %q, %i, %n; @%q bra L;",
            True,
        ),
        ("mov.u32 %a, 0; L: @%q bra M; mov.u32 %a, %n; bra L; M:", False),
        ("mov.u32 %a, 1; @%q bra L; mov.u32 %a, 0; L:", False),
        (
            "mov.u32 %a, 0; mov.u32 %b, 0; L: mov.u32 %i, %a; mov.u32 %a, %b; mov.u32 %b, %i; "
            "setp.lt.u32 %q, %n, 3; @%q bra L; mov.u32 %a, %n;",
            False,
        ),
    ],
)
def test_a_register_is_zero_if_every_way_to_it_makes_it_so(code: str, expected: bool) -> None:
    assert is_zero(code, "%a") is expected


def test_registers_that_change_places_are_not_followed_for_ever() -> None:
    code = (
        "mov.u32 %a, %n; mov.u32 %b, 0; L: mov.u32 %i, %a; @%q bra M; mov.u32 %a, %b; "
        "mov.u32 %b, %i; M: setp.lt.u32 %q, %n, 3; @%q bra L;"
    )
    assert not is_zero(code, "%a")

"""What kernels say: `printf` and failed assertions, handed to a function of the host."""

from __future__ import annotations

from vgpu_host.executors.software.ir import WARP_SIZE, Address, Instruction, Symbol, size_of

from .access import load, locate, store, trap
from .emitter import Emitter, Value
from .registry import handles
from .state import FAULT_ASSERT, OUTPUT_ASSERT, OUTPUT_PRINT, launch_field


def _call_host(emitter: Emitter, kind: int, instruction: Instruction, types: str) -> str:
    """Call the host with the arguments of a device call, each a row of 32 words of 64 bits.

    Returns the slot of the rows; the first of them then holds the results.
    """
    slot = emitter.stack("output.arguments", f"[5 x <{WARP_SIZE} x i64>]")
    for index, (operand, type_) in enumerate(
        zip(instruction.operands, types.split(), strict=False)
    ):
        value = emitter.resize(_argument(emitter, operand, type_), "i64")
        pointer = emitter.define(
            f"getelementptr <{WARP_SIZE} x i64>, ptr {slot}, i32 {index}", "ptr"
        )
        emitter.line(f"store {emitter.widen(value)}, {pointer}")
    address = launch_field(emitter, "output", "i64")
    function = emitter.cast("inttoptr", address, "ptr")
    emitter.line(
        f"call void {function.ref}(i32 {kind}, ptr %worker, {emitter.active_bits()}, ptr {slot}, "
        "i32 %warp)"
    )
    return slot


def _argument(emitter: Emitter, operand: object, type_: str) -> Value:
    if not isinstance(operand, Symbol):
        raise emitter.refuse("call arguments must be .param variables")
    address = Address(Symbol(operand.name))
    return load(emitter, locate(emitter, address, "local", size_of(type_)), f"i{type_[1:]}")


@handles("vprintf", "")
def emit_print(emitter: Emitter, instruction: Instruction) -> None:
    """`vprintf(format, arguments)`: yields the number of arguments."""
    slot = _call_host(emitter, OUTPUT_PRINT, instruction, "b64 b64")
    row = f"<{WARP_SIZE} x i64>"
    count = emitter.cast("trunc", emitter.define(f"load {row}, ptr {slot}", "i64", True), "i32")
    for operand in instruction.operands[2:]:
        assert isinstance(operand, Symbol)
        store(emitter, locate(emitter, Address(operand), "local", 4), count)


@handles("__assertfail", "")
def emit_assertion(emitter: Emitter, instruction: Instruction) -> None:
    """`__assertfail(message, file, line, function, character size)` ends the kernel."""
    _call_host(emitter, OUTPUT_ASSERT, instruction, "b64 b64 b32 b64 b64")
    trap(emitter, FAULT_ASSERT)

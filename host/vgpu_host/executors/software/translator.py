"""PTX of one kernel to LLVM IR: every stage in its order."""

from __future__ import annotations

from collections.abc import Collection

from .cfg import Block, build_blocks
from .codegen.kernel import generate
from .device_attributes import LOCAL_PER_THREAD, SHARED_PER_BLOCK
from .errors import CudaResult, PtxError, UnsupportedError
from .inline import inline_calls
from .ir import BITS, Body, definitions, uses
from .kernel_cache import KernelDescription
from .launch import PARAMETER_WINDOW
from .layout import lay_out
from .liveness import live_in
from .parser import ModuleSource, parse_function
from .translation import Translation
from .uniformity import analyze


def translate(
    source: ModuleSource, name: str, placed: Collection[str], translation: Translation
) -> tuple[KernelDescription, str]:
    """Translate a kernel of an indexed module.

    Args:
        source: the module.
        name: the kernel.
        placed: module variables that have an address.
        translation: how to translate.

    Returns:
        What is to be known of the kernel, and its LLVM IR.

    Raises:
        PtxError: the kernel uses something that cannot be run; the log names it.
    """

    def load(callee: str) -> Body | None:
        return parse_function(source, callee) if callee in source.functions else None

    try:
        body = parse_function(source, name)
        inline_calls(body, load)
        blocks = build_blocks(body)
        live = live_in(blocks)
        analysis = analyze(body, blocks, live)
        layout = lay_out(body, source.variables, placed)
        _check_limits(layout.shared_size, layout.local_size, layout.parameter_size)
        text = generate(body, analysis, layout, translation)
    except UnsupportedError as error:
        raise PtxError(CudaResult.INVALID_PTX, _log(source, name, error)) from None
    except RecursionError:
        reason = f"{name}: loops or calls are nested too deeply"
        raise PtxError(CudaResult.INVALID_PTX, reason) from None
    description = KernelDescription(
        name=name,
        parameters=tuple((p.offset, p.size) for p in body.parameters),
        globals=layout.globals,
        shared_size=layout.shared_size,
        local_size=layout.local_size,
        context_size=text.context_size,
        is_large=text.is_large,
        registers=register_estimate(body, blocks, live),
        max_threads=body.max_threads,
    )
    return description, text.llvm


def _check_limits(shared: int, local: int, parameters: int) -> None:
    if shared > SHARED_PER_BLOCK:
        raise UnsupportedError(f"uses {shared} bytes of shared memory, {SHARED_PER_BLOCK} exist")
    if local > LOCAL_PER_THREAD:
        raise UnsupportedError(f"uses {local} bytes of local memory, {LOCAL_PER_THREAD} exist")
    if parameters > PARAMETER_WINDOW:
        raise UnsupportedError(f"takes {parameters} bytes of parameters")


def _log(source: ModuleSource, name: str, error: UnsupportedError) -> str:
    where = f"line {source.line(error.position)}: " if error.position >= 0 else ""
    text = f": {error.text}" if error.text else ""
    return f"{name}: {where}{error.reason}{text}"


def register_estimate(body: Body, blocks: list[Block], live: list[frozenset[str]]) -> int:
    """32-bit registers live at once, at most: what a register allocator cannot go below."""

    def weight(names: set[str]) -> int:
        return sum(-(-BITS[body.registers[name]] // 32) for name in names)

    most = 0
    for block in blocks:
        now: set[str] = set()
        for successor in block.successors:
            now |= live[successor]
        for instruction in reversed(block.instructions):
            now -= set(definitions(instruction))
            now |= set(uses(instruction))
            most = max(most, weight(now))
    return max(1, min(most, 255))

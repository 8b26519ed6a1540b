"""One kernel from analysed blocks to the LLVM IR text of its module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vgpu_host.executors.software.arena import round_up
from vgpu_host.executors.software.fidelity import counted_blocks
from vgpu_host.executors.software.ir import WARP_SIZE, Body
from vgpu_host.executors.software.layout import Layout
from vgpu_host.executors.software.translation import Translation
from vgpu_host.executors.software.uniformity import Analysis

from . import (
    arithmetic,
    atomics,
    bits,
    carry,
    compare,
    concurrent,
    control,
    convert,
    copies,
    floating,
    matrix,
    mbarrier,
    memory,
    output,
    video,
    warp,
)
from .control import ControlFlow
from .counting import find_counts
from .driver import DECLARATIONS, driver
from .emitter import Emitter, Value, lanes
from .fallback import AGAIN, step
from .instrument import Instruments
from .special import read_special
from .state import CONTEXT_ALIGNMENT, LAUNCH, WORKER
from .subnormals import Flushing, flushing_of

#: Every module that registers instructions; importing them fills the table.
FAMILIES = (
    arithmetic,
    atomics,
    bits,
    carry,
    compare,
    control,
    convert,
    copies,
    floating,
    matrix,
    mbarrier,
    memory,
    output,
    video,
    warp,
)


@dataclass(frozen=True, slots=True)
class KernelText:
    """LLVM IR of a kernel.

    Attributes:
        llvm: the text of the module.
        context_size: bytes that each of its warps needs at barriers.
        is_large: whether optimising it would take minutes.
        sites: how many things checkers may find in it.
        blocks: the instructions of each block that it counts, blank separated.
    """

    llvm: str
    context_size: int
    is_large: bool
    sites: int
    blocks: tuple[str, ...]


def generate(
    body: Body,
    analysis: Analysis,
    general: Analysis | None,
    layout: Layout,
    translation: Translation,
) -> KernelText:
    """Generate the LLVM module of one kernel; its entry point is `vgpu_run(launch, worker)`.

    Args:
        body: the kernel.
        analysis: what is known of its values.
        general: the same without rows, for warps for which assumptions of `analysis` fail; None
            if it makes none.
        layout: where its variables live.
        translation: how to translate.
    """
    fast = _warp_function("warp", body, analysis, layout, translation)
    versions = [fast]
    if general is not None:
        oracle = replace(translation, general=True)
        sites = fast.instruments.sites if fast.instruments else []
        versions.append(_warp_function("warp.general", body, general, layout, oracle, sites))
    context_size = max(version.context_size for version in versions)
    by_thread = flushing_of(body) is Flushing.THREAD
    functions = {name: text for version in versions for name, text in version.functions.items()}
    parts = [
        *(version.text for version in versions),
        *functions.values(),
        *sorted(DECLARATIONS.union(*(version.declarations for version in versions))),
        *([step()] if general else []),
        driver(
            context_size,
            by_thread,
            bool(translation.checks),
            fast.has_holds,
            "step" if general else "warp",
        ),
        '!0 = !{!"branch_weights", i32 1, i32 100000}',
        '!1 = !{!"branch_weights", i32 100000, i32 1}',
        *([fast.instruments.functions()] if fast.instruments else []),
    ]
    return KernelText(
        "\n".join(parts) + "\n",
        context_size,
        fast.is_large,
        len(fast.instruments.sites) if fast.instruments else 0,
        counted_blocks(analysis.blocks) if translation.count else (),
    )


@dataclass(frozen=True, slots=True)
class _WarpFunction:
    text: str
    functions: Mapping[str, str]
    declarations: frozenset[str]
    context_size: int
    is_large: bool
    has_holds: bool
    instruments: Instruments | None


def _warp_function(
    name: str,
    body: Body,
    analysis: Analysis,
    layout: Layout,
    translation: Translation,
    sites: list[int] | None = None,
) -> _WarpFunction:
    """One version of the kernel; `sites` are those of the other one, to which it adds its own."""
    emitter = Emitter(body, analysis, layout, translation, read_special)
    if translation.checks:
        emitter.instruments = Instruments(emitter, sites if sites is not None else [])
    flow = ControlFlow(emitter)
    flow.emit_blocks()
    blocks, emitter.lines = emitter.lines, []
    if flow.holds:
        flow.holds.emit_resumption()
    else:
        flow.emit_resumptions()
    resumptions, emitter.lines = emitter.lines, []
    _prologue(emitter, flow)
    # The general version hardly ever runs: it is not worth the time to optimise it.
    effort = " noinline optnone" if name == "warp.general" else ""
    text = [
        f"define internal i32 @{name}("
        "ptr %launch, ptr %worker, ptr noalias %context, i32 %resume, i32 %warp)"
        f" {emitter.function_attributes}{effort} {{",
        "entry:",
        *(f"{slot} = alloca {kind}, align 64" for slot, kind in emitter.allocas.items()),
        # A register that was never written reads as zero: an undefined value would let LLVM check
        # one address and access another.
        *(f"store {kind} zeroinitializer, ptr {slot}" for slot, kind in emitter.allocas.items()),
        *emitter.lines,
        *resumptions,
        *blocks,
        *emitter.cold,
        "abort:",
        "ret i32 -2",
        *(["again:", f"ret i32 {AGAIN}"] if analysis.assumed else []),
        "done:",
        "ret i32 0",
        "}",
    ]
    return _WarpFunction(
        "\n".join(text),
        emitter.functions,
        frozenset(emitter.declarations | (concurrent.DECLARATIONS if flow.holds else set())),
        round_up(flow.context_size, CONTEXT_ALIGNMENT),
        bool(flow.resident),
        flow.holds is not None,
        emitter.instruments,
    )


def _prologue(emitter: Emitter, flow: ControlFlow) -> None:
    for name, base, place, type_ in (
        ("params", "launch", LAUNCH["params"], "ptr"),
        ("globals", "launch", LAUNCH["globals"], "ptr"),
        ("arena.base", "launch", LAUNCH["arena_base"], "i64"),
        ("arena.size", "launch", LAUNCH["arena_size"], "i64"),
        ("threads", "launch", LAUNCH["threads"], "i32"),
        ("shared.size", "launch", LAUNCH["shared_size"], "i32"),
        ("shared.base", "worker", WORKER["shared"], "i64"),
        ("local.start", "worker", WORKER["local"], "i64"),
        ("sink", "worker", WORKER["sink"], "i64"),
    ):
        emitter.line(f"%p.{name} = getelementptr i8, ptr %{base}, i64 {place}")
        emitter.line(f"%{name} = load {type_}, ptr %p.{name}")
    emitter.line("%params.base = ptrtoint ptr %params to i64")
    for index in range(len(emitter.layout.globals)):
        emitter.line(f"%p.global.{index} = getelementptr i64, ptr %globals, i64 {index}")
        emitter.line(f"%global.{index} = load i64, ptr %p.global.{index}")
    if emitter.instruments:
        emitter.instruments.prologue()
    if emitter.translation.count:
        find_counts(emitter)
    emitter.line("%shared.size64 = zext i32 %shared.size to i64")
    first = emitter.define(f"shl i32 %warp, {WARP_SIZE.bit_length() - 1}", "i32")
    linear = emitter.op("add", first, lanes(list(range(WARP_SIZE)), "i32"))
    threads = emitter.widen(Value("%threads", "i32"))
    emitter.line(f"%mask.start = icmp ult {linear}, {threads.ref}")
    emitter.line(f"%mask.start.bits = bitcast <{WARP_SIZE} x i1> %mask.start to i32")
    wide = emitter.cast("zext", linear, "i64")
    offset = emitter.op("mul", wide, Value(str(emitter.layout.local_size), "i64"))
    start = emitter.widen(Value("%local.start", "i64"))
    emitter.line(f"%local.base = add {start}, {offset.ref}")
    for block in range(len(flow.blocks)):
        kind = "i32" if flow.is_masked(block) else "i1"
        emitter.line(f"%wait{block} = alloca {kind}")
        emitter.line(f"store {kind} 0, ptr %wait{block}")
    cases = " ".join(f"i32 {s.number}, label %resume{s.number}" for s in flow.suspensions)
    zeroing = flow.emit_residents()
    if flow.holds:
        zeroing += flow.holds.emit_start()
        emitter.line("switch i32 %resume, label %resume.held [ i32 0, label %start ]")
    else:
        emitter.line(f"switch i32 %resume, label %start [ {cases} ]")
    emitter.label("start")
    emitter.lines += zeroing
    if flow.is_masked(0):
        emitter.line("store i32 %mask.start.bits, ptr %wait0")
        emitter.line("br label %visit0")
    else:
        emitter.line("br label %run0")

"""Special registers: thread, block and lane coordinates, clocks and counters."""

from __future__ import annotations

from vgpu_host.executors.software.ir import WARP_SIZE

from .emitter import LANES, Emitter, Value, integer, lanes
from .state import launch_field, worker_field

_AXES = "xyz"


def read_special(emitter: Emitter, name: str) -> Value:
    """The value of a special register; 64-bit clocks as i64, all else as i32.

    Raises:
        UnsupportedError: a special register that this device does not have.
    """
    stem, _, axis = name[1:].partition(".")
    # A cluster has one block.
    stem = {"clusterid": "ctaid", "nclusterid": "nctaid"}.get(stem, stem)
    if stem in ("tid", "ntid", "ctaid", "nctaid"):
        return _coordinate(emitter, stem, axis or "x")
    if stem.startswith("lanemask_"):
        return _lane_mask(stem.removeprefix("lanemask_"))
    if stem.startswith("envreg"):
        return _environment(emitter, stem)
    match stem:
        case "cluster_ctaid" | "cluster_ctarank":
            return integer(0, "i32")
        case "cluster_nctaid" | "cluster_nctarank":
            return integer(1, "i32")
        case "laneid":
            if emitter.by_base:
                return integer(0, "i32")
            return lanes(list(LANES), "i32")
        case "warpid":
            return Value("%warp", "i32")
        case "nwarpid":
            return integer(1024 // WARP_SIZE, "i32")
        case "smid":
            return worker_field(emitter, "index", "i32")
        case "nsmid":
            return launch_field(emitter, "workers", "i32")
        case "gridid":
            return launch_field(emitter, "launch_id", "i64")
        case "dynamic_smem_size":
            size = launch_field(emitter, "shared_size", "i32")
            return emitter.op("sub", size, integer(emitter.layout.shared_size, "i32"))
        case "total_smem_size":
            return launch_field(emitter, "shared_size", "i32")
        case "clock" | "clock64" | "clock_hi":
            return _clock(emitter, stem)
        case "globaltimer" | "globaltimer_lo" | "globaltimer_hi":
            return _timer(emitter, stem)
    raise emitter.refuse(f"special register {name} is not supported")


def _environment(emitter: Emitter, stem: str) -> Value:
    """Registers 1 and 2 are the halves of the address of a cooperative launch's workspace."""
    if stem not in ("envreg1", "envreg2"):
        return integer(0, "i32")
    return _part(emitter, launch_field(emitter, "workspace", "i64"), stem == "envreg1", False)


def _coordinate(emitter: Emitter, stem: str, axis: str) -> Value:
    if stem == "ntid":
        return launch_field(emitter, f"block_{axis}", "i32")
    if stem == "nctaid":
        return launch_field(emitter, f"grid_{axis}", "i32")
    if stem == "ctaid":
        return worker_field(emitter, f"cta_{axis}", "i32")
    table = launch_field(emitter, "thread_ids", "i64")
    base = emitter.define(f"inttoptr {table} to ptr", "ptr")
    row = emitter.op("mul", Value("%warp", "i32"), integer(3, "i32"))
    row = emitter.op("add", row, integer(_AXES.index(axis), "i32"))
    pointer = emitter.define(
        f"getelementptr <{WARP_SIZE} x i32>, ptr {base.ref}, i32 {row.ref}", "ptr"
    )
    # Where warps are rows of a block, only x differs between lanes, and by the lane.
    if emitter.analysis.in_rows and (axis != "x" or emitter.by_base):
        return emitter.define(f"load i32, ptr {pointer.ref}, align 4", "i32")
    return emitter.define(f"load <{WARP_SIZE} x i32>, ptr {pointer.ref}, align 4", "i32", True)


def _lane_mask(relation: str) -> Value:
    masks = {
        "eq": [1 << lane for lane in LANES],
        "lt": [(1 << lane) - 1 for lane in LANES],
        "le": [(2 << lane) - 1 for lane in LANES],
        "gt": [0xFFFFFFFF & ~((2 << lane) - 1) for lane in LANES],
        "ge": [0xFFFFFFFF & ~((1 << lane) - 1) for lane in LANES],
    }
    return lanes(masks[relation], "i32")


def _clock(emitter: Emitter, stem: str) -> Value:
    emitter.declarations.add("declare i64 @llvm.readcyclecounter()")
    cycles = emitter.define("call i64 @llvm.readcyclecounter()", "i64")
    return _part(emitter, cycles, stem == "clock_hi", stem == "clock64")


def _timer(emitter: Emitter, stem: str) -> Value:
    emitter.declarations.add("declare i32 @clock_gettime(i32, ptr)")
    slot = emitter.stack("timespec", "[2 x i64]")
    emitter.define(f"call i32 @clock_gettime(i32 1, ptr {slot})", "i32")
    seconds = emitter.define(f"load i64, ptr {slot}", "i64")
    pointer = emitter.define(f"getelementptr i64, ptr {slot}, i64 1", "ptr")
    nanoseconds = emitter.define(f"load i64, ptr {pointer.ref}", "i64")
    total = emitter.op("mul", seconds, integer(1_000_000_000, "i64"))
    total = emitter.op("add", total, nanoseconds)
    return _part(emitter, total, stem.endswith("_hi"), stem == "globaltimer")


def _part(emitter: Emitter, value: Value, high: bool, whole: bool) -> Value:
    if whole:
        return value
    if high:
        value = emitter.op("lshr", value, integer(32, "i64"))
    return emitter.cast("trunc", value, "i32")

"""From evidence to a verdict: the first cause on the way from the program to a busy GPU.

The steps are those that a program takes: find the libraries, open the device, start the runtime,
load code, compute, and keep the device busy. The first one that went wrong is the verdict; what
went wrong later follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vgpu_stub.explain.activity import Use
from vgpu_stub.explain.evidence import Evidence, Process

#: Tables that NVIDIA's CUDA runtime asks its driver for.
_RUNTIME_TABLES: Final = ("f8cff951", "6bd5fb6c", "a094798c", "42d85a81", "c693336e", "263e8860")
_RUNTIME_CHECK: Final = "d4082055"
#: Errors of code that ran: the context or the channel is lost.
_BROKEN: Final = {46, 214, 700, 702, 710, 714, 715, 716, 717, 718, 719, 999}
#: Errors of code that the device cannot run.
_NO_CODE: Final = {209, 218, 222}
_NOT_SUPPORTED: Final = 801
_NO_DEVICE: Final = 100
_NOT_INITIALIZED: Final = 3

_MIB: Final = 1 << 20
#: From this share of the time on the device is busy.
_BUSY_SHARE: Final = 0.5
#: From this share of the time on the processor is, on a machine that may have other work too.
_CPU_SHARE: Final = 0.1
#: Processor time of a call and of a wait, with polling, at most.
_CALL_CPU_S: Final = 0.3e-3
#: Fewer launches say nothing about how a program uses the device.
_FEW_LAUNCHES: Final = 50
#: Kernels shorter than this take longer to launch than to run.
_SHORT_WORK_S: Final = 50e-6
#: From this rate of launches on, launching is what a program does.
_MANY_LAUNCHES_PER_S: Final = 5000


class Code(StrEnum):
    """Verdicts, in the order of the steps. Codes are stable; programs may compare them."""

    NOT_ATTEMPTED = "NOT_ATTEMPTED"
    WRONG_LIBCUDA = "WRONG_LIBCUDA"
    BACKEND_UNLOADABLE = "BACKEND_UNLOADABLE"
    PRELOAD_INTERFERENCE = "PRELOAD_INTERFERENCE"
    PERMISSION = "PERMISSION"
    NO_DEVICE = "NO_DEVICE"
    DRIVER_INIT_FAILED = "DRIVER_INIT_FAILED"
    VERSION_TOO_OLD = "VERSION_TOO_OLD"
    VENDOR_RUNTIME_REFUSES = "VENDOR_RUNTIME_REFUSES"
    PRIVATE_TABLE = "PRIVATE_TABLE"
    NO_CODE_FOR_ARCH = "NO_CODE_FOR_ARCH"
    MISSING_ENTRY_POINT = "MISSING_ENTRY_POINT"
    COMPUTE_BROKEN = "COMPUTE_BROKEN"
    CALL_FAILED = "CALL_FAILED"
    DETECTED_NOT_USED = "DETECTED_NOT_USED"
    CONTENDED = "CONTENDED"
    TRAFFIC_BOUND = "TRAFFIC_BOUND"
    PARTLY_CPU = "PARTLY_CPU"
    SYNC_BOUND = "SYNC_BOUND"
    LAUNCH_BOUND = "LAUNCH_BOUND"
    RESIDENT = "RESIDENT"


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        code: Stable name.
        summary: One sentence for people.
        evidence: What it was seen from, a line each.
        next_step: What to do about it; empty for RESIDENT.
        pid: The process that it is about; 0 for all.
    """

    code: Code
    summary: str
    evidence: tuple[str, ...]
    next_step: str = ""
    pid: int = 0


Step = Callable[[Evidence, Process], Verdict | None]


def judge(evidence: Evidence) -> Verdict:
    """Draw the verdict on a run."""
    found = [verdict for process in evidence.processes if (verdict := _failure(evidence, process))]
    broken = [verdict for verdict in found if verdict.code is Code.COMPUTE_BROKEN]
    if broken:
        return broken[0]
    if any(process.launches for process in evidence.processes):
        return _use_of_the_device(evidence)
    order = list(Code)
    if found:
        return min(found, key=lambda verdict: order.index(verdict.code))
    return Verdict(
        Code.NOT_ATTEMPTED,
        "no process of the program asked for a CUDA library",
        (f"the program ended with status {evidence.status}",),
        "check that the program was built with CUDA and told to use it",
    )


def _failure(evidence: Evidence, process: Process) -> Verdict | None:
    """Why a process did not use the GPU, or lost it; None for one that used it to the end."""
    broken = _compute(evidence, process)
    if broken or process.launches:
        return broken
    for step in _STEPS:
        verdict = step(evidence, process)
        if verdict:
            return verdict
    return None


def _wrong_libcuda(evidence: Evidence, process: Process) -> Verdict | None:
    path = process.library("libcuda.so")
    if path and not evidence.is_ours(path):
        return Verdict(
            Code.WRONG_LIBCUDA,
            "another libcuda.so.1 than VGPU-STUB's was loaded",
            (f"{process.name} loaded {path}", f"ours is in {evidence.libraries}"),
            "look for an RPATH, /etc/ld.so.conf or LD_LIBRARY_PATH that names the other one first",
            process.pid,
        )
    missing = [w for w in process.missing_libraries if w.name.startswith("libcuda.so")]
    if not path and missing:
        return Verdict(
            Code.WRONG_LIBCUDA,
            "libcuda.so.1 was not found",
            (f"{missing[0].by} asked for {missing[0].name}, which no searched directory has",),
            "the process has lost LD_LIBRARY_PATH (a cleaned environment, sudo, a service): keep"
            f" it, or install the libraries of {evidence.libraries} where the linker looks",
            process.pid,
        )
    return None


def _backend(evidence: Evidence, process: Process) -> Verdict | None:
    lines = [f"{error.path}: {error.text}" for error in process.load_errors]
    lines += [
        f"{wanted.by} needs {wanted.name}, which was not found"
        for wanted in process.missing_libraries
        if not wanted.name.startswith("libcuda.so")
    ]
    if not lines:
        return None
    return Verdict(
        Code.BACKEND_UNLOADABLE,
        "a library that the program needs for the GPU could not be loaded",
        tuple(lines),
        "give the program a library that has these symbols; docs/runtime-api.md and"
        " docs/cublas-api.md list what ours have",
        process.pid,
    )


def _preload(evidence: Evidence, process: Process) -> Verdict | None:
    found = process.interposers
    if not found or not process.journal:
        return None
    return Verdict(
        Code.PRELOAD_INTERFERENCE,
        "a preloaded library stands between the program and CUDA",
        (f"LD_PRELOAD={process.journal.preload}", *_failed(process)),
        f"run it without LD_PRELOAD={' '.join(found)}: VGPU-STUB needs none",
        process.pid,
    )


def _initialisation(evidence: Evidence, process: Process) -> Verdict | None:
    call = process.failure
    if not process.journal or not call or process.journal.device:
        return None
    if call.status == _NOT_INITIALIZED and _parent_has_device(evidence, process):
        return Verdict(
            Code.DRIVER_INIT_FAILED,
            "a forked child cannot use the device that its parent has opened",
            tuple(_failed(process)),
            "start processes with spawn (Python: multiprocessing.set_start_method), or fork before"
            " the first CUDA call",
            process.pid,
        )
    reasons = tuple(process.journal.notes[-2:])
    where = (*_failed(process), *reasons)
    said = " ".join(reasons)
    if "Permission denied" in said:
        return Verdict(
            Code.PERMISSION,
            "the process may not open the device",
            where,
            "run it as a user who may: for /dev/vgpu0 a member of the group render",
            process.pid,
        )
    if call.status == _NO_DEVICE and ("/dev/vgpu" in said or "connect to" in said or not said):
        return Verdict(
            Code.NO_DEVICE,
            "there is no device where the process looked for it",
            where,
            "a process that has lost VGPU_STUB_SOCKET (a cleaned environment, sudo, a service)"
            " looks for /dev/vgpu0: keep the variable; in a VM look at dmesg",
            process.pid,
        )
    return Verdict(
        Code.DRIVER_INIT_FAILED,
        "the device was found and could not be opened",
        where,
        "the last line says why; VGPU_STUB_LOG=info and the device server's log say more",
        process.pid,
    )


def _parent_has_device(evidence: Evidence, process: Process) -> bool:
    return any(
        other.journal and other.journal.device
        for other in evidence.processes
        if process.journal and other.pid == process.journal.parent
    )


def _version(evidence: Evidence, process: Process) -> Verdict | None:
    runtime = process.library("libcudart.so")
    journal = process.journal
    if not runtime or not journal or not journal.device or evidence.is_ours(runtime):
        return None
    needed = _major(runtime) * 1000
    has = int(journal.device["driver_version"])
    if has >= needed:
        return None
    return Verdict(
        Code.VERSION_TOO_OLD,
        "the CUDA runtime is newer than the driver",
        (
            f"{runtime} needs a driver of CUDA {needed // 1000}.0",
            f"the driver reports CUDA {has // 1000}.{has % 1000 // 10}",
        ),
        "use a program built for an older CUDA, or VGPU-STUB's runtime in its place",
        process.pid,
    )


def _major(path: str) -> int:
    number = path.rpartition(".so.")[2].partition(".")[0]
    return int(number) if number.isdigit() else 0


def _runtime(evidence: Evidence, process: Process) -> Verdict | None:
    tables = process.journal.tables if process.journal else []
    nvidia = [table for table in tables if table.startswith((*_RUNTIME_TABLES, _RUNTIME_CHECK))]
    if not nvidia:
        return None
    runtime = process.library("libcudart.so")
    where = f"{runtime} is NVIDIA's" if runtime else "it is linked into the program"
    return Verdict(
        Code.VENDOR_RUNTIME_REFUSES,
        "NVIDIA's CUDA runtime works with NVIDIA's driver only, and gave up",
        (
            where,
            f"it asked for {len(set(nvidia))} of its private driver tables, first {nvidia[0][:8]}",
        ),
        "link the program with the shared runtime (nvcc -cudart shared) and let it find VGPU-STUB's"
        " libcudart; a static one cannot be replaced",
        process.pid,
    )


def _private_table(evidence: Evidence, process: Process) -> Verdict | None:
    tables = process.journal.tables if process.journal else []
    if not tables or (process.journal and process.journal.called("cuCtx", "cuDevicePrimary")):
        return None
    return Verdict(
        Code.PRIVATE_TABLE,
        "the program asked for a private table of NVIDIA's driver and went no further",
        tuple(f"cuGetExportTable: {table}" for table in dict.fromkeys(tables)),
        "no public interface has these: look for a version of the program that needs none",
        process.pid,
    )


def _code(evidence: Evidence, process: Process) -> Verdict | None:
    journal = process.journal
    calls = [call for call in journal.failures if call.status in _NO_CODE] if journal else []
    if not journal or not calls:
        return None
    capability = journal.device.get("capability", "?")
    return Verdict(
        Code.NO_CODE_FOR_ARCH,
        f"the program has no code that a device of capability {capability} can run",
        (str(calls[0]), *journal.notes[-2:]),
        f"build it with PTX for compute capability {capability} or lower"
        f" (nvcc -gencode arch=compute_{capability.replace('.', '')},code=compute_...)",
        process.pid,
    )


def _entry_point(evidence: Evidence, process: Process) -> Verdict | None:
    journal = process.journal
    if not journal:
        return None
    call = process.failure
    refused = list(dict.fromkeys(journal.refused))
    stopped = not journal.called("cuCtx", "cuDevicePrimary")
    gave_up = refused and (call is None or call.status == _NOT_SUPPORTED)
    if not gave_up and not (journal.missing and stopped):
        return None
    lines = [f"{name} is refused (CUDA_ERROR_NOT_SUPPORTED)" for name in refused]
    lines += [
        f"cuGetProcAddress has no {name} for CUDA {version // 1000}.{version % 1000 // 10}"
        for name, version in dict.fromkeys(journal.missing)
    ]
    return Verdict(
        Code.MISSING_ENTRY_POINT,
        "the program needs functions that this driver does not have",
        (*lines[:8], *([f"and {len(lines) - 8} more"] if len(lines) > 8 else [])),
        "docs/driver-api.md and docs/runtime-api.md say what there is",
        process.pid,
    )


def _compute(evidence: Evidence, process: Process) -> Verdict | None:
    calls = process.journal.failures if process.journal else []
    broken = [call for call in calls if call.status in _BROKEN]
    failed = [use.last for use in process.uses if use.last.state == "failed"]
    initialised = bool(process.journal and process.journal.device)
    if not initialised or not (broken or failed):
        return None
    lines = [str(call) for call in broken[:1]]
    lines += [f"channel of {use.process}: {use.state}, error {use.error}" for use in failed]
    lines += evidence.worker_lines(process)[:2]
    if evidence.server_ended:
        lines.append("the device server ended before the program")
    return Verdict(
        Code.COMPUTE_BROKEN,
        "work on the device failed",
        tuple(lines),
        "look at the kernel that is named, or for what ended the worker or the server",
        process.pid,
    )


def _other_failure(evidence: Evidence, process: Process) -> Verdict | None:
    if not process.failure:
        return None
    return Verdict(
        Code.CALL_FAILED,
        "a call failed, and the program computed nothing on the device",
        tuple(_failed(process)),
        "the error belongs to this call and its arguments",
        process.pid,
    )


def _not_used(evidence: Evidence, process: Process) -> Verdict | None:
    if not process.journal:
        return None
    device = process.journal.device
    seen = (
        f"opened {device['name']}" if device else "loaded libcuda.so.1 and did not open the device"
    )
    return Verdict(
        Code.DETECTED_NOT_USED,
        "the program found the device and launched nothing on it",
        (f"{process.name} {seen}", "kernels, graphs and BLAS calls: 0"),
        "nothing failed: the decision is the program's; look at its options (how many layers or"
        " which device to use) and its log",
        process.pid,
    )


_STEPS: Final[tuple[Step, ...]] = (
    _wrong_libcuda,
    _preload,
    _initialisation,
    _version,
    _runtime,
    _private_table,
    _code,
    _entry_point,
    _backend,
    _other_failure,
    _not_used,
)


def _failed(process: Process) -> Iterator[str]:
    if process.failure:
        yield f"first failed call: {process.failure}"


def _use_of_the_device(evidence: Evidence) -> Verdict:
    """How well the device was used, by processes that used it."""
    uses = [use for process in evidence.processes for use in process.uses if use.last.launches]
    busy = max(uses, key=lambda use: use.span_s)
    contended = _contention(uses)
    verdict = contended or _bound(busy)
    if verdict:
        return verdict
    share = f"the device worked {busy.share:.0%} of the time after the first launch"
    return Verdict(
        Code.RESIDENT,
        "the program computed on the device",
        (*_figures(uses), *([share] if busy.launches >= _FEW_LAUNCHES else [])),
    )


def _figures(uses: list[Use]) -> Iterator[str]:
    for use in uses:
        last = use.last
        yield (
            f"{last.process} ({last.pid}): {last.launches} launches, {last.bytes_to_device} bytes"
            f" to the device, {last.bytes_to_host} back, {last.busy_s:.3f} s of work on it"
        )


def _contention(uses: list[Use]) -> Verdict | None:
    active = [use for use in uses if use.launches >= _FEW_LAUNCHES and use.share > 0.2]
    span = max((use.span_s for use in active), default=0.0)
    if any(use.last.busy_for_all for use in active):
        total, limit = max(use.busy_s for use in active), 0.9 * span
    else:
        total, limit = sum(use.busy_s for use in active), 1.2 * span
    if len(active) < 2 or total <= limit:
        return None
    return Verdict(
        Code.CONTENDED,
        f"{len(active)} processes wanted the device at the same time",
        (f"{total:.2f} s of work in {span:.2f} s", *_figures(active)),
        "run them one after the other, or give each its own device",
    )


def _bound(use: Use) -> Verdict | None:
    if use.launches < _FEW_LAUNCHES:
        return None
    last, span = use.last, use.span_s
    moved = f"{use.moved_bytes // _MIB} MiB copied, {use.launches} launches in {span:.2f} s"
    share = f"the device worked {use.share:.0%} of the time"
    if use.moved_bytes > max(64 * _MIB, 4 * use.peak_memory):
        return Verdict(
            Code.TRAFFIC_BOUND,
            "the program copies its data again and again",
            (moved, f"it never held more than {use.peak_memory // _MIB} MiB on the device"),
            "keep weights and intermediate results on the device between kernels",
            last.pid,
        )
    # What it takes to make calls and to wait for their ends is no work of the program's own.
    own_cpu_s = use.cpu_s - _CALL_CPU_S * (use.launches + use.waits)
    if own_cpu_s >= max(_CPU_SHARE * span, use.busy_s):
        return Verdict(
            Code.PARTLY_CPU,
            "the CPU computed longer than the device",
            (share, f"the process used {use.cpu_s:.2f} s of processor time in {span:.2f} s"),
            "find what it does between launches: an operation without a GPU version falls back",
            last.pid,
        )
    short = use.busy_s < _SHORT_WORK_S * use.launches
    if use.waits >= use.launches / 2 and (short or use.share < _BUSY_SHARE):
        return Verdict(
            Code.SYNC_BOUND,
            "the program waits for the device after almost every launch",
            (share, f"{use.waits} waits for {use.launches} launches"),
            "queue several kernels before waiting: streams, events, graphs",
            last.pid,
        )
    if short and use.launches > _MANY_LAUNCHES_PER_S * span:
        return Verdict(
            Code.LAUNCH_BOUND,
            "kernels are so short that launching them takes longer than running them",
            (
                share,
                f"{use.launches} launches of {use.busy_s / use.launches * 1e6:.0f} us on average",
            ),
            "launch fewer, larger kernels, or a graph of them",
            last.pid,
        )
    return None

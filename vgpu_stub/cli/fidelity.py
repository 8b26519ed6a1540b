"""Says what the results of a run are worth: how its instructions compare with those of a GPU."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from vgpu_host.demangle import demangle
from vgpu_host.executors.software.counts import KernelCounts, read_counts
from vgpu_host.executors.software.fidelity import Fidelity, judge

_NAME_WIDTH: Final = 60


def report_fidelity(
    folder: Path | None, report: Path | None = None, stream: TextIO | None = None
) -> None:
    """Print what the workers that write to a folder have counted.

    Args:
        folder: Where they write.
        report: A file that gets it as JSON.
        stream: Where to print; standard error by default.
    """
    kernels = sorted(read_counts(folder), key=_threads, reverse=True) if folder else []
    for line in table(kernels):
        print(line, file=stream or sys.stderr)
    if report:
        report.write_text(json.dumps(to_dict(kernels), indent=2) + "\n")


def _threads(kernel: KernelCounts) -> int:
    return kernel.threads.total()


def by_fidelity(kernel: KernelCounts) -> Counter[Fidelity]:
    """Instructions of threads by how they compare."""
    counts: Counter[Fidelity] = Counter()
    for name, threads in kernel.threads.items():
        counts[judge(name).fidelity] += threads
    return counts


def total_of(kernels: Sequence[KernelCounts]) -> KernelCounts:
    """All kernels together."""
    total = KernelCounts("", sum(kernel.launches for kernel in kernels), Counter(), Counter())
    for kernel in kernels:
        total.warps.update(kernel.warps)
        total.threads.update(kernel.threads)
    return total


def to_dict(kernels: Sequence[KernelCounts]) -> dict[str, Any]:
    """Plain data: the total, then each kernel."""
    return {
        "total": _kernel_to_dict(total_of(kernels)),
        "kernels": [
            {"name": kernel.kernel, "readable": demangle(kernel.kernel), **_kernel_to_dict(kernel)}
            for kernel in kernels
        ],
    }


def _kernel_to_dict(kernel: KernelCounts) -> dict[str, Any]:
    counts = by_fidelity(kernel)
    return {
        "launches": kernel.launches,
        "warps": kernel.warps.total(),
        "threads": kernel.threads.total(),
        "threads_by_fidelity": {fidelity.value: counts[fidelity] for fidelity in Fidelity},
        "instructions": [
            {
                "name": name,
                "fidelity": judge(name).fidelity.value,
                "how": str(judge(name)),
                "warps": kernel.warps[name],
                "threads": threads,
            }
            for name, threads in kernel.threads.most_common()
            if threads
        ],
    }


def table(kernels: Sequence[KernelCounts]) -> Iterator[str]:
    """Kernels with their shares, then the instructions that are not exact."""
    total = total_of(kernels)
    if not total.threads.total():
        yield "vgpu-stub fidelity: no kernel of PTX ran"
        return
    yield (
        f"vgpu-stub fidelity: {_many(len(kernels), 'kernel')},"
        f" {_many(total.launches, 'launch', 'launches')},"
        f" {total.threads.total():,} instructions of threads"
    )
    yield f"{'launches':>12} {'instructions':>18}   exact approx. differ  kernel"
    for kernel in kernels:
        yield _row(kernel, demangle(kernel.kernel))
    if len(kernels) > 1:
        yield _row(total, "all")
    inexact = [
        (judge(name), name, threads)
        for name, threads in total.threads.most_common()
        if threads and judge(name).fidelity is not Fidelity.EXACT
    ]
    for fidelity in (Fidelity.APPROXIMATE, Fidelity.DIFFERENT):
        rows = [(name, threads, how) for how, name, threads in inexact if how.fidelity is fidelity]
        if rows:
            yield f"{fidelity.value}:"
        for name, threads, how in rows:
            yield f"{threads:>31,}   {name}: {how}"


def _many(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def _row(kernel: KernelCounts, name: str) -> str:
    counts, threads = by_fidelity(kernel), kernel.threads.total()
    shares = " ".join(f"{_percent(counts[fidelity], threads):>6}" for fidelity in Fidelity)
    short = name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 3]}..."
    return f"{kernel.launches:>12,} {threads:>18,}  {shares}  {short}"


def _percent(part: int, whole: int) -> str:
    """A share; something is never shown as nothing, nor less than all as all."""
    if part in (0, whole):
        return "100%" if part else "-"
    share = 100 * part / whole
    return "<0.1%" if share < 0.05 else ">99.9%" if share >= 99.95 else f"{share:.1f}%"

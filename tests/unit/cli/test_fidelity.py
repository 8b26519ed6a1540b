"""What `--fidelity` prints and writes."""

from __future__ import annotations

import ctypes
import io
import json
from pathlib import Path

from vgpu_host.executors.software.counts import CountTable, read_counts
from vgpu_stub.cli.fidelity import report_fidelity, table

BLOCKS = ("add.u32 ld.global.nc.f32", "ex2.approx.f32 ret")


def count(folder: Path, kernel: str, *runs: tuple[int, int]) -> None:
    """A kernel with so many warps and threads in each block."""
    table = CountTable(folder, kernel, BLOCKS, workers=1)
    table.launched()
    for block, (warps, threads) in enumerate(runs):
        place = table.address(0) + 16 * block
        for offset, number in ((0, warps), (8, threads)):
            write(place + offset, number)


def write(address: int, number: int) -> None:
    ctypes.c_uint64.from_address(address).value = number


def test_kernels_and_inexact_instructions_are_shown(tmp_path: Path) -> None:
    count(tmp_path, "_Z4normPf", (100, 3000), (1, 1))
    count(tmp_path, "tiny", (1, 2), (1, 2))
    assert list(table(sorted(read_counts(tmp_path), key=lambda kernel: kernel.kernel))) == [
        "vgpu-stub fidelity: 2 kernels, 2 launches, 6,010 instructions of threads",
        "    launches       instructions   exact approx. differ  kernel",
        "           1              6,002   50.0%  <0.1%  50.0%  norm(float*)",
        "           1                  8   50.0%  25.0%  25.0%  tiny",
        "           2              6,010   50.0%  <0.1%  50.0%  all",
        "approximate:",
        "                              3   ex2.approx.f32: 2 ulp allowed, ours 1.0 ulp",
        "different:",
        "                          3,002   ld.global.nc.f32: there are no caches to advise",
    ]


def test_the_report_is_written_as_json(tmp_path: Path) -> None:
    count(tmp_path, "f", (10, 320), (2, 5))
    printed, report = io.StringIO(), tmp_path / "report.json"
    report_fidelity(tmp_path, report, printed)
    assert printed.getvalue().startswith("vgpu-stub fidelity: 1 kernel, 1 launch, 650 ")
    told = json.loads(report.read_text())
    (kernel,) = told["kernels"]
    assert kernel["name"] == kernel["readable"] == "f"
    assert {key: kernel[key] for key in told["total"]} == told["total"]
    assert (kernel["launches"], kernel["warps"], kernel["threads"]) == (1, 24, 650)
    assert kernel["threads_by_fidelity"] == {"exact": 325, "approximate": 5, "different": 320}
    assert kernel["instructions"][2:] == [
        {
            "name": "ex2.approx.f32",
            "fidelity": "approximate",
            "how": "2 ulp allowed, ours 1.0 ulp",
            "warps": 2,
            "threads": 5,
        },
        {"name": "ret", "fidelity": "exact", "how": "", "warps": 2, "threads": 5},
    ]


def test_a_run_without_kernels_is_said_to_be_one(tmp_path: Path) -> None:
    CountTable(tmp_path, "never_launched", BLOCKS, workers=1)
    printed = io.StringIO()
    report_fidelity(tmp_path, None, printed)
    assert printed.getvalue() == "vgpu-stub fidelity: no kernel of PTX ran\n"

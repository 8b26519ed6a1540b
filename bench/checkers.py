"""What checking costs: the same programs with each checker, beside the same without, in one run.

On the software GPU the checkers are those of `--check`. On a host with a physical GPU the programs
also run natively, under NVIDIA's compute-sanitizer where that is installed. A slow-down is the time
of a program's kernels with a checker, divided by their time without, medians of all rounds.

    python bench/checkers.py [--rounds 3] [--scale 1] [--threads N] [--json] [PROGRAM...]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.harness.build import GUEST, cuda_libraries, workloads
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

PROGRAM = GUEST / "workloads/kernel_times.py"
CHECKS = {
    "none": (),
    "mem": ("mem",),
    "race": ("race",),
    "sync": ("sync",),
    "all": ("mem", "race", "sync"),
}
TOOLS = ("memcheck", "initcheck", "racecheck", "synccheck")
#: Where NVIDIA's packages put it, beside the path.
SANITIZERS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer")
LIMIT_S = 900

#: Seconds by program, of each round.
Times = dict[str, list[float]]


def time_programs(
    prefix: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str]
) -> dict[str, float]:
    """Seconds of each program; RuntimeError if the command fails."""
    done = subprocess.run(
        [*prefix, sys.executable, str(PROGRAM), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    results = [line for line in done.stdout.splitlines() if line.startswith('{"device"')]
    if not results:
        raise RuntimeError(f"{' '.join(prefix)} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    seconds: dict[str, float] = json.loads(results[0])["seconds"]
    return seconds


def on_software(arguments: Sequence[str], rounds: int, threads: int) -> dict[str, Times]:
    """Times on the software GPU by checkers; the rounds of all alternate."""
    times: dict[str, Times] = {name: defaultdict(list) for name in CHECKS}
    for _ in range(rounds):
        for name, checks in CHECKS.items():
            options = ExecutorOptions("software", 1 << 30, threads=threads, checks=checks)
            with DeviceServer(options, shared=False) as server:
                environment = program_environment(server.device_socket, cuda_libraries())
                for program, seconds in time_programs([], arguments, environment).items():
                    times[name][program].append(seconds)
    return times


def why_no_gpu() -> str | None:
    """Why programs cannot run natively, or None when they can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "NVIDIA's driver library libcuda.so.1 is not installed"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "NVIDIA's driver shows no device"
    return None


def sanitizer() -> Path | None:
    """NVIDIA's compute-sanitizer, if it is installed."""
    found = shutil.which("compute-sanitizer")
    if found:
        return Path(found)
    folders = [Path(folder) for folder in SANITIZERS]
    return next(
        (f / "compute-sanitizer" for f in folders if (f / "compute-sanitizer").exists()), None
    )


def on_gpu(arguments: Sequence[str], rounds: int, tool: Path | None) -> dict[str, Times]:
    """Times on the physical GPU, natively, by tools of compute-sanitizer."""
    tools = ["none", *(TOOLS if tool else ())]
    times: dict[str, Times] = {name: defaultdict(list) for name in tools}
    for _ in range(rounds):
        for name in tools:
            prefix = [] if name == "none" else [str(tool), "--tool", name]
            for program, seconds in time_programs(prefix, arguments, os.environ).items():
                times[name][program].append(seconds)
    return times


def summary(times: Mapping[str, Times]) -> dict[str, dict[str, float]]:
    """For each program its milliseconds without a checker, and what each multiplies them by."""
    medians = {
        name: {program: statistics.median(each) for program, each in programs.items()}
        for name, programs in times.items()
    }
    plain = medians.pop("none")
    return {
        program: {
            "ms": 1000 * seconds,
            **{name: programs[program] / seconds for name, programs in medians.items()},
        }
        for program, seconds in plain.items()
    }


def show(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    print(f"\n{title}")
    columns = list(next(iter(rows.values())))
    print(f"{'':16}" + "".join(f"{name:>11}" for name in columns))
    for program, row in rows.items():
        cells = (
            f"{value:11.2f}" if name == "ms" else f"{value:10.1f}x" for name, value in row.items()
        )
        print(f"{program:16}" + "".join(cells))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="host threads of the software GPU")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM")
    options = parser.parse_args()
    workloads()
    arguments = ["--scale", str(options.scale), *options.programs]
    report: dict[str, object] = {"rounds": options.rounds, "scale": options.scale}
    software = summary(on_software(arguments, options.rounds, options.threads))
    report["software"] = software
    reason = why_no_gpu()
    tool = sanitizer()
    native = {} if reason else summary(on_gpu(arguments, options.rounds, tool))
    report["gpu"] = native or reason
    report["compute_sanitizer"] = str(tool) if tool else "not installed"
    if options.json:
        print(json.dumps(report, indent=2))
        return 0
    show("software GPU: milliseconds, and times as long with --check", software)
    if reason:
        print(f"\nno physical GPU: {reason}")
    else:
        show("physical GPU: milliseconds, and times as long under compute-sanitizer", native)
        if not tool:
            print("compute-sanitizer is not installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

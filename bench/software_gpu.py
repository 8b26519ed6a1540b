"""How fast the software GPU is, each figure beside its baseline in the same run.

In this process: streaming kernels beside numpy, an empty launch, two host threads beside one. By
`exec --image llm`: products of matrices by llama.cpp's `test-backend-ops` on the software GPU,
beside its own CPU backend, and beside the software GPU without bounds checks (which only this
program can turn off). Everything but the two threads runs on one core.

    python bench/software_gpu.py [--rounds 5] [--skip-llm] [--only REGEX] [--json]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vgpu_host.executors.software.function import Function
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.nvrtc import compile_ptx

TEST_PROGRAM = "/usr/libexec/x86_64-linux-gnu/ggml/test-backend-ops"
#: Elements of the arrays that streaming kernels read and write: 64 MiB, beyond the caches.
COUNT = 16 << 20

STREAMS = """
extern "C" __global__ void copy(float *c, const float *a, const float *b, float s, int n)
{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) c[i] = a[i]; }
extern "C" __global__ void scale(float *c, const float *a, const float *b, float s, int n)
{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) c[i] = s * a[i]; }
extern "C" __global__ void add(float *c, const float *a, const float *b, float s, int n)
{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) c[i] = a[i] + b[i]; }
extern "C" __global__ void add4(float4 *c, const float4 *a, const float4 *b, float s, int n)
{ int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n / 4) { float4 x = a[i], y = b[i];
    c[i] = make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w); } }
extern "C" __global__ void strided(float *c, const float *a, const float *b, float s, int n)
{ for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    c[i] = a[i] + b[i]; }
extern "C" __global__ void nothing() {}
extern "C" __global__ void polynomial(float *c, const float *a, const float *b, float s, int n)
{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return; float x = a[i], y = 0;
  for (int k = 0; k < 256; k++) y = y * x + s;
  c[i] = y; }
"""
NUMPY: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], object]] = {
    "copy": lambda c, a, b: np.copyto(c, a),
    "scale": lambda c, a, b: np.multiply(a, np.float32(2), out=c),
    "add": lambda c, a, b: np.add(a, b, out=c),
    "add4": lambda c, a, b: np.add(a, b, out=c),
    "strided": lambda c, a, b: np.add(a, b, out=c),
}
ARRAYS = {"copy": 2, "scale": 2, "add": 3, "add4": 3, "strided": 3}

#: Cases of test-backend-ops: what they are called here, and its parameters.
CASES = {
    f"{kind} n={n}": rf"type_a={kind},.*n={n},k=14336,bs=\[1,1\]"
    for n in (1, 8, 512)
    for kind in ("f32", "f16", "q8_0", "q4_K", "q6_K")
}

#: Takes bounds checks out of a worker, and keeps its kernels apart from those of others.
UNCHECKED = """
from vgpu_host.executors.software import kernel_cache
from vgpu_host.executors.software.codegen import access, rows
from vgpu_host.executors.software.codegen.emitter import Value

digest = kernel_cache.package_digest()
kernel_cache.package_digest = lambda: digest + " unchecked"
access._check = lambda emitter, distance, limit, size, addresses: None

def trusted(emitter, first, distances, space, size, matches):
    where = first
    if space == "shared":
        where = emitter.op("add", emitter.resize(first, "i64"), Value("%shared.base", "i64"))
    return rows._Shape(where, distances, matches or Value("true", "i1"), matches is None)

rows._checked = trusted
"""


def seconds(work: Callable[[], object]) -> float:
    """How long some work takes once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Device:
    """A software GPU with its kernels."""

    def __init__(self, threads: int, folder: Path) -> None:
        self.gpu = SoftwareGpu(total_memory=1 << 30, threads=threads, cache_dir=folder)
        self._module = self.gpu.load_module(compile_ptx(STREAMS))
        arrays = [np.random.default_rng(seed).random(COUNT, np.float32) for seed in range(3)]
        self.pointers = [self.gpu.alloc(array.nbytes) for array in arrays]
        for pointer, array in zip(self.pointers, arrays, strict=True):
            ctypes.memmove(pointer, array.ctypes.data, array.nbytes)

    def function(self, name: str) -> Function:
        """A kernel, compiled."""
        function = self._module.get_function(name)
        function.compile()
        return function

    def launch(self, name: str, blocks: int) -> Callable[[], None]:
        """What runs a streaming kernel over the arrays."""
        function = self.function(name)
        parameters = struct.pack("<3Qfi", *self.pointers, 2.0, COUNT)
        return lambda: function.launch((blocks, 1, 1), (256, 1, 1), 0, parameters)


def streaming(device: Device, rounds: int) -> dict[str, dict[str, float]]:
    """GB/s of kernels and of numpy, taken in turn."""
    arrays = [np.random.default_rng(seed).random(COUNT, np.float32) for seed in range(3)]
    results = {}
    for name, work in NUMPY.items():
        kernel = device.launch(name, {"add4": COUNT // 1024, "strided": 64}.get(name, COUNT // 256))
        kernel()
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(seconds(kernel))
            theirs.append(seconds(lambda work=work: work(*arrays)))  # type: ignore[misc]
        moved = 4 * COUNT * ARRAYS[name] / 1e9
        speeds = moved / statistics.median(ours), moved / statistics.median(theirs)
        results[name] = {
            "gb_s": round(speeds[0], 2),
            "numpy_gb_s": round(speeds[1], 2),
            "ratio": round(speeds[0] / speeds[1], 3),
        }
    return results


def empty_launch(device: Device) -> dict[str, float]:
    """Microseconds of a launch of a kernel that does nothing."""
    function = device.function("nothing")
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            function.launch((1, 1, 1), (32, 1, 1), 0, b"")
        times.append((time.perf_counter() - start) / 200 * 1e6)
    return {"median_us": round(statistics.median(times), 2), "least_us": round(min(times), 2)}


def two_threads(folder: Path, rounds: int) -> dict[str, float]:
    """How much faster two host threads run a kernel that computes, than one."""
    kernels = [Device(threads, folder).launch("polynomial", COUNT // 256) for threads in (1, 2)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for kernel, taken in zip(kernels, times, strict=True):
            taken.append(seconds(kernel))
    one, two = map(statistics.median, times)
    return {"one_s": round(one, 3), "two_s": round(two, 3), "ratio": round(one / two, 3)}


def backend_op(backend: str, parameters: str, unchecked: str = "") -> float | None:
    """Microseconds of an operation of test-backend-ops on one core; None if it is not run."""
    environment = dict(os.environ)
    if unchecked:
        environment["PYTHONPATH"] = f"{unchecked}:{environment.get('PYTHONPATH', '')}"
    command = [
        *("taskset", "-c", "0", "vgpu-stub", "exec", "--executor", "software"),
        *("--gpu-memory", "8G", "--image", "llm", "--", TEST_PROGRAM),
        *("perf", "-b", backend, "-o", "MUL_MAT", "-p", parameters),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=900, check=False
    )
    found = re.search(r"([\d.]+) us/run", done.stdout)
    if not found and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-500:]}")
    return float(found[1]) if found else None


def products(rounds: int, only: str) -> dict[str, dict[str, float | None]]:
    """Products of a matrix of 4096 x 14336 by n columns."""
    results: dict[str, dict[str, float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(UNCHECKED)
        for name, parameters in CASES.items():
            if not re.search(only, name):
                continue
            ways: dict[str, Callable[[], float | None]] = {
                "software": lambda p=parameters: backend_op("CUDA0", p),  # type: ignore[misc]
                "cpu": lambda p=parameters: backend_op("CPU", p),  # type: ignore[misc]
            }
            if name.endswith("n=1"):
                ways["unchecked"] = lambda p=parameters: backend_op("CUDA0", p, folder)  # type: ignore[misc]
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, run in ways.items():
                    if (taken := run()) is not None:
                        times[way].append(taken)
            if not all(times.values()):
                continue
            medians = {way: statistics.median(taken) for way, taken in times.items()}
            flop = 2 * 4096 * 14336 * int(name.rpartition("=")[2])
            results[name] = {
                **{f"{way}_ms": round(us / 1e3, 3) for way, us in medians.items()},
                "gflop_s": round(flop / medians["software"] / 1e3, 2),
                "of_cpu_backend": round(medians["cpu"] / medians["software"], 3),
                "checks_cost": (
                    round(medians["software"] / medians["unchecked"] - 1, 3)
                    if "unchecked" in medians
                    else None
                ),
            }
            print(name, results[name], file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-llm", action="store_true", help="only what needs no image")
    parser.add_argument("--only", default="", metavar="REGEX", help="products by name")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        results["two host threads"] = two_threads(Path(folder), arguments.rounds)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        device = Device(1, Path(folder))
        results["empty launch"] = empty_launch(device)
        for name, figures in streaming(device, arguments.rounds).items():
            results[f"stream: {name}"] = figures
        device.gpu.close()
    if not arguments.skip_llm:
        for name, found in products(max(1, arguments.rounds // 2), arguments.only).items():
            results[f"product: {name}"] = found
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name, values in results.items():
        assert isinstance(values, dict)
        print(f"{name:24}", "  ".join(f"{k}={v}" for k, v in values.items() if v is not None))


if __name__ == "__main__":
    main()

"""Programs of NVIDIA's Python packages cuda.core and cuda.bindings, each against numpy.

CUDA C++ is compiled to PTX by NVRTC, linked by the driver's linker where there are several sources,
and launched by cuda.core, all of them unchanged. Needs the packages cuda-core, cuda-bindings,
nvidia-cuda-nvrtc and numpy.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable

import numpy as np
import runner
from cuda.core import (
    Device,
    EventOptions,
    LaunchConfig,
    Linker,
    LinkerOptions,
    ObjectCode,
    Program,
    ProgramOptions,
    launch,
)
from cuda_driver import Driver
from runner import Outcome, compare, worst

SAXPY = """
template <typename T>
__global__ void saxpy(T a, const T *x, const T *y, T *out, size_t count)
{
    size_t step = gridDim.x * blockDim.x;
    for (size_t at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += step)
        out[at] = a * x[at] + y[at];
}
"""
SCAN = """
extern "C" __global__ void scan(const int *values, int *sums, int *total)
{
    extern __shared__ int warps[];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = values[threadIdx.x];
    for (int step = 1; step < 32; step *= 2) {
        int other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step)
            sum += other;
    }
    if (lane == 31)
        warps[warp] = sum;
    __syncthreads();
    for (int before = 0; before < warp; before++)
        sum += warps[before];
    sums[threadIdx.x] = sum;
    if (threadIdx.x == blockDim.x - 1)
        *total = sum;
}
"""
CALLER = """
extern __device__ double horner(const double *coefficients, int count, double x);
extern __constant__ double coefficients[4];
extern "C" __global__ void evaluate(const double *x, double *y, int count)
{
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count)
        y[at] = horner(coefficients, 4, x[at]);
}
"""
CALLEE = """
__constant__ double coefficients[4] = {0.5, -1.25, 3.0, 0.125};
static __device__ double step(double sum, double x, double next) { return sum * x + next; }
__device__ double horner(const double *coefficients, int count, double x)
{
    double sum = 0;
    for (int i = count; i-- > 0;)
        sum = step(sum, x, coefficients[i]);
    return sum;
}
"""


def compile_ptx(device: Device, source: str, names: tuple[str, ...] = ()) -> ObjectCode:
    """Compile for the device that there is."""
    options = ProgramOptions(std="c++17", arch=f"sm_{device.arch}", relocatable_device_code=True)
    return Program(source, "c++", options).compile("ptx", name_expressions=names)


def templates(driver: Driver, device: Device) -> Outcome:
    """One template for two types; its kernels are found by their C++ names."""
    stream = device.create_stream()
    names = ("saxpy<float>", "saxpy<double>")
    code = compile_ptx(device, SAXPY, names)
    outcomes = []
    for name, kind in zip(names, (np.float32, np.float64), strict=True):
        x, y = np.random.default_rng(1).integers(-99, 99, (2, 5_000)).astype(kind)
        on_x, on_y, out = driver.upload(x), driver.upload(y), driver.zeros(x.nbytes)
        arguments = kind(3), on_x.pointer, on_y.pointer, out.pointer, np.uint64(x.size)
        launch(stream, LaunchConfig(grid=9, block=256), code.get_kernel(name), *arguments)
        stream.sync()
        outcomes.append(compare(out.download(x.shape, kind), 3 * x + y))
    return worst(*outcomes)


def prefix_sum(driver: Driver, device: Device) -> Outcome:
    """Shuffles, dynamic shared memory, and the time between two events."""
    stream = device.create_stream()
    kernel = compile_ptx(device, SCAN).get_kernel("scan")
    values = np.random.default_rng(2).integers(-1000, 1000, 512).astype(np.int32)
    on_device, sums, total = driver.upload(values), driver.zeros(values.nbytes), driver.zeros(4)
    timing = EventOptions(timing_enabled=True)
    before = stream.record(options=timing)
    config = LaunchConfig(grid=1, block=512, shmem_size=4 * 16)
    launch(stream, config, kernel, on_device.pointer, sums.pointer, total.pointer)
    after = stream.record(options=timing)
    after.sync()
    return worst(
        compare(sums.download(values.shape, np.int32), np.cumsum(values)),
        compare(total.download(1, np.int32), values.sum(keepdims=True)),
        Outcome(0 <= after - before < 60_000),
    )


def linked_sources(driver: Driver, device: Device) -> Outcome:
    """A function and a constant of another source."""
    stream = device.create_stream()
    parts = compile_ptx(device, CALLER), compile_ptx(device, CALLEE)
    code = Linker(*parts, options=LinkerOptions(arch=f"sm_{device.arch}")).link("cubin")
    x = np.random.default_rng(3).uniform(-2, 2, 3_000)
    on_device, y = driver.upload(x), driver.zeros(x.nbytes)
    arguments = on_device.pointer, y.pointer, np.int32(x.size)
    launch(stream, LaunchConfig(grid=12, block=256), code.get_kernel("evaluate"), *arguments)
    stream.sync()
    got = y.download(x.shape, np.float64)
    return compare(got, np.polyval([0.125, 3.0, -1.25, 0.5], x), 1e-15)


PROGRAMS: dict[str, Callable[[Driver, Device], Outcome]] = {
    program.__name__: program for program in (templates, prefix_sum, linked_sources)
}


def main() -> int:
    """Run the programs that are named, or all."""
    # NVRTC's newest PTX is newer than the driver version that the device states; it takes it.
    warnings.filterwarnings("ignore", "The CUDA driver version is older than the backend version")
    warnings.filterwarnings("ignore", "cuda.bindings.nvjitlink is not available")
    options = runner.parse(argparse.ArgumentParser(description=__doc__), PROGRAMS)

    def run(driver: Driver, name: str) -> Outcome:
        device = Device()
        device.set_current()
        return PROGRAMS[name](driver, device)

    return runner.run_all(options, run)


if __name__ == "__main__":
    sys.exit(main())

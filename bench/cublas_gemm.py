"""GFLOP/s of cuBLAS' GEMM in a program on the device, beside numpy's in the same process.

Works unchanged by `vgpu-stub exec`, in a guest, and natively; checks the product and prints one
JSON object. Each figure is the best of `ROUNDS` batches, because others use the machine too. numpy
has no GEMM of half precision: its figure is that of float.

    vgpu-stub exec -- python bench/cublas_gemm.py [ORDER]
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from ctypes import byref, c_int, c_void_p
from pathlib import Path
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "guest/workloads"))

from cuda_driver import Driver

ROUNDS = 9
CALLS = 8
#: Name -> type of the matrices, type of the scalars, cudaDataType, cublasComputeType_t.
KINDS = {
    "f16": (np.float16, np.float32, 2, 68),
    "f32": (np.float32, np.float32, 0, 68),
    "f64": (np.float64, np.float64, 1, 70),
}
_DEFAULT_ALGORITHM = -1


def best(work: Callable[[], object], flops: float) -> float:
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return round(flops / min(times) / 1e9, 1)


def measure(
    driver: Driver, cublas: ctypes.CDLL, handle: c_void_p, name: str, order: int
) -> dict[str, float]:
    kind, scalar, data_type, compute_type = KINDS[name]
    random = np.random.default_rng(1)
    a, b = (random.random((order, order)).astype(kind) for _ in range(2))
    buffers = [driver.upload(each) for each in (a, b)] + [driver.zeros(a.nbytes)]
    first, second, target = (c_void_p(buffer.pointer) for buffer in buffers)
    alpha, beta = scalar(1).tobytes(), scalar(0).tobytes()
    size, stored = c_int(order), c_int(data_type)

    def on_device() -> None:
        for _ in range(CALLS):
            # Row-major B A is column-major A B.
            status = cublas.cublasGemmEx(
                *(handle, 0, 0, size, size, size),
                *(alpha, second, stored, size, first, stored, size),
                *(beta, target, stored, size, c_int(compute_type), _DEFAULT_ALGORITHM),
            )
            if status:
                raise SystemExit(f"cublasGemmEx: status {status}")
        driver.synchronize()

    on_device()
    exact = a.astype(np.float64) @ b.astype(np.float64)
    found = buffers[2].download((order, order), kind)
    if not np.allclose(found, exact, rtol=float(np.finfo(kind).eps) * 8):
        raise SystemExit(f"{name}: wrong product")
    wide = [each.astype(scalar) for each in (a, b)]
    return {
        "device": best(on_device, CALLS * 2 * order**3),
        "numpy": best(lambda: [wide[0] @ wide[1] for _ in range(CALLS)], CALLS * 2 * order**3),
    }


def main() -> int:
    order = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    cublas = ctypes.CDLL("libcublas.so.13")
    with Driver() as driver:
        handle = c_void_p()
        if cublas.cublasCreate_v2(byref(handle)):
            raise SystemExit("cublasCreate failed")
        gflops = {name: measure(driver, cublas, handle, name, order) for name in KINDS}
        cublas.cublasDestroy_v2(handle)
        print(json.dumps({"device": driver.device_name, "order": order, "gflops": gflops}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

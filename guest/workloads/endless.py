"""Launches, copies and synchronises for ever: the load under which things are killed.

Prints "ready" once it computes. Ends with status 3 and the CUresult on standard output when a call
fails, and with 4 when a result is wrong.
"""

from __future__ import annotations

import sys
from ctypes import c_uint
from pathlib import Path

import numpy as np
from cuda_driver import CudaError, Driver

PTX = Path(__file__).resolve().parent / "build" / "vector_add.ptx"
COUNT = 20_000


def main() -> int:
    a, b = np.random.default_rng(1).standard_normal((2, COUNT)).astype(np.float32)
    try:
        driver = Driver()
        kernel = driver.load(PTX).kernel("vector_add")
        left, right, total = driver.upload(a), driver.upload(b), driver.zeros(4 * COUNT)
        rounds = 0
        while True:
            for _ in range(20):
                kernel((-(-COUNT // 256), 1, 1), (256, 1, 1), left, right, total, c_uint(COUNT))
            if not np.array_equal(total.download(COUNT, np.float32), a + b):
                print("wrong", flush=True)
                return 4
            if rounds == 0:
                print("ready", flush=True)
            rounds += 1
    except CudaError as error:
        print(f"error {error.result}", flush=True)
        return 3


if __name__ == "__main__":
    sys.exit(main())

"""Time the kernels of programs on the device: the algorithms of the suite, and a matrix product.

Each program runs once to have its kernels compiled, and is checked then. Prints one JSON object:
for each program the median of the seconds from its first launch to the end of its last one.

    python3 kernel_times.py [--scale N] [--rounds N] [PROGRAM...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from algorithms.algorithm import Algorithm
from algorithms.matrix_vector import MatrixVector
from cuda_driver import Driver
from suite import ALGORITHMS, PTX

PROGRAMS: dict[str, type[Algorithm]] = {**ALGORITHMS, MatrixVector.name: MatrixVector}


def measure(driver: Driver, name: str, scale: int, rounds: int) -> float:
    """The median of the seconds that a program's kernels take; RuntimeError if it is wrong."""
    program = PROGRAMS[name](scale)
    module = driver.load(PTX / f"{name}.ptx")
    seconds = []
    for number in range(rounds + 1):
        program.upload(driver, module)
        driver.synchronize()
        start = time.perf_counter()
        program.compute()
        driver.synchronize()
        seconds.append(time.perf_counter() - start)
        if number == 0 and not program.agrees(program.download(), program.reference()):
            raise RuntimeError(f"{name} gave a wrong result")
    return statistics.median(seconds[1:])


def main() -> int:
    """Time the programs that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=1, help="size of the inputs (default 1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*", metavar="PROGRAM", help=", ".join(PROGRAMS))
    options = parser.parse_args()
    with Driver() as driver:
        names = options.names or list(PROGRAMS)
        times = {name: measure(driver, name, options.scale, options.rounds) for name in names}
        print(json.dumps({"device": driver.device_name, "seconds": times}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

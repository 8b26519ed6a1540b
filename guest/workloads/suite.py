"""Eight classic parallel algorithms on the device, each checked against numpy.

They are what benchmark suites of the field have: irregular graphs, stencils, dynamic programming,
clustering, a factorisation, training. Each is a file of `algorithms/` and a module of `kernels/`.
Run it like `programs.py`; `--scale N` takes inputs of about N times the work.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import runner
from algorithms.algorithm import Algorithm
from algorithms.backprop import Backprop
from algorithms.bfs import Bfs
from algorithms.hotspot import Hotspot
from algorithms.kmeans import Kmeans
from algorithms.lud import Lud
from algorithms.needle import Needle
from algorithms.pathfinder import Pathfinder
from algorithms.srad import Srad
from cuda_driver import Driver

PTX = Path(__file__).resolve().parent / "build"
ALGORITHMS: dict[str, type[Algorithm]] = {
    algorithm.name: algorithm
    for algorithm in (Bfs, Hotspot, Srad, Needle, Kmeans, Lud, Pathfinder, Backprop)
}


def main() -> int:
    """Run the algorithms that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=1, help="size of the inputs (default 1)")
    options = runner.parse(parser, ALGORITHMS)

    def run(driver: Driver, name: str) -> runner.Outcome:
        algorithm = ALGORITHMS[name](options.scale)
        algorithm.upload(driver, driver.load(PTX / f"{name}.ptx"))
        algorithm.compute()
        return runner.Outcome(algorithm.agrees(algorithm.download(), algorithm.reference()))

    return runner.run_all(options, run)


if __name__ == "__main__":
    sys.exit(main())

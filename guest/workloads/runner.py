"""What commands that run checked CUDA programs share: options, verdicts, exit status."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from cuda_driver import Driver
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outcome:
    """Whether a result is right, and how far it is off, relative to its largest element."""

    right: bool
    deviation: float | None = None


def compare(got: NDArray[Any], expected: NDArray[Any], tolerance: float = 0.0) -> Outcome:
    """Compare a result with what it should be; `tolerance` is relative to its largest element."""
    if got.shape != expected.shape:
        return Outcome(False)
    wide = expected.astype(np.result_type(expected.dtype, np.float64))
    scale = float(np.abs(wide).max()) or 1.0
    deviation = float(np.abs(got - wide).max()) / scale
    return Outcome(deviation <= tolerance, deviation)


def worst(*outcomes: Outcome) -> Outcome:
    """The outcome of a program with several results."""
    deviations = [one.deviation for one in outcomes if one.deviation is not None]
    return Outcome(all(one.right for one in outcomes), max(deviations, default=None))


def parse(parser: argparse.ArgumentParser, programs: Iterable[str]) -> argparse.Namespace:
    """Parse the command line of a command that runs programs.

    Returns:
        The caller's options, `names` of the programs to run (all where none is named), and `json`.
    """
    known = list(programs)
    parser.add_argument("names", nargs="*", metavar="PROGRAM", help=", ".join(known))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"no program {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    options.names = options.names or known
    return options


def run_all(options: argparse.Namespace, run: Callable[[Driver, str], Outcome]) -> int:
    """Run the programs on the device and print for each whether it was right, and its time.

    Args:
        options: As `parse` returned them.
        run: Runs a program by its name.

    Returns:
        The command's exit status: 1 when a program was wrong or failed.
    """
    results = []
    with Driver() as driver:
        device = driver.device_name
        if not options.json:
            print(f"device: {device}", flush=True)
        for name in options.names:
            start = time.perf_counter()
            try:
                outcome, error = run(driver, name), ""
            except Exception as failure:  # of whatever package the program uses
                outcome, error = Outcome(False), f"{type(failure).__name__}: {failure}"
            milliseconds = 1000 * (time.perf_counter() - start)
            results.append({"program": name, **asdict(outcome), "error": error, "ms": milliseconds})
            if not options.json:
                verdict = "right" if outcome.right else f"WRONG {error}"
                print(f"{name:20} {verdict:8} {milliseconds:8.1f} ms", flush=True)
    if options.json:
        print(json.dumps({"device": device, "results": results}))
    return 0 if all(result["right"] for result in results) else 1

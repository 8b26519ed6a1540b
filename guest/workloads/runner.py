"""What commands that run checked CUDA programs share: options, verdicts, exit status."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable

from cuda_driver import CudaError, Driver


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


def run_all(options: argparse.Namespace, run: Callable[[Driver, str], bool]) -> int:
    """Run the programs on the device and print for each whether it was right, and its time.

    Args:
        options: As `parse` returned them.
        run: Runs a program by its name; false when its result is wrong.

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
                right, error = run(driver, name), ""
            except CudaError as failure:
                right, error = False, str(failure)
            milliseconds = 1000 * (time.perf_counter() - start)
            results.append({"program": name, "right": right, "error": error, "ms": milliseconds})
            if not options.json:
                verdict = "right" if right else f"WRONG {error}"
                print(f"{name:20} {verdict:8} {milliseconds:8.1f} ms", flush=True)
    if options.json:
        print(json.dumps({"device": device, "results": results}))
    return 0 if all(result["right"] for result in results) else 1

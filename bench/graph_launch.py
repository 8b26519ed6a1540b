"""What a graph saves: 100 empty kernels as one graph against 100 launches, by exec.

Runs `guest/cuda/build/tests/graph_latency` over the executor, and natively too on a machine with a
physical GPU. Prints one JSON object: medians in microseconds for queueing a batch and for a batch
until it is done, and how many times faster the graph is.

    python bench/graph_launch.py [EXECUTOR] [ROUNDS]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from vgpu_host.executors.cuda_library import driver_folder
from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.harness.build import GUEST, cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

PROGRAM = GUEST / "cuda/build/tests/graph_latency"


def measure(environment: Mapping[str, str], rounds: int) -> dict[str, float]:
    """Medians of one run, with the ratios of launches to graph."""
    done = subprocess.run(
        [str(PROGRAM), str(rounds)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    result: dict[str, float] = json.loads(done.stdout)
    for what in ("", "queue_"):
        ratio = result[f"{what}launches_us"] / result[f"{what}graph_us"]
        result[f"{what}ratio"] = round(ratio, 2)
    return result


def main() -> int:
    """Measure and print."""
    physical = why_no_gpu() is None
    executor = sys.argv[1] if len(sys.argv) > 1 else ("cuda" if physical else "software")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    libraries = cuda_libraries()
    subprocess.run(["make", "-s", "-C", str(GUEST / "cuda"), "tests"], check=True)
    result: dict[str, object] = {"executor": executor, "rounds": rounds}
    with DeviceServer(ExecutorOptions(executor), shared=False) as server:
        environment = program_environment(server.device_socket, libraries)
        result["vgpu_stub"] = measure(environment, rounds)
    if executor == "cuda":
        native = dict(os.environ, LD_LIBRARY_PATH=str(driver_folder()))
        result["native"] = measure(native, rounds)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

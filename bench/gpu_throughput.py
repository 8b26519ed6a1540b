"""Launch throughput and copy bandwidth on a physical GPU, as ratios to native in the same run.

`guest/cuda/build/tests/throughput` runs in turn under NVIDIA's libcuda and, by exec, under ours.
Prints one JSON object: medians of both and the ratios (1 is native speed).

    python bench/gpu_throughput.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping

from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.harness.build import GUEST, cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

PROGRAM = GUEST / "cuda/build/tests/throughput"
#: In times, less is better; in bandwidths, more is.
TIMES = ("launch_us", "launch_and_wait_us")
BANDWIDTHS = ("to_device_gb_s", "to_host_gb_s")


def measure(environment: Mapping[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [str(PROGRAM)], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> int:
    reason = why_no_gpu()
    if reason:
        print(f"no physical GPU: {reason}", file=sys.stderr)
        return 1
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    libraries = cuda_libraries()
    native, ours = [], []
    with DeviceServer(ExecutorOptions("cuda"), shared=False) as server:
        for _ in range(rounds):
            native.append(measure(os.environ))
            ours.append(measure(program_environment(server.device_socket, libraries)))
        log = server.log_tail()
    names = (*TIMES, *BANDWIDTHS)
    medians = {
        side: {name: statistics.median(run[name] for run in runs) for name in names}
        for side, runs in (("native", native), ("vgpu_stub", ours))
    }
    ratios = {name: medians["native"][name] / medians["vgpu_stub"][name] for name in TIMES}
    ratios |= {name: medians["vgpu_stub"][name] / medians["native"][name] for name in BANDWIDTHS}
    print(json.dumps({"rounds": rounds, **medians, "ratio": ratios}, indent=2))
    if log:
        print(log, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

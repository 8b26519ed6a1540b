"""llama.cpp on a physical GPU, natively and by exec in turn, as ratios of the same run.

Takes a folder with `llama-bench` and `llama-completion`, built for CUDA with loadable backends, and
a GGUF model. Under NVIDIA's libraries and under ours, alternately, it measures prompt
and decode throughput, the time from the start of the process to its first token, and the speed at
which the weights reach the device. Prints one JSON object: medians of both and ratios, where 1 is
native speed and more is better.

    python bench/llama_cpp.py BIN_DIR MODEL.gguf [ROUNDS]
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

_PROMPT_TOKENS = 512
_DECODE_TOKENS = 128
_DEADLINE = 300


def throughput(programs: Path, model: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Tokens per second of prompt processing and of decoding, all layers on the device."""
    command = [programs / "llama-bench", "-m", model, "-ngl", "99", "-o", "json", "-r", "3"]
    command += ["-p", str(_PROMPT_TOKENS), "-n", str(_DECODE_TOKENS)]
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE,
    )
    if done.returncode:
        raise SystemExit(f"llama-bench failed ({done.returncode}):\n{done.stderr[-3000:]}")
    rows = json.loads(done.stdout)
    if any("CUDA" not in row["backends"] for row in rows):
        raise SystemExit(f"llama-bench did not use CUDA: {rows[0]['backends']}")
    return {
        "prompt_tokens_s": next(row["avg_ts"] for row in rows if row["n_prompt"]),
        "decode_tokens_s": next(row["avg_ts"] for row in rows if row["n_gen"]),
    }


def first_token(programs: Path, model: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Seconds from start to the end of a run of one token, and GB/s at which the model loads."""
    command = [programs / "llama-completion", "-m", model, "-ngl", "99", "-n", "1", "-p", "a"]
    command += ["-no-cnv", "--temp", "0", "--no-warmup", "--perf"]
    start = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE,
    )
    seconds = time.perf_counter() - start
    found = re.search(r"load time = +([0-9.]+) ms", done.stderr + done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"llama-completion failed ({done.returncode}):\n{done.stderr[-3000:]}")
    load_seconds = float(found.group(1)) / 1000
    return {
        "first_token_s": seconds,
        "load_gb_s": model.stat().st_size / load_seconds / 1e9,
    }


def measure(programs: Path, model: Path, environment: Mapping[str, str]) -> dict[str, float]:
    return throughput(programs, model, environment) | first_token(programs, model, environment)


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    reason = why_no_gpu()
    if reason:
        print(f"no physical GPU: {reason}", file=sys.stderr)
        return 1
    programs, model = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    libraries = cuda_libraries()
    native, ours = [], []
    with DeviceServer(ExecutorOptions("cuda"), shared=False) as server:
        environment = program_environment(server.device_socket, libraries)
        # Both sides once before: page cache, and the JIT caches of either driver.
        first_token(programs, model, os.environ)
        first_token(programs, model, environment)
        for _ in range(rounds):
            native.append(measure(programs, model, os.environ))
            ours.append(measure(programs, model, environment))
    medians = {
        side: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for side, runs in (("native", native), ("vgpu_stub", ours))
    }
    ratios = {name: medians["vgpu_stub"][name] / medians["native"][name] for name in native[0]}
    ratios["first_token_s"] = 1 / ratios["first_token_s"]
    print(json.dumps({"rounds": rounds, **medians, "ratio": ratios}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

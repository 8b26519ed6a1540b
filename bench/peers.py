"""Run programs of Triton, Numba and NVIDIA's cuda.core, and check them against numpy.

The packages live in an environment of their own in the cache, which `--install` makes or brings up
to date. Each suite is a program of `guest/workloads`, run by `vgpu-stub exec` on the software GPU
of each profile. The exit status is 1 when a result was wrong, 77 when the packages are missing.

    python bench/peers.py [--install] [--profile sm_80]... [--json] [SUITE...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.cache import default_cache_root
from vgpu_stub.harness.build import GUEST, cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

ENVIRONMENT = default_cache_root() / "peers"
PYTHON = ENVIRONMENT / "bin/python"
PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
#: Suites: the package that each needs, and the profiles on which it runs.
SUITES = {
    "triton": ("triton", ("sm_75", "sm_80", "sm_90")),
    "numba": ("numba_cuda", ("sm_75", "sm_80", "sm_90")),
    "cuda_core": ("cuda", ("sm_75", "sm_80", "sm_90")),
}
PROFILES = ("sm_61", "sm_75", "sm_80", "sm_90")
NOT_INSTALLED = 77
LIMIT_S = 600


def install() -> None:
    """Make the environment, or bring it up to date."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--upgrade"]
    subprocess.run([*pip, "pip"], check=True)
    subprocess.run([*pip, "--group", f"{PROJECT}:peers"], check=True)


def is_installed(package: str) -> bool:
    """Whether the environment has a package."""
    if not PYTHON.exists():
        return False
    found = "import importlib.util, sys; sys.exit(not importlib.util.find_spec(sys.argv[1]))"
    return subprocess.run([PYTHON, "-c", found, package], check=False).returncode == 0


def run(suite: str, profile: str, scratch: str) -> list[dict[str, Any]]:
    """Run a suite on a profile; one row for each of its programs."""
    options = ExecutorOptions("software", memory_bytes=1 << 30, profile=profile)
    with DeviceServer(options, shared=False) as server:
        environment = program_environment(server.device_socket, cuda_libraries())
        # What Triton and Numba compiled before says nothing about today.
        environment |= {"TRITON_CACHE_DIR": scratch, "NUMBA_CACHE_DIR": scratch}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [PYTHON, GUEST / f"workloads/{suite}_programs.py", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    place = {"suite": suite, "profile": profile}
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):
        error = f"exit status {done.returncode}: {done.stderr.strip()[-400:]}"
        return [{**place, "program": "", "right": False, "error": error}]
    return [{**place, **row} for row in json.loads(lines[-1])["results"]]


def show(row: dict[str, Any]) -> None:
    """Print one row of the table."""
    deviation = row.get("deviation")
    verdict = "right" if row["right"] else "WRONG"
    error = "" if deviation is None else f"{deviation:.1e}"
    time = f"{row['ms']:8.0f} ms" if "ms" in row else " " * 11
    print(
        f"{row['suite']:9} {row['profile']:6} {row['program']:20} {verdict} {error:>8} {time}"
        f"  {row['error']}".rstrip(),
        flush=True,
    )


def main() -> int:
    """Run suites on profiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--install", action="store_true", help="make the environment first")
    parser.add_argument("--profile", action="append", choices=PROFILES, help="run only on these")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - set(SUITES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; choose from {', '.join(SUITES)}")
    if arguments.install:
        install()
    right = True
    for suite in arguments.suites or SUITES:
        package, profiles = SUITES[suite]
        if not is_installed(package):
            print(f"{ENVIRONMENT} has no {package}: run with --install", file=sys.stderr)
            return NOT_INSTALLED
        for profile in arguments.profile or profiles:
            with tempfile.TemporaryDirectory() as scratch:
                for row in run(suite, profile, scratch):
                    right &= row["right"]
                    if arguments.json:
                        print(json.dumps(row), flush=True)
                    else:
                        show(row)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

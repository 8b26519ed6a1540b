"""`vgpu-stub explain --vm`: what was written in the guest is fetched and judged."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]

COMMAND = "from vgpu_stub.cli.main import app; app()"
PROGRAM = ["python3", "/opt/vgpu-stub/workloads/programs.py", "vector_add"]
LIBRARY = "/lib/x86_64-linux-gnu/libcuda.so.1"


def explain(*command: str) -> dict[str, Any]:
    options = ["--vm", "--json", "--executor", "software", "--"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "explain", *options, *command],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_program_in_the_guest_computed() -> None:
    report = explain(*PROGRAM)
    assert report["verdict"]["code"] == "RESIDENT"
    (process,) = report["processes"]
    assert process["libraries"]["libcuda.so"] == LIBRARY
    assert process["use"][0]["last"]["launches"] == 1
    assert process["device"]["transport"] == "/dev/vgpu0"


def test_a_user_outside_the_group_lacks_permission() -> None:
    report = explain("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *PROGRAM)
    assert report["verdict"]["code"] == "PERMISSION"
    assert "cannot open /dev/vgpu0: Permission denied" in report["verdict"]["evidence"]

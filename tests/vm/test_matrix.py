"""`vgpu-stub matrix` as users call it: verdicts, logs and reports of real cells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]

MATRIX = """
[matrix]
timeout = 60
gpu_memory = 64
memory = 512

[axes]
images = "base"
commands = ["works", "oopses", "hangs"]
faults = "crash"

[faults.crash]
rules = ["worker-crash:opcode=LAUNCH_KERNEL"]

[commands.works]
run = "uname -r"

[commands.oopses]
run = "echo '<1>BUG: Bad page state in process of a test' > /dev/kmsg"

[commands.hangs]
run = ["sleep", "1000"]
timeout = 1
"""


def test_each_cell_ends_in_the_right_verdict(tmp_path: Path) -> None:
    file, report = tmp_path / "matrix.toml", tmp_path / "report"
    file.write_text(MATRIX)
    command = [sys.executable, "-c", "from vgpu_stub.cli.main import app; app()", "matrix"]
    command += [str(file), "--report", str(report), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    cells = {cell["column"]: cell for cell in told["cells"]}
    row = "6.12/software/sm_61/crash"
    assert {cell["row"] for cell in told["cells"]} == {row}
    verdicts = {name: (cell["verdict"], cell["reason"]) for name, cell in cells.items()}
    assert verdicts == {
        "works@base": ("PASS", ""),
        "oopses@base": ("FAIL", "kernel: BUG: BUG: Bad page state in process of a test"),
        "hangs@base": ("WEDGED", "the command did not end within 1 s"),
    }
    assert f"PASS    {row}/works@base" in done.stderr
    works = cells["works@base"]
    assert works["status"] == 0
    assert works["boot_s"] > 0
    assert works["tail"]["output.log"] == works["kernel_release"]
    (fault,) = works["faults"]
    assert (fault["text"], fault["fired"]) == ("worker-crash:opcode=LAUNCH_KERNEL", 0)
    folder = report / "cells" / works["folder"]
    assert set(works["logs"]) == {
        *("console.log", "dmesg.log", "server.log", "device.json", "output.log"),
    }
    assert "vgpu_stub 0000:00:05.0: vgpu0" in (folder / "dmesg.log").read_text()
    assert {path.name for path in report.iterdir() if path.is_file()} == {
        *("report.html", "report.json", "junit.xml"),
    }

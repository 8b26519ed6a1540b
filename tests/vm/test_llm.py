"""Unmodified llama.cpp in a machine: it finds the device and computes on it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_qemu.errors import LauncherError
from vgpu_qemu.image import build_root_image
from vgpu_stub.models.writer import write_model

pytestmark = pytest.mark.vm

COMMAND = "from vgpu_stub.cli.main import app; app()"
SCRIPT = """
set -e
for i in 1 2 3; do llama-server --list-devices > /tmp/devices.$i & pids="$pids $!"; done
for pid in $pids; do wait $pid; done
cat /tmp/devices.*
model="-m /mnt/host/model.gguf"
greedy="-p hello -n 16 --temp 0 -no-cnv"
llama-completion $model -ngl 99 $greedy > /tmp/device
llama-completion $model -ngl 0 -dev none $greedy > /tmp/cpu
cmp /tmp/device /tmp/cpu
echo "text: $(cat /tmp/device)"
python3 /opt/vgpu-stub/workloads/ollama_discovery.py
"""


def ignore(what: str, part: float | None) -> None:
    """Progress that nobody looks at."""


@pytest.mark.timeout(300)
def test_llama_cpp_in_a_guest(tmp_path: Path) -> None:
    try:
        build_root_image("llm")
    except LauncherError as error:
        pytest.skip(f"the image with llama.cpp cannot be had: {error}")
    write_model(tmp_path / "model.gguf", "1m", "f16", 3, ignore)
    machine = ["vm", "--executor", "software", "--image", "llm", "--memory", "2500", "--stats"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *machine, "--share", tmp_path, "--", "sh", "-c", SCRIPT],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  CUDA0: VGPU-STUB software GPU (") == 3
    assert "library=CUDA compute=6.1 name=CUDA0" in done.stdout
    assert re.search(r"^text: +hello\S+", done.stdout, re.MULTILINE), done.stdout

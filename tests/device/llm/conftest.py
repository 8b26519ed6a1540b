"""Debian's llama.cpp on the software GPU, run from the guest image without a VM."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from vgpu_qemu.errors import LauncherError
from vgpu_qemu.sandbox import Sandbox

COMMAND = "from vgpu_stub.cli.main import app; app()"

RunLlm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def llm_image() -> None:
    """The image with llama.cpp, ready to be entered."""
    try:
        Sandbox("llm")
    except LauncherError as error:
        pytest.skip(f"the image with llama.cpp cannot be used here: {error}")


@pytest.fixture
def run_llm(llm_image: None) -> RunLlm:
    """Runs a program of the image on the device; returns when it has ended."""

    def run(*program: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        arguments = ["exec", "--executor", "software", "--image", "llm", "--stats", "--", *program]
        return subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=timeout,
            check=False,
        )

    return run

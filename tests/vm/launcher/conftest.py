"""A virtual machine without devices, shared by the tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_qemu import OverlayFile, Vm, VmConfig


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "from-host").write_text("hello guest\n")
    return folder


@pytest.fixture(scope="module")
def overlay_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "tool"
    path.write_text("#!/bin/sh\necho the tool ran\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def vm(shared_folder: Path, overlay_file: Path) -> Iterator[Vm]:
    config = VmConfig(
        image="base",
        shared_folder=shared_folder,
        overlay=[OverlayFile(overlay_file, "/bin/tool")],
        timeout=300,
    )
    with Vm(config) as machine:
        yield machine

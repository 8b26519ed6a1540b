"""Makes the pictures of the README: the monitor's screen while real programs use a device.

    .venv/bin/python tools/screenshots.py

Writes docs/images/monitor.svg.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.cli.exec_command import program_environment
from vgpu_stub.harness.build import GUEST, ROOT, cuda_libraries, workloads
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.models.writer import write_model
from vgpu_stub.monitor.app import MonitorApp
from vgpu_stub.monitor.source import take_snapshots

_LOOKS: Final = 60
_PICTURE: Final = ROOT / "docs/images/monitor.svg"


async def _photograph(server: str, target: Path) -> None:
    app = MonitorApp(lambda: take_snapshots(server))
    async with app.run_test(size=(100, 26)) as pilot:
        for _ in range(_LOOKS):
            await pilot.pause(0.2)
        await pilot.press("home")
        await pilot.pause(0.5)
        target.write_text(app.export_screenshot(title="vgpu-stub monitor"))


def main() -> int:
    """Start a device, programs and the monitor, and take the picture."""
    workloads()
    _PICTURE.parent.mkdir(exist_ok=True)
    options = ExecutorOptions("software", memory_bytes=1 << 30)
    with (
        tempfile.TemporaryDirectory() as folder,
        DeviceServer(options, shared=False, name="exec-1") as server,
        contextlib.ExitStack() as running,
    ):
        model = Path(folder) / "15m.gguf"
        write_model(model, "15m", "q4_k", 1, lambda what, part: None)
        tools = GUEST / "cuda/build/tests"
        programs = [
            [sys.executable, str(GUEST / "workloads/llm_resident"), str(model), "--tokens", "5000"],
            [sys.executable, str(GUEST / "workloads/endless.py")],
            ["sh", "-c", f"while :; do {tools}/throughput; done"],
        ]
        environment = program_environment(server.device_socket, cuda_libraries())
        for program in programs:
            process = subprocess.Popen(
                program, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
            )
            running.callback(process.wait)
            running.callback(process.kill)
        asyncio.run(_photograph(server.folder.name, _PICTURE))
    print(_PICTURE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())

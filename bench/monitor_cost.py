"""What the monitor costs while it looks at 64 channels five times a second: its own processor time,
and what it takes from the rings.

    python bench/monitor_cost.py [--seconds 10]

One client keeps 64 channels of a device busy with commands. The rate of commands is measured in
alternating slices with the monitor (without a terminal) and without it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.abi import generated as abi
from vgpu_stub.driver import GuestChannel, GuestDriver
from vgpu_stub.harness.device_server import DeviceServer

CHANNELS = 64
MONITOR = """
import sys
from vgpu_stub.monitor.app import MonitorApp
from vgpu_stub.monitor.source import take_snapshots
MonitorApp(lambda: take_snapshots(sys.argv[1]), 0.2).run(
    headless=True, size=(int(sys.argv[2]), int(sys.argv[3]))
)
"""


def rate(channels: Sequence[GuestChannel], seconds: float) -> float:
    """Round trips a second, one command to each channel in turn."""
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        waiting = [(channel, channel.submit(abi.Opcode.NOP)) for channel in channels]
        for channel, sequence in waiting:
            channel.poll_for(sequence)
        count += len(waiting)
    return count / seconds


def processor_s(pid: int) -> float:
    """Processor time of a process."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each slice")
    parser.add_argument("--size", default="80x24", help="of the terminal")
    parser.add_argument("--slices", type=int, default=4)
    options = parser.parse_args()
    software = ExecutorOptions("software", memory_bytes=64 << 20, threads=1)
    with (
        DeviceServer(software, shared=True, spares=4) as server,
        GuestDriver.connect(server.device_socket) as driver,
    ):
        channels = [
            driver.open_channel(number, name=f"busy{number}") for number in range(1, CHANNELS + 1)
        ]
        without, beside, cost = [], [], []
        for _ in range(options.slices):
            without.append(rate(channels, options.seconds))
            command = [sys.executable, "-c", MONITOR, server.folder.name, *options.size.split("x")]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as monitor:
                rate(channels, 6.0)  # its start is not what is asked
                before = processor_s(monitor.pid)
                beside.append(rate(channels, options.seconds))
                cost.append((processor_s(monitor.pid) - before) / options.seconds)
                monitor.terminate()
    slower = 1 - statistics.median(beside) / statistics.median(without)
    print(
        f"commands a second: {[round(x) for x in without]} without the monitor,"
        f" {[round(x) for x in beside]} beside it: {slower:.1%} slower"
    )
    print(
        f"the monitor took {statistics.median(cost):.1%} of a core: {[round(x, 3) for x in cost]}"
    )


if __name__ == "__main__":
    main()

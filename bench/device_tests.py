"""How many tests a second `vgpu_device` allows: each opens a channel and does one round trip.

    python bench/device_tests.py [--tests 500]

Prints tests/s as pytest's own clock has them, collection and the first worker included, and the
processor time of all processes for each test, which does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLUGIN = "vgpu_stub.pytest_plugin.plugin"
TEST = """
import pytest
from vgpu_stub.abi.generated import Opcode

@pytest.mark.parametrize("number", range({count}))
def test_round_trip(vgpu_device, number):
    vgpu_device.driver.open_channel().call(Opcode.NOP)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=500)
    count = parser.parse_args().tests
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_round_trip.py").write_text(TEST.format(count=count))
        options = ["-p", "no:cacheprovider", "-p", PLUGIN, "--vgpu-executor", "software"]
        # Other plugins that happen to be installed take time of their own.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *options, folder], check=True, env=environment
        )
        seconds = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    each = (used.ru_utime + used.ru_stime) / count
    print(f"{count / seconds:.0f} tests/s, {1e3 * each:.1f} ms of processor time a test")


if __name__ == "__main__":
    main()

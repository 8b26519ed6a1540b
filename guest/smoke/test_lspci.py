"""What lspci says of the device, line by line."""

import re
import subprocess

import pytest


@pytest.fixture(scope="module")
def text():
    command = ["lspci", "-s", "00:05.0", "-vvv", "-n"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


LINES = {
    "identity": r"^00:05\.0 0302: 1234:5055 \(rev 01\)$",
    "subsystem": r"^\tSubsystem: 1234:5055$",
    "control": r"^\tControl: I/O\+ Mem\+ BusMaster\+ .*DisINTx\+$",
    "registers": r"^\tRegion 0: Memory at [0-9a-f]+ \(32-bit, non-prefetchable\) \[size=64K\]$",
    "channels": r"^\tRegion 2: Memory at [0-9a-f]+ \(64-bit, prefetchable\) \[size=64M\]$",
    "msix": r"^\tCapabilities: \[[0-9a-f]+\] MSI-X: Enable\+ Count=65 Masked-$",
    "msix table": r"^\t\tVector table: BAR=0 offset=00008000$",
    "msix pending": r"^\t\tPBA: BAR=0 offset=0000c000$",
    "power management": r"^\tCapabilities: \[[0-9a-f]+\] Power Management version 3$",
    "power state": r"^\t\tStatus: D0 NoSoftRst\+ PME-Enable- .*PME-$",
    "express": r"^\tCapabilities: \[[0-9a-f]+\] Express \(v2\) .*Endpoint",
    "function-level reset": r"^\t\tDevCap:.*\n.*FLReset\+",
    "driver": r"^\tKernel driver in use: vgpu_stub$",
}


@pytest.mark.parametrize("what", LINES)
def test_lspci_says(text, what):
    assert re.search(LINES[what], text, re.MULTILINE), text


def test_nothing_is_in_error(text):
    status = re.search(r"^\tStatus: .*$", text, re.MULTILINE)
    for flag in ("ParErr", ">TAbort", "<TAbort", "<MAbort", ">SERR", "<PERR"):
        assert f"{flag}-" in status[0], status[0]


def test_no_capability_comes_twice(text):
    places = re.findall(r"Capabilities: \[([0-9a-f]+)\]", text)
    assert len(places) == len(set(places)) == 3

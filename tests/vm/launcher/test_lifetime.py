"""How machines end, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vgpu_qemu import Vm, VmConfig, VmError, VmTimeoutError

pytestmark = pytest.mark.vm

BASE = VmConfig(image="base", cpus=1, memory_mib=512)


@pytest.fixture(autouse=True)
def nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give machines a runtime directory of their own, and find it empty afterwards."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    yield runtime
    wait_for(lambda: not processes_naming(runtime), "all processes to end")
    assert list(runtime.iterdir()) == []


def processes_naming(path: Path) -> list[int]:
    """Return the processes that have a path in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(path).encode() in words:
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"


def test_guest_switches_off_in_order(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    with Vm(VmConfig(image="base", cpus=1, memory_mib=512, console_log=log)) as vm:
        vm.shutdown()
        assert not vm.running
    assert "Power down" in log.read_text()


def test_killed_qemu_is_noticed_at_once() -> None:
    with Vm(BASE) as vm:
        killer = threading.Timer(0.5, os.kill, (vm.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(VmError, match=r"QEMU ended \(signal SIGKILL\)"):
            vm.run("sleep 1000", timeout=60)
        assert not vm.running


def test_life_limit_ends_machine_and_command() -> None:
    config = VmConfig(image="base", cpus=1, memory_mib=512, timeout=8)
    began = time.monotonic()
    with Vm(config) as vm, pytest.raises(VmTimeoutError, match="time limit of 8 s"):
        vm.run("sleep 1000")
    assert time.monotonic() - began < 20


def test_boot_that_takes_too_long_shows_the_console() -> None:
    config = VmConfig(image="base", cpus=1, memory_mib=512, boot_timeout=0.5)
    with pytest.raises(VmTimeoutError, match=r"not ready within 0\.5 s"), Vm(config):
        pass


def test_kernel_that_panics_is_reported_with_its_last_words() -> None:
    config = VmConfig(image="base", cpus=1, memory_mib=512, kernel_arguments=["rdinit=/none"])
    with pytest.raises(VmError, match=r"ended by itself(.|\n)*Kernel panic"), Vm(config):
        pass


def test_refused_option_is_reported_in_qemus_words() -> None:
    config = VmConfig(image="base", cpu_model="no-such-cpu")
    with pytest.raises(VmError, match="no-such-cpu"), Vm(config):
        pass


def test_missing_device_server_is_reported(tmp_path: Path) -> None:
    config = VmConfig(image="base", vfio_user_sockets=[tmp_path / "none.sock"])
    with pytest.raises(VmError, match=r"none\.sock"), Vm(config):
        pass


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)]
)
def test_signal_to_the_launcher_ends_everything(number: signal.Signals, status: int) -> None:
    process = start_launcher()
    process.send_signal(number)
    assert process.wait(20) == status


def test_killed_launcher_takes_qemu_with_it_and_the_next_one_cleans_up(
    nothing_stays_behind: Path,
) -> None:
    process = start_launcher()
    process.kill()
    process.wait()
    wait_for(lambda: not processes_naming(nothing_stays_behind), "QEMU to end")
    assert len(list(nothing_stays_behind.iterdir())) == 1
    with Vm(BASE) as vm:
        assert vm.run(["true"], timeout=60).status == 0


def start_launcher() -> subprocess.Popen[str]:
    """Start a process that runs a machine, and return when its guest runs a command."""
    program = (
        # A shell that starts its jobs in the background has them ignore SIGINT.
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from vgpu_qemu import Vm, VmConfig\n"
        "with Vm(VmConfig(image='base', cpus=1, memory_mib=512)) as vm:\n"
        "    vm.run('echo begun; sleep 1000', on_stdout=lambda data: print(data, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "b'begun\\n'\n"
    return process


def test_descriptors_are_closed() -> None:
    with Vm(BASE):
        pass
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Vm(BASE):
        probe = socket.socket()
        probe.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before

"""Kills everything that can be killed, at random moments under load, and looks for what is left.

    python bench/kill_tests.py [--rounds 50] [--seed 1] [KIND ...]

Kinds: `client`, `worker` and `server` without a VM; `guest-process`, `guest-worker`, `guest-reset`
and `driver-reload` in one VM each; `qemu` and `vm-server` with a VM for each round. Exits with 1 on
any leak or hang.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vgpu_host.executors.options import ExecutorOptions
from vgpu_host.runtime import runtime_root
from vgpu_qemu.errors import LauncherError
from vgpu_qemu.progress import silent
from vgpu_qemu.vm import Vm
from vgpu_stub.harness.build import GUEST, cuda_libraries, workloads
from vgpu_stub.harness.device_server import DeviceServer, DeviceServerError
from vgpu_stub.harness.machine import GuestSettings, running_vm
from vgpu_stub.harness.program import program_environment

OPTIONS = ExecutorOptions("software", memory_bytes=1 << 30)
LOAD = GUEST / "workloads/endless.py"
GUEST_LOAD = "/opt/vgpu-stub/workloads/endless.py"
DEVICE = "/sys/bus/pci/devices/0000:00:05.0"
DEADLINE_S = 20.0
#: Programs that are killed in a guest before its free memory is first read.
_WARM_UP = 6


class KillTestError(Exception):
    """Something hung or was left behind."""


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise KillTestError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in listed for child in file.read_text().split()]


def workers_of(server: DeviceServer) -> list[int]:
    """Workers of a server: the children of its template."""
    return [worker for template in children(server.pid) for worker in children(template)]


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def leftovers() -> list[str]:
    """Processes that were started under this run's runtime folder, orphans too, and its content."""
    mark = os.environ["XDG_RUNTIME_DIR"].encode()
    found = [str(path) for path in runtime_root().iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and mark in (process / "environ").read_bytes():
                found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
    return found


@contextlib.contextmanager
def load(server: DeviceServer, libraries: Path) -> Iterator[subprocess.Popen[str]]:
    environment = program_environment(server.device_socket, libraries)
    process = subprocess.Popen(
        [sys.executable, str(LOAD)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise KillTestError("the load did not start")
        yield process
    finally:
        process.kill()
        process.communicate()


def expect_error(process: subprocess.Popen[str]) -> None:
    """The load must end by itself with a CUDA error."""
    try:
        out, _ = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise KillTestError("the program hangs") from None
    if process.returncode != 3 or not out.startswith("error "):
        raise KillTestError(f"the program ended with {process.returncode} and {out!r}")


def live_channels(server: DeviceServer) -> list[dict[str, object]]:
    return [row for device in server.snapshot()["devices"] for row in device["channels"]]


def settled(server: DeviceServer, baseline: int) -> None:
    """Nothing of the killed party is left in the server."""
    wait_for(lambda: not live_channels(server), "channels released")
    wait_for(lambda: len(workers_of(server)) == 1, "one spare worker and no other")
    wait_for(lambda: descriptors(server.pid) <= baseline, f"at most {baseline} descriptors")


def idle_descriptors(server: DeviceServer, libraries: Path) -> int:
    """Descriptors of a server that has served a client and has a spare worker."""
    with load(server, libraries):
        pass
    wait_for(lambda: not live_channels(server), "channels released")
    wait_for(lambda: len(workers_of(server)) == 1, "a spare worker")
    time.sleep(0.3)
    return descriptors(server.pid)


def kill_client(rounds: int, moment: Callable[[], None]) -> None:
    libraries = cuda_libraries()
    with DeviceServer(OPTIONS, shared=False) as server:
        baseline = idle_descriptors(server, libraries)
        for _ in range(rounds):
            with load(server, libraries) as process:
                moment()
                process.kill()
            settled(server, baseline)


def kill_worker(rounds: int, moment: Callable[[], None]) -> None:
    libraries = cuda_libraries()
    with DeviceServer(OPTIONS, shared=False) as server:
        baseline = idle_descriptors(server, libraries)
        for _ in range(rounds):
            with load(server, libraries) as victim, load(server, libraries) as other:
                pids = {row["guest_pid"]: row["worker_pid"] for row in live_channels(server)}
                moment()
                os.kill(int(str(pids[victim.pid])), signal.SIGKILL)
                expect_error(victim)
                if other.poll() is not None:
                    raise KillTestError("another program ended too")
            settled(server, baseline)


def kill_server(rounds: int, moment: Callable[[], None]) -> None:
    libraries = cuda_libraries()
    for _ in range(rounds):
        with DeviceServer(OPTIONS, shared=False) as server, load(server, libraries) as process:
            workers = workers_of(server)
            moment()
            os.kill(server.pid, signal.SIGKILL)
            expect_error(process)
            wait_for(
                lambda workers=workers: not any(Path(f"/proc/{pid}").exists() for pid in workers),
                "workers of the killed server gone",
            )


@contextlib.contextmanager
def machine() -> Iterator[tuple[Vm, DeviceServer]]:
    with running_vm(OPTIONS, GuestSettings(accel="tcg"), silent) as pair:
        yield pair


def guest(vm: Vm, line: str, timeout: float = 60.0) -> str:
    result = vm.run(line, timeout=timeout)
    if result.status:
        text = (result.stdout + result.stderr).decode(errors="replace")[-500:]
        raise KillTestError(f"{line!r} ended with {result.status}: {text}")
    return result.stdout.decode()


START = f"python3 {GUEST_LOAD} > /tmp/load.out 2>&1 & echo $! > /tmp/load.pid"
READY = "for i in $(seq 400); do grep -q ready /tmp/load.out && exit 0; sleep 0.05; done; exit 1"
#: The load ends by itself with an error: status 0 when it is gone and said so.
FAILED = (
    "for i in $(seq 400); do kill -0 $(cat /tmp/load.pid) 2>/dev/null || break; sleep 0.05; done;"
    " grep -q '^error ' /tmp/load.out"
)


def start_load(vm: Vm) -> None:
    guest(vm, START)
    guest(vm, READY)


def guest_is_clean(vm: Vm, server: DeviceServer) -> None:
    """Nothing pinned, no channel, no complaint of the kernel; and the device still works."""
    guest(
        vm,
        "for i in $(seq 200); do"
        f" [ $(cat {DEVICE}/registered_bytes) = 0 ] && grep -q '^0/' {DEVICE}/channels && exit 0;"
        " sleep 0.05; done; exit 1",
    )
    wait_for(lambda: not live_channels(server), "channels released on the host")
    wait_for(lambda: len(workers_of(server)) == 1, "one spare worker and no other")


def no_complaint(vm: Vm) -> None:
    guest(vm, "! dmesg | grep -E 'BUG|WARNING|Oops|hung task|Call Trace|leak'")
    guest(vm, "python3 /opt/vgpu-stub/workloads/programs.py vector_add")


def free_kib(vm: Vm) -> int:
    guest(vm, "sync; echo 3 > /proc/sys/vm/drop_caches")
    return int(guest(vm, "awk '/MemAvailable/ {print $2}' /proc/meminfo"))


def in_one_vm(
    rounds: int, moment: Callable[[], None], strike: Callable[[Vm, DeviceServer], None]
) -> None:
    with machine() as (vm, server):
        # The kernel keeps free pages in lists of each processor, which MemAvailable does not count
        # and which grow to their limit with the first processes that end.
        for _ in range(_WARM_UP):
            start_load(vm)
            guest(vm, "kill -9 $(cat /tmp/load.pid)")
            guest_is_clean(vm, server)
        before_kib, before_fds = free_kib(vm), descriptors(server.pid)
        for _ in range(rounds):
            start_load(vm)
            moment()
            strike(vm, server)
            guest_is_clean(vm, server)
        no_complaint(vm)
        guest_is_clean(vm, server)
        lost = before_kib - free_kib(vm)
        if lost > 16 * 1024:
            raise KillTestError(f"the guest lost {lost} KiB of memory")
        wait_for(lambda: descriptors(server.pid) <= before_fds, "descriptors of the server")


def kill_guest_process(rounds: int, moment: Callable[[], None]) -> None:
    in_one_vm(rounds, moment, lambda vm, _: guest(vm, "kill -9 $(cat /tmp/load.pid)") and None)


def kill_guest_worker(rounds: int, moment: Callable[[], None]) -> None:
    def strike(vm: Vm, server: DeviceServer) -> None:
        (row,) = live_channels(server)
        os.kill(int(str(row["worker_pid"])), signal.SIGKILL)
        guest(vm, FAILED)

    in_one_vm(rounds, moment, strike)


def reset_guest_device(rounds: int, moment: Callable[[], None]) -> None:
    def strike(vm: Vm, server: DeviceServer) -> None:
        guest(vm, f"echo 1 > {DEVICE}/reset")
        guest(vm, FAILED)

    in_one_vm(rounds, moment, strike)


def reload_driver(rounds: int, moment: Callable[[], None]) -> None:
    def strike(vm: Vm, server: DeviceServer) -> None:
        guest(vm, f"echo 0000:00:05.0 > {DEVICE}/driver/unbind")
        guest(vm, FAILED)
        guest(vm, "rmmod vgpu_stub && insmod /usr/lib/vgpu-stub/modules/*vgpu_stub.ko")

    in_one_vm(rounds, moment, strike)


def kill_qemu(rounds: int, moment: Callable[[], None]) -> None:
    for _ in range(rounds):
        with machine() as (vm, server):
            start_load(vm)
            moment()
            os.kill(vm.pid, signal.SIGKILL)
            wait_for(lambda server=server: not live_channels(server), "channels released")
            with contextlib.suppress(LauncherError):
                vm.run("true", timeout=5)
                raise KillTestError("the killed machine still answers")
        nothing_left()


def kill_vm_server(rounds: int, moment: Callable[[], None]) -> None:
    """QEMU survives, or ends and is said to have ended: its own error path may abort it."""
    ended = 0
    for _ in range(rounds):
        try:
            with machine() as (vm, server):
                start_load(vm)
                moment()
                os.kill(server.pid, signal.SIGKILL)
                guest(vm, FAILED, timeout=60)
        except DeviceServerError as error:
            if "the device server ended" not in str(error):
                raise
            ended += 1
        nothing_left()
    print(f"{'':16} QEMU survived {rounds - ended} times and ended {ended} times")


def nothing_left() -> None:
    wait_for(lambda: not leftovers(), "no process, socket or folder left")


KINDS: dict[str, Callable[[int, Callable[[], None]], None]] = {
    "client": kill_client,
    "worker": kill_worker,
    "server": kill_server,
    "guest-process": kill_guest_process,
    "guest-worker": kill_guest_worker,
    "guest-reset": reset_guest_device,
    "driver-reload": reload_driver,
    "qemu": kill_qemu,
    "vm-server": kill_vm_server,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"no kind {', '.join(sorted(unknown))}; choose from {', '.join(KINDS)}")
    cuda_libraries()
    workloads()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="vgpu-kill-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        return run_kinds(options.kinds or list(KINDS), options.rounds, random.Random(options.seed))


def run_kinds(kinds: list[str], rounds: int, chance: random.Random) -> int:
    failed = False
    for kind in kinds:
        start = time.monotonic()
        try:
            KINDS[kind](rounds, lambda: time.sleep(chance.uniform(0, 0.2)))
            nothing_left()
            verdict = "clean"
        except (KillTestError, LauncherError, DeviceServerError) as error:
            verdict, failed = f"FAILED: {error}", True
        elapsed = time.monotonic() - start
        print(f"{kind:16} {rounds:4} times {elapsed:7.1f} s  {verdict}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

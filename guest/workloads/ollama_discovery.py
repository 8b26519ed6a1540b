"""Decides as Ollama does whether there is a CUDA device, with the machine's own llama.cpp.

Follows Ollama's documented discovery (v0.33): a runner folder with the backend's library, a first
pass that starts `llama-server` and stops it once it has said what it is, the list of devices, a
probe of the driver libraries, and a second pass for each device alone. Ollama itself is not run.
Needs nothing but Python and llama.cpp. Exit status 0: the decision is `library=CUDA`.

    python3 ollama_discovery.py [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Timer

BACKENDS = "usr/lib/*/ggml/backends*/libggml-cuda.so"
FIRST_PASS_S = 30.0
PROBE_S = 15.0
SECOND_PASS_S = 30.0
_DEVICE = re.compile(r"^ +(\w+): (.+) \((\d+) MiB, (\d+) MiB free\)$", re.MULTILINE)
_ARCHITECTURES = re.compile(r"CUDA : ARCHS = ([\d,]+)")
_CAPABILITY = re.compile(r"Device (\d+): .*compute capability (\d+)\.(\d+)")
#: Attributes of cuDeviceGetAttribute that the probe reads: capability, and integrated or not.
_ATTRIBUTES = (75, 76, 18)


class DiscoveryError(Exception):
    """A step failed, so there is no CUDA device for Ollama; the text says why."""


@dataclass
class Device:
    """One line of `llama-server --list-devices`."""

    identifier: str
    name: str
    total_mib: int
    free_mib: int
    capability: str = ""

    @property
    def library(self) -> str:
        """CUDA if the name or the identifier says so; memory of 0 does not count as a device."""
        named = "cuda" in (self.identifier + self.name).lower()
        return "CUDA" if named and self.total_mib > 0 else "cpu"


@dataclass
class Step:
    """What a step found, and how long it took."""

    name: str
    seconds: float
    found: str


@dataclass
class Report:
    """The whole discovery."""

    steps: list[Step] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    library: str = "cpu"
    reason: str = ""


@contextlib.contextmanager
def runner_folder() -> Iterator[Path]:
    """Ollama's layout, made of links: a folder of libraries with a `cuda_v12` in it."""
    found = sorted(Path("/").glob(BACKENDS))
    if not found:
        raise DiscoveryError(f"there is no /{BACKENDS}: no CUDA backend is installed")
    with tempfile.TemporaryDirectory(prefix="ollama-") as name:
        variant = Path(name, "lib/ollama/cuda_v12")
        variant.mkdir(parents=True)
        (variant / found[0].name).symlink_to(found[0])
        yield variant


def environment_of(variant: Path, **extra: str) -> dict[str, str]:
    """Variables of a runner: our folders before what was there, and the backend to load."""
    backends = [
        path for path in sorted(variant.glob("libggml-*")) if not re.search("base|cpu", path.name)
    ]
    paths = [str(variant.parent), str(variant), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(filter(None, paths)),
        "GGML_BACKEND_PATH": str(backends[0]),
        **extra,
    }


def server() -> str:
    """Where llama-server is."""
    found = shutil.which("llama-server")
    if not found:
        raise DiscoveryError("llama-server is not on PATH")
    return found


def start_and_stop(environment: Mapping[str, str], limit: float) -> str:
    """Start a server, read until it describes the system, and kill it (SIGKILL, as Ollama does)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--host", "127.0.0.1", "--no-webui", "--offline", "--verbose"]
    process = subprocess.Popen(
        [server(), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    deadline = time.monotonic() + limit
    lines = []
    assert process.stdout
    # A server that says nothing would hold the loop up: it is killed when its time is over.
    killer = _kill_later(process, limit)
    try:
        for line in process.stdout:
            lines.append(line)
            if "system_info:" in line:
                return "".join(lines)
    finally:
        killer.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    late = time.monotonic() >= deadline
    last = "".join(lines[-3:]).strip()
    raise DiscoveryError(
        f"llama-server did not describe the system within {limit:.0f} s"
        if late
        else f"llama-server ended with status {process.returncode}: {last}"
    )


def _kill_later(process: subprocess.Popen[str], seconds: float) -> Timer:
    timer = Timer(seconds, process.kill)
    timer.start()
    return timer


def list_devices(environment: Mapping[str, str], limit: float) -> list[Device]:
    """What `llama-server --list-devices` prints."""
    try:
        done = subprocess.run(
            [server(), "--list-devices", "--offline", "--verbose"],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DiscoveryError(f"--list-devices took longer than {limit:.0f} s") from None
    if done.returncode:
        raise DiscoveryError(
            f"--list-devices ended with status {done.returncode}: {done.stderr.strip()[-300:]}"
        )
    return [
        Device(identifier, name, int(total), int(free))
        for identifier, name, total, free in _DEVICE.findall(done.stdout)
    ]


def usable_devices(devices: list[Device], said: str) -> list[Device]:
    """The CUDA devices for whose capability the backend has code, from what a server said."""
    capabilities = {
        f"CUDA{number}": f"{major}.{minor}" for number, major, minor in _CAPABILITY.findall(said)
    }
    architectures = _ARCHITECTURES.search(said)
    compiled = architectures[1].split(",") if architectures else []
    found = []
    for device in devices:
        device.capability = capabilities.get(device.identifier, "")
        wanted = device.capability.replace(".", "") + "0"
        if device.library == "CUDA" and (not device.capability or wanted in compiled):
            found.append(device)
    return found


def probe_driver() -> str:
    """What the driver libraries say by themselves; only their absence of a device is an error."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DiscoveryError(f"libcuda.so.1 cannot be opened: {error}") from None
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    total = ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    values = [ctypes.c_int() for _ in _ATTRIBUTES]
    calls = [
        ("cuInit", (ctypes.c_uint(0),)),
        ("cuDriverGetVersion", (ctypes.byref(version),)),
        ("cuDeviceGetCount", (ctypes.byref(count),)),
        ("cuDeviceGet", (ctypes.byref(device), ctypes.c_int(0))),
        *(
            ("cuDeviceGetAttribute", (ctypes.byref(value), ctypes.c_int(attribute), device))
            for value, attribute in zip(values, _ATTRIBUTES, strict=True)
        ),
        ("cuDeviceGetName", (name, ctypes.c_int(len(name)), device)),
        ("cuDeviceTotalMem_v2", (ctypes.byref(total), device)),
    ]
    for function, arguments in calls:
        result = getattr(driver, function)(*arguments)
        if result:
            raise DiscoveryError(f"{function} failed with {result}")
    text = (
        f"{name.value.decode()}, capability {values[0].value}.{values[1].value},"
        f" {total.value >> 20} MiB, CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    )
    return f"{text}, driver {management_version()}"


def management_version() -> str:
    """The driver's version as NVML has it; Ollama does without where it cannot be had."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return "unknown (no libnvidia-ml.so.1)"
    text = ctypes.create_string_buffer(80)
    if library.nvmlInit_v2() or library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(80)):
        return "unknown"
    library.nvmlShutdown()
    return text.value.decode()


def probe_in_child() -> str:
    """`probe_driver` in a process of its own, which a driver that hangs or crashes ends alone."""
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--probe"],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DiscoveryError(f"the probe of the driver took longer than {PROBE_S:.0f} s") from None
    if done.returncode:
        raise DiscoveryError((done.stderr or f"the probe ended with {done.returncode}").strip())
    return done.stdout.strip()


def discover(report: Report) -> None:
    """Fill the report; raises DiscoveryError where Ollama would give up."""

    def step(name: str, start: float, found: str) -> None:
        report.steps.append(Step(name, round(time.monotonic() - start, 3), found))

    with runner_folder() as variant:
        start = time.monotonic()
        said = start_and_stop(environment_of(variant), FIRST_PASS_S)
        info = next(line for line in said.splitlines() if "system_info:" in line)
        step("first pass: server", start, info.split("system_info:")[1].strip()[:100])
        start = time.monotonic()
        devices = list_devices(environment_of(variant), FIRST_PASS_S)
        report.devices = usable_devices(devices, said)
        step("first pass: devices", start, ", ".join(d.identifier for d in devices) or "none")
        if not report.devices:
            raise DiscoveryError("no CUDA device is listed that the backend has code for")
        start = time.monotonic()
        step("driver probe", start, probe_in_child())
        start = time.monotonic()
        report.devices = second_pass(variant, report.devices)
        step("second pass", start, f"{len(report.devices)} fully initialised")
    if not report.devices:
        raise DiscoveryError("no device was fully initialised when it was the only visible one")
    report.library = "CUDA"


def second_pass(variant: Path, devices: list[Device]) -> list[Device]:
    """The devices that are still there when each is the only visible one; all at once."""

    def alone(number: int) -> bool:
        environment = environment_of(variant, CUDA_VISIBLE_DEVICES=str(number), GGML_CUDA_INIT="1")
        start_and_stop(environment, SECOND_PASS_S)
        found = list_devices(environment, SECOND_PASS_S)
        return [device.library for device in found].count("CUDA") == 1

    with ThreadPoolExecutor() as pool:
        kept = list(pool.map(alone, range(len(devices))))
    return [device for device, keep in zip(devices, kept, strict=True) if keep]


def main() -> int:
    """Run the discovery and say what it decided."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    report = Report()
    try:
        if arguments.probe:
            print(probe_driver())
            return 0
        discover(report)
    except DiscoveryError as error:
        if arguments.probe:
            print(error, file=sys.stderr)
            return 1
        report.reason = str(error)
    if arguments.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        for done in report.steps:
            print(f"{done.name:20} {done.seconds:7.2f} s  {done.found}")
        for device in report.devices if report.library == "CUDA" else []:
            print(
                f"inference compute     library=CUDA compute={device.capability}"
                f" name={device.identifier} description={device.name!r}"
                f" total={device.total_mib} MiB available={device.free_mib} MiB"
            )
        if report.reason:
            print(f"inference compute     library=cpu: {report.reason}")
    return 0 if report.library == "CUDA" else 1


if __name__ == "__main__":
    sys.exit(main())

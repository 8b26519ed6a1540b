"""Runs in the guest: what programs and administrators do while a device has faults.

Its argument is the device's PCI address. It reads requests from a FIFO, one JSON object a line, and
forks a child for each, so that the interpreter and numpy start once. A child that waits writes
`<id>.ready` and goes on once `<id>.go` is there; its answer is `<id>.json`.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from ctypes import byref, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

sys.path.insert(0, "/opt/vgpu-stub/workloads")

import numpy as np
from cuda_driver import CudaError, Driver

FOLDER = Path("/tmp/faults")
ADDRESS = sys.argv[1]
DEVICE = Path("/sys/bus/pci/devices") / ADDRESS
DRIVER = Path("/sys/bus/pci/drivers/vgpu_stub")
NODE = Path("/dev/vgpu0")
PTX = Path("/opt/vgpu-stub/workloads/build/vector_add.ptx")
COUNT = 4096
_A, _B = np.random.default_rng(1).standard_normal((2, COUNT)).astype(np.float32)

Answer = dict[str, Any]


class VectorAdd:
    """A program that adds vectors, and says whether the sum is right."""

    def __init__(self) -> None:
        driver = Driver()
        self._kernel = driver.load(PTX).kernel("vector_add")
        self._driver = driver
        self._arguments = driver.upload(_A), driver.upload(_B), driver.zeros(4 * COUNT)

    def upload(self) -> None:
        """Copy the operands to the device once more, from registered memory."""
        for buffer, array in zip(self._arguments[:2], (_A, _B), strict=True):
            buffer.write(array)

    def run(self) -> bool:
        total = self._arguments[2]
        total.clear()
        self._kernel((COUNT // 256, 1, 1), (256, 1, 1), *self._arguments, c_uint(COUNT))
        return bool(np.array_equal(total.download(COUNT, np.float32), _A + _B))


def cuda(work: Callable[[], bool]) -> Answer:
    """What became of CUDA calls: "right", "wrong", or the first that failed, with its CUresult."""
    try:
        return {"outcome": "right" if work() else "wrong"}
    except CudaError as error:
        return {"outcome": error.result, "call": error.function}


def pause(number: int) -> None:
    """Say that the fault may come, and wait until it is there."""
    (FOLDER / f"{number}.ready").touch()
    while not (FOLDER / f"{number}.go").exists():
        time.sleep(0.01)


# -- what a program does --------------------------------------------------------------------------


def add(number: int, request: Answer) -> Answer:
    """A program from start to end."""
    return cuda(lambda: VectorAdd().run())


def running_add(number: int, request: Answer) -> Answer:
    """A program that is there when the fault comes, and goes on for a while.

    It naps between its calls so that its worker sleeps, and needs doorbells and interrupts.
    With `upload` it copies its operands again.
    """

    def work() -> bool:
        program = VectorAdd()
        if not program.run():
            return False
        pause(number)
        end = time.monotonic() + float(request.get("seconds", 0))
        if request.get("upload"):
            program.upload()
        right = program.run()
        while right and time.monotonic() < end:
            time.sleep(0.05)
            right = program.run()
        return right

    return cuda(work)


def nvml(number: int, request: Answer) -> Answer:
    """What NVML says: by name the value, or the negative error."""
    library = ctypes.CDLL("libnvidia-ml.so.1")
    status = library.nvmlInit_v2()
    if status:
        return {"outcome": status}
    handle = c_void_p()
    library.nvmlDeviceGetHandleByIndex_v2(0, byref(handle))

    def value(function: str, *arguments: int) -> int:
        found = c_ulonglong()
        failed = getattr(library, function)(handle, *map(c_uint, arguments), byref(found))
        return -failed if failed else found.value

    return {
        "outcome": library.nvmlDeviceGetMemoryInfo(handle, (c_ulonglong * 3)()),
        "ecc_corrected": value("nvmlDeviceGetTotalEccErrors", 0, 0),
        "ecc_uncorrected": value("nvmlDeviceGetTotalEccErrors", 1, 0),
        "ecc_memory_corrected": value("nvmlDeviceGetMemoryErrorCounter", 0, 1, 2),
        "ecc_memory_uncorrected": value("nvmlDeviceGetMemoryErrorCounter", 1, 1, 2),
        "temperature": value("nvmlDeviceGetTemperature", 0),
        "sm_mhz": value("nvmlDeviceGetClockInfo", 1),
        "reasons": value("nvmlDeviceGetCurrentClocksEventReasons"),
    }


class EventData(ctypes.Structure):
    """nvmlEventData_t."""

    _fields_ = (
        ("device", c_void_p),
        ("type", c_ulonglong),
        ("data", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


def events(number: int, request: Answer) -> Answer:
    """A monitor that waits for events; what it gets, and what NVML says then."""
    library = ctypes.CDLL("libnvidia-ml.so.1")
    handle, group, types = c_void_p(), c_void_p(), c_ulonglong()
    for status in (
        library.nvmlInit_v2(),
        library.nvmlDeviceGetHandleByIndex_v2(0, byref(handle)),
        library.nvmlEventSetCreate(byref(group)),
        library.nvmlDeviceGetSupportedEventTypes(handle, byref(types)),
        library.nvmlDeviceRegisterEvents(handle, types, group),
    ):
        if status:
            return {"outcome": status}
    pause(number)
    seen = []
    for wanted in range(request["count"] + 1):
        data = EventData()
        timeout_ms = c_uint(5000 if wanted < request["count"] else 100)
        status = library.nvmlEventSetWait_v2(group, byref(data), timeout_ms)
        seen.append([data.type, data.data] if status == 0 else status)
    return {**nvml(number, request), "events": seen}


# -- what an administrator does -------------------------------------------------------------------


def reset(number: int, request: Answer) -> Answer:
    """Reset the device through sysfs."""
    (DEVICE / "reset").write_text("1")
    return {"outcome": device_state()}


def rebind(number: int, request: Answer) -> Answer:
    """Take the driver off the device and put it back."""
    if (DEVICE / "driver").exists():
        (DRIVER / "unbind").write_text(ADDRESS)
    try:
        (DRIVER / "bind").write_text(ADDRESS)
    except OSError as error:
        return {"outcome": error.errno}
    return {"outcome": device_state()}


def rescan(number: int, request: Answer) -> Answer:
    """Take the device out of the kernel's view, and look for it anew."""
    if DEVICE.exists():
        (DEVICE / "remove").write_text("1")
    Path("/sys/bus/pci/rescan").write_text("1")
    return {"outcome": device_state()}


def device_state() -> str:
    try:
        return (DEVICE / "state").read_text().strip()
    except OSError:
        return "unbound" if DEVICE.exists() else "absent"


SCENARIOS = {
    function.__name__: function
    for function in (add, running_add, nvml, events, reset, rebind, rescan)
}


# -- the server -----------------------------------------------------------------------------------


def serve_one(request: Answer) -> None:
    """Carry out a request in this process, which is the child's."""
    number = request["id"]
    os.environ.update(request.get("environment", {}))
    start = time.monotonic()
    try:
        answer = SCENARIOS[request["scenario"]](number, request)
    except Exception:
        answer = {"outcome": "crashed", "traceback": traceback.format_exc()}
    answer |= {"seconds": round(time.monotonic() - start, 2), "state": device_state()}
    partial = FOLDER / f"{number}.partial"
    partial.write_text(json.dumps(answer))
    partial.rename(FOLDER / f"{number}.json")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    fifo = FOLDER / "requests"
    os.mkfifo(fifo)
    (FOLDER / "serving").touch()
    while True:
        with fifo.open() as requests:
            for line in requests:
                if os.fork() == 0:
                    serve_one(json.loads(line))
                    os._exit(0)
                reap()


def reap() -> None:
    """Collect children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()

"""Faults of the device itself: interrupts, doorbells, registers, presence, resets, health."""

from __future__ import annotations

from typing import Final

from vgpu_stub.faults.kind import Kind, Parameter, delay
from vgpu_stub.faults.points import CHANNEL, COMMAND, DEVICE, REGISTER, Point

_GONE: Final = (
    "CUDA_ERROR_DEVICE_UNAVAILABLE from programs that run, CUDA_ERROR_NO_DEVICE from cuInit, "
    "NVML_ERROR_GPU_IS_LOST from NVML; the driver says that the device is gone"
)
_DEAD: Final = (
    "the driver gives the device up: state dead or gone, CUDA_ERROR_NO_DEVICE from cuInit"
)

DEVICE_KINDS: Final = (
    Kind(
        "msix-lost",
        Point.INTERRUPT,
        "An MSI-X vector that is due is not signalled.",
        "calls that wait take up to half a second longer; admin commands up to a second",
        selectors=CHANNEL,
    ),
    Kind(
        "msix-late",
        Point.INTERRUPT,
        "An MSI-X vector is signalled later than it is due.",
        "calls that wait take up to that much longer",
        (delay(200, "how much later, in milliseconds"),),
        selectors=CHANNEL,
    ),
    Kind(
        "msix-duplicate",
        Point.INTERRUPT,
        "An MSI-X vector is signalled again right after it was.",
        "nothing: interrupts are hints",
        (Parameter("count", 1, "how often more", least=1),),
        selectors=CHANNEL,
    ),
    Kind(
        "msix-spurious",
        Point.STORM,
        "An MSI-X vector is signalled again and again for nothing: a storm.",
        "nothing but processor time that is lost",
        (
            Parameter("vector", 1, "which; 0 is the admin vector"),
            Parameter("rate_hz", 1000.0, "signals in a second", least=0.1),
        ),
        selectors=DEVICE,
        times=0,
    ),
    Kind(
        "doorbell-lost",
        Point.DOORBELL,
        "A doorbell does not wake anybody.",
        "the call takes up to a second longer: workers look themselves, the driver rings again",
        selectors=CHANNEL,
    ),
    Kind(
        "doorbell-late",
        Point.DOORBELL,
        "A doorbell wakes the worker later.",
        "the call takes up to that much longer",
        (delay(200, "how much later, in milliseconds"),),
        selectors=CHANNEL,
    ),
    Kind(
        "device-lost",
        Point.LINK,
        "The device has fallen off the bus: registers and config space read all ones, writes and "
        "interrupts are lost. Once the rule is cleared it goes on where it was.",
        _GONE,
        selectors=DEVICE,
    ),
    Kind(
        "link-down",
        Point.LINK,
        "The link is down: as device-lost, and the device's channels end. It comes up after a "
        "time, or when the rule is cleared, as after power-on.",
        _GONE,
        (Parameter("down_ms", 1000.0, "for how long, in milliseconds; 0 is until cleared"),),
        selectors=DEVICE,
    ),
    Kind(
        "surprise-removal",
        Point.LINK,
        "The device is taken out: as link-down. Clearing the rule plugs it in again, as after "
        "power-on; the guest finds it by scanning the bus.",
        _GONE,
        selectors=DEVICE,
    ),
    Kind(
        "config-ones",
        Point.CONFIG,
        "Config space reads all ones; registers work.",
        "nothing while all goes well; a driver that probes finds no device",
        selectors=DEVICE,
        times=0,
    ),
    Kind(
        "register-ones",
        Point.REGISTER,
        "Registers read all ones; config space works.",
        "the driver stops the device within a second: CUDA_ERROR_DEVICE_UNAVAILABLE",
        selectors=REGISTER,
        times=0,
    ),
    Kind(
        "register-stuck",
        Point.REGISTER,
        "A register (selector register) reads the same value always; without that selector all do.",
        "what the value means; STATUS at 0: the driver resets the device, which does not help",
        (Parameter("value", 0, "what it reads"),),
        selectors=REGISTER,
        times=0,
    ),
    Kind(
        "magic-wrong",
        Point.REGISTER,
        "MAGIC does not read what makes a VGPU-STUB.",
        "the driver does not bind, and cannot reset: 'magic is ...: no VGPU-STUB device'",
        (Parameter("value", 0xDEAD_BEEF, "what it reads"),),
        selectors=DEVICE,
        times=0,
    ),
    Kind(
        "version-wrong",
        Point.REGISTER,
        "ABI_VERSION reads a version that the driver does not know.",
        "the driver does not bind: 'device has ABI ..., driver needs ...'",
        (Parameter("value", 0x0063_0000, "what it reads: major in the upper half"),),
        selectors=DEVICE,
        times=0,
    ),
    Kind(
        "enable-never",
        Point.ENABLE,
        "STATUS.ENABLED is never set.",
        f"after five seconds {_DEAD}",
        selectors=DEVICE,
        times=0,
    ),
    Kind(
        "enable-late",
        Point.ENABLE,
        "STATUS.ENABLED is set late: a device that starts slowly.",
        "binding the driver takes that much longer, up to its five seconds",
        (delay(1000, "how much later, in milliseconds"),),
        selectors=DEVICE,
    ),
    Kind(
        "reset-failed",
        Point.RESET,
        "A reset does nothing; DEVICE_RESET of vfio-user is answered with EIO.",
        f"{_DEAD}; memory that the device may still use stays pinned",
        selectors=DEVICE,
        times=0,
    ),
    Kind(
        "reset-incomplete",
        Point.RESET,
        "A reset is done, but STATUS.READY stays clear.",
        f"after two seconds {_DEAD}",
        selectors=DEVICE,
        times=0,
    ),
    Kind(
        "reset-late",
        Point.RESET,
        "A reset is done, and STATUS.READY set late.",
        "a reset takes that much longer, up to the driver's two seconds",
        (delay(500, "how much later, in milliseconds"),),
        selectors=DEVICE,
    ),
    Kind(
        "admin-error",
        Point.ADMIN,
        "An admin command is refused.",
        "the errno from the system call, as an error of the CUDA function that made it",
        (Parameter("errno", 5, "Linux errno of the completion", least=1),),
        selectors=COMMAND,
    ),
    Kind(
        "admin-lost",
        Point.ADMIN,
        "An admin command is carried out and never answered.",
        "the driver waits for its timeout (admin_timeout_ms and others), then resets the device",
        selectors=COMMAND,
    ),
    Kind(
        "admin-late",
        Point.ADMIN,
        "An admin command is answered late.",
        "the system call takes that much longer",
        (delay(500, "how much later, in milliseconds"),),
        selectors=COMMAND,
    ),
    Kind(
        "ecc-single-bit",
        Point.STATUS,
        "ECC has corrected single-bit errors; the counters stay until the rule is cleared.",
        "NVML: nvmlDeviceGetTotalEccErrors, nvmlDeviceGetMemoryErrorCounter, an event",
        (
            Parameter("count", 1, "errors", least=1),
            Parameter("location", "device-memory", "where", ("device-memory", "sram")),
        ),
        selectors=DEVICE,
    ),
    Kind(
        "ecc-double-bit",
        Point.STATUS,
        "ECC has found double-bit errors that it cannot correct.",
        "NVML: counters as of ecc-single-bit, an event, and Xid 48",
        (
            Parameter("count", 1, "errors", least=1),
            Parameter("location", "device-memory", "where", ("device-memory", "sram")),
        ),
        selectors=DEVICE,
    ),
    Kind(
        "xid",
        Point.STATUS,
        "The GPU reports an Xid error.",
        "NVML: nvmlEventTypeXidCriticalError with its number",
        (Parameter("code", 79, "number of the Xid", least=1),),
        selectors=DEVICE,
    ),
    Kind(
        "clocks-throttled",
        Point.STATUS,
        "Clocks are lowered.",
        "NVML: nvmlDeviceGetClockInfo, nvmlDeviceGetCurrentClocksEventReasons, an event",
        (
            Parameter("mhz", 345, "graphics and SM clock", least=1),
            Parameter("max_mhz", 1980, "the highest, on a GPU that has none", least=1),
            Parameter(
                "reason",
                "hw-thermal",
                "why",
                ("sw-power-cap", "hw-slowdown", "sw-thermal", "hw-thermal", "hw-power-brake"),
            ),
        ),
        selectors=DEVICE,
        times=0,
    ),
    Kind(
        "temperature-high",
        Point.STATUS,
        "The GPU is hot.",
        "NVML: nvmlDeviceGetTemperature and its thresholds",
        (
            Parameter("celsius", 96, "temperature"),
            Parameter("slowdown_celsius", 90, "where clocks are lowered, on a GPU that has none"),
            Parameter("shutdown_celsius", 100, "where it turns off, on a GPU that has none"),
        ),
        selectors=DEVICE,
        times=0,
    ),
)

"""What a guest must make of every fault: one table, a fault kind and what programs see of it.

A case injects its rule, has a program do something, and says what becomes of it, in what time. Then
the rule is cleared, the device recovered where that needs an administrator, and a vector addition
must be right again.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: CUresult
DEVICE_UNAVAILABLE: Final = 46
NO_DEVICE: Final = 100
ILLEGAL_ADDRESS: Final = 700
OUT_OF_MEMORY: Final = 2
UNKNOWN: Final = 999
LAUNCH_TIMEOUT: Final = 702
#: nvmlReturn_t, and negative where a value is asked for
NVML_NOT_SUPPORTED: Final = -3
GPU_IS_LOST: Final = 15

#: How soon libcuda gives up on a channel that does not answer, in this test.
_SOON: Final = {"VGPU_STUB_WATCHDOG": "1"}


@dataclass(frozen=True)
class FaultCase:
    """One fault, one program.

    Attributes:
        rule: The rule, as for `--fault`.
        scenario: What the program does: a function of `fault_guest`.
        outcome: What becomes of it: "right", a CUresult, an nvmlReturn_t, or the driver's state.
        running: The program is there already when the fault comes.
        request: More that the program is told.
        answer: What else its answer says, by name.
        log: Text that the kernel must have written by the end of the case.
        then: What programs get while the fault lasts, after the scenario; None for no matter.
        recovery: What an administrator must do once the fault is over, before it is right again.
        limit_s: In what time the program must end.
        parameters: Of the driver, for this case.
    """

    rule: str
    outcome: object
    scenario: str = "running_add"
    running: bool = True
    request: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""
    then: object = None
    recovery: str = ""
    limit_s: float = 20.0
    parameters: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The fault."""
        return self.rule.partition(":")[0]


def _harmless(rule: str, **request: Any) -> FaultCase:
    """A fault that a running program survives."""
    return FaultCase(rule, "right", request=request)


def _fatal(rule: str, log: str, recovery: str, **request: Any) -> FaultCase:
    """A fault that takes the device away from a running program."""
    return FaultCase(
        rule,
        DEVICE_UNAVAILABLE,
        request={"seconds": 8, **request},
        log=log,
        then=NO_DEVICE,
        recovery=recovery,
    )


def _at_open(rule: str, outcome: object, **more: Any) -> FaultCase:
    """A fault that is there before the program starts."""
    return FaultCase(rule, outcome, "add", running=False, **more)


def _administered(rule: str, scenario: str, outcome: object, **more: Any) -> FaultCase:
    """A fault that an administrator meets."""
    return FaultCase(rule, outcome, scenario, running=False, **more)


def _watched(rule: str, events: list[list[int]], **answer: int) -> FaultCase:
    """A fault that a monitor sees."""
    return FaultCase(
        rule,
        0,
        "events",
        request={"count": len(events)},
        answer={"events": [*events, 10], **answer},
    )


CASES: Final = (
    # Interrupts and doorbells are hints.
    _harmless("msix-lost:times=0", seconds=1),
    _harmless("msix-late:delay_ms=150,times=3"),
    _harmless("msix-duplicate:count=5,times=0"),
    _harmless("msix-spurious:vector=1,rate_hz=2000", seconds=1),
    _harmless("msix-spurious:vector=0,rate_hz=500", seconds=1),
    _harmless("doorbell-lost"),
    _at_open("doorbell-lost:channel=0", "right"),
    _harmless("doorbell-late:delay_ms=150"),
    # The device is gone.
    _fatal("device-lost", "the device is gone", "reset"),
    _fatal("link-down:down_ms=1500", "the device is gone", "rescan"),
    _fatal("surprise-removal", "the device is gone", "rescan"),
    _administered("surprise-removal", "rescan", "absent", then=NO_DEVICE, recovery="rescan"),
    _administered(
        "device-lost",
        "nvml",
        GPU_IS_LOST,
        log="the device is gone",
        recovery="reset",
    ),
    # Registers.
    _administered("config-ones", "rebind", errno.EINVAL, then=NO_DEVICE, recovery="rescan"),
    _fatal("register-ones", "registers read all ones", "reset"),
    _fatal("register-stuck:register=STATUS,value=0", "disabled or reset by somebody", "reset"),
    _administered(
        "magic-wrong",
        "rebind",
        errno.ENODEV,
        log="magic is 0xdeadbeef",
        then=NO_DEVICE,
        recovery="rebind",
    ),
    _administered(
        "version-wrong",
        "rebind",
        errno.EPROTONOSUPPORT,
        log="device has ABI 99.0",
        then=NO_DEVICE,
        recovery="rebind",
    ),
    # Enable and reset.
    _administered(
        "enable-never",
        "reset",
        "dead",
        log="device does not start",
        then=NO_DEVICE,
        recovery="reset",
    ),
    _administered("enable-late:delay_ms=300", "rebind", "live"),
    _administered(
        "reset-failed", "reset", "dead", log="reset failed: -110", then=NO_DEVICE, recovery="reset"
    ),
    _administered(
        "reset-incomplete",
        "reset",
        "dead",
        log="reset failed: -110",
        then=NO_DEVICE,
        recovery="reset",
    ),
    _administered("reset-late:delay_ms=300", "reset", "live"),
    # Admin commands.
    _at_open(f"admin-error:opcode=CHANNEL_CREATE,errno={errno.EBUSY}", DEVICE_UNAVAILABLE),
    _at_open(
        "admin-lost:opcode=CHANNEL_CREATE",
        NO_DEVICE,
        log="no answer to admin command 0x100",
        parameters={"create_timeout_ms": 1500},
    ),
    _at_open("admin-late:delay_ms=100,times=3", "right"),
    _administered(
        "admin-lost:opcode=DEVICE_STATUS",
        "nvml",
        GPU_IS_LOST,
        parameters={"admin_timeout_ms": 1500},
    ),
    # Health.
    _watched(
        "ecc-single-bit:count=3",
        [[1, 0]],
        ecc_corrected=3,
        ecc_memory_corrected=3,
        ecc_uncorrected=0,
    ),
    _watched(
        "ecc-double-bit:count=2",
        [[2, 0], [8, 48]],
        ecc_corrected=0,
        ecc_uncorrected=2,
        ecc_memory_uncorrected=2,
    ),
    _watched("xid:code=79", [[8, 79]], temperature=NVML_NOT_SUPPORTED),
    _watched("clocks-throttled:mhz=300,reason=hw-thermal", [[16, 0]], sm_mhz=300, reasons=0x40),
    _administered("temperature-high:celsius=97", "nvml", 0, answer={"temperature": 97}),
    # Completions.
    _harmless("completion-late:delay_ms=100,times=3"),
    _harmless("completion-duplicate:times=0"),
    _harmless("completion-reordered"),
    FaultCase("completion-lost", LAUNCH_TIMEOUT, request={"environment": _SOON}),
    FaultCase("completion-wrong-sequence", LAUNCH_TIMEOUT, request={"environment": _SOON}),
    FaultCase("completion-torn", LAUNCH_TIMEOUT, request={"environment": _SOON}),
    # Commands.
    FaultCase("command-error:opcode=LAUNCH_KERNEL,error=ILLEGAL_STATE", 401),
    FaultCase("command-error:opcode=LAUNCH_KERNEL,error=ASSERT,mode=async", 710),
    FaultCase("launch-timeout", LAUNCH_TIMEOUT),
    FaultCase("illegal-address", ILLEGAL_ADDRESS),
    _at_open("out-of-memory", OUT_OF_MEMORY),
    _harmless("ring-slow:delay_ms=5"),
    FaultCase("ring-stuck", LAUNCH_TIMEOUT, request={"environment": _SOON}),
    # Copies.
    FaultCase("dma-read-error", UNKNOWN, request={"upload": True}),
    FaultCase("dma-write-error", UNKNOWN),
    FaultCase("dma-short:opcode=cuMemcpyDtoH", UNKNOWN),
    FaultCase("data-corrupted:bits=8", "wrong"),
    # Workers.
    FaultCase("worker-crash", DEVICE_UNAVAILABLE, request={"seconds": 3}),
    FaultCase("worker-hang", LAUNCH_TIMEOUT, request={"seconds": 3}),
    _at_open("worker-start-failure", DEVICE_UNAVAILABLE),
    _at_open("worker-slow-start:delay_ms=500", "right"),
)

#: Enough to see that another kernel's driver does as the default one's.
SHORT: Final = (
    "msix-lost:times=0",
    "doorbell-lost:channel=0",
    "device-lost",
    "surprise-removal",
    "admin-lost:opcode=CHANNEL_CREATE",
    "ecc-double-bit:count=2",
)

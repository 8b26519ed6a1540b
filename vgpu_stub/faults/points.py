"""Where a fault can happen, and by what a rule can select there."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Point(Enum):
    """A place on a command's way, or in the device's life, where faults are injected."""

    EXECUTE = "execute"  #: a worker is about to carry out a command
    COMPLETE = "complete"  #: a worker is about to write a completion
    DATA = "data"  #: a worker reads or writes registered guest memory for a command
    INTERRUPT = "interrupt"  #: an MSI-X vector is about to be signalled
    DOORBELL = "doorbell"  #: the guest rang a doorbell
    ADMIN = "admin"  #: the device is about to carry out an admin command
    REGISTER = "register"  #: the guest accesses a register of BAR0
    CONFIG = "config"  #: the guest accesses config space
    RESET = "reset"  #: a reset was asked for
    ENABLE = "enable"  #: the driver enables the device
    STATUS = "status"  #: the device's sensors are asked
    WORKER = "worker"  #: a worker is taken for a new channel
    LINK = "link"  #: the device's presence on the bus
    STORM = "storm"  #: it is time for another interrupt that nobody is due


#: Points that a worker passes itself: it gets the rules for them, and counts by channel.
WORKER_POINTS: Final = frozenset((Point.EXECUTE, Point.COMPLETE, Point.DATA, Point.INTERRUPT))

#: Selectors that say how often and when; every kind has them.
TIMING: Final = ("nth", "every", "probability", "seed", "after_s", "times")
#: Selectors of kinds that happen to a device.
DEVICE: Final = ("device", *TIMING)
#: Selectors of kinds that happen to a register.
REGISTER: Final = ("register", *DEVICE)
#: Selectors of kinds that happen to a channel.
CHANNEL: Final = ("channel", "process", *DEVICE)
#: Selectors of kinds that happen to a command.
COMMAND: Final = ("opcode", *CHANNEL)
#: Selectors of kinds that happen to data on its way.
DATA: Final = ("direction", *COMMAND)
#: Selectors of kinds that happen to allocations.
ALLOCATION: Final = ("after_bytes", *COMMAND)

#: Values of `direction`: which way data goes between guest memory and the device.
TO_DEVICE: Final = "to_device"
TO_HOST: Final = "to_host"

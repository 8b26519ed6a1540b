"""The errors of the launcher.

Every failure that a user can meet is one of these; the message says what was expected, what was
found and what to do about it. `LauncherError` is the base for callers that only want to report.
"""

from __future__ import annotations

from collections.abc import Sequence


class LauncherError(Exception):
    """Base of everything that `vgpu_qemu` raises on purpose."""


class PackageError(LauncherError):
    """Debian packages could not be found, fetched, verified or unpacked."""


class QemuNotFoundError(LauncherError):
    """No QEMU with the `vfio-user-pci` device was found and none could be fetched."""


class AcceleratorError(LauncherError):
    """The accelerator that was asked for does not run a guest on this machine."""


class KernelError(LauncherError):
    """A guest kernel is unknown, or a local kernel file cannot be used."""


class ImageError(LauncherError):
    """A part of the guest image could not be built."""


class GuestError(LauncherError):
    """The guest agent refused a request or broke off the conversation."""


class VmError(LauncherError):
    """The virtual machine did not start, or ended when nobody asked it to.

    Attributes:
        console: The last lines of the guest console, oldest first.
    """

    def __init__(self, message: str, console: Sequence[str] = ()) -> None:
        self.console = tuple(console)
        if self.console:
            message += "\nLast lines of the guest console:\n" + "\n".join(
                f"  {line}" for line in self.console
            )
        super().__init__(message)


class VmTimeoutError(VmError):
    """The guest did not answer, or a command did not end, within its time."""

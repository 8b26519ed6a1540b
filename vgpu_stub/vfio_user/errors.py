"""Errors of the vfio-user package.

    VfioUserError             root; carries the errno that goes, or came, over the wire
    +-- ProtocolError         a message breaks the specification (EINVAL unless said otherwise)
    +-- RemoteError           the peer answered a request with an error reply
    +-- DisconnectedError     the connection ended while somebody needed it (ECONNRESET)
    +-- ReplyTimeoutError     the peer did not answer in time (ETIMEDOUT)
    +-- DmaFaultError         an I/O virtual address is in no suitable window (EFAULT)

A device raises `VfioUserError(errno.X, "why")` from a handler to refuse a request with that errno;
any other exception is a defect of the device, is logged with its traceback and answered with EIO.
"""

from __future__ import annotations

import errno
import os


class VfioUserError(Exception):
    """A vfio-user operation failed; `errno` says how, in the terms of the protocol."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.errno = code
        self.reason = reason or os.strerror(code)
        super().__init__(f"{self.reason} ({errno.errorcode.get(code, code)})")


class ProtocolError(VfioUserError):
    """A message is malformed, out of place, or names something that does not exist."""

    def __init__(self, reason: str, code: int = errno.EINVAL) -> None:
        super().__init__(code, reason)


class RemoteError(VfioUserError):
    """The peer refused a request; `errno` is the one in its reply (0: the peer gave none)."""


class DisconnectedError(VfioUserError):
    """The peer is gone, or the connection was closed on this side."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ECONNRESET, reason)


class ReplyTimeoutError(VfioUserError):
    """A request had no reply within its time limit."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ETIMEDOUT, reason)


class DmaFaultError(VfioUserError):
    """A range of I/O virtual addresses is not mapped, not shared, or not permitted.

    Attributes:
        iova: First I/O virtual address of the range, in bytes.
        length: Length of the range, in bytes.
    """

    def __init__(self, iova: int, length: int, reason: str) -> None:
        self.iova = iova
        self.length = length
        super().__init__(errno.EFAULT, f"DMA at {iova:#x}+{length:#x}: {reason}")

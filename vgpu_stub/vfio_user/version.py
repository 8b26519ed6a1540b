"""The VERSION message, by which client and server agree on a protocol version and capabilities.

It is the one message that carries text: JSON, which comes from the other process and is taken for
nothing until it has been checked.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Self, cast

from .constants import DEFAULT_MAX_DATA_XFER_BYTES, DEFAULT_MAX_MSG_FDS
from .errors import ProtocolError

_VERSION = struct.Struct("<HH")


@dataclass(frozen=True, slots=True)
class Version:
    """VERSION request and reply: protocol version and the sender's capabilities."""

    major: int
    minor: int
    #: The "capabilities" object; None when the message carries no version data at all.
    capabilities: dict[str, object] | None = None

    def pack(self) -> bytes:
        """Return the payload; the JSON is compact and ends in the NUL that QEMU insists on."""
        head = _VERSION.pack(self.major, self.minor)
        if self.capabilities is None:
            return head
        document = {"capabilities": self.capabilities}
        return head + json.dumps(document, separators=(",", ":")).encode() + b"\0"

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read a VERSION payload.

        Raises:
            ProtocolError: The payload is short, or its version data is not NUL-terminated JSON of
                the shape that the specification gives.
        """
        if len(body) < _VERSION.size:
            raise ProtocolError(f"VERSION: expected {_VERSION.size} bytes, got {len(body)}")
        major, minor = _VERSION.unpack_from(body)
        data = body[_VERSION.size :]
        return cls(major, minor, _parse_version_data(data) if data else None)

    def limit(self, name: str, default: int) -> int:
        """Return a capability that is a non-negative number, or `default` when it is not given.

        Raises:
            ProtocolError: The capability is there and is no non-negative integer.
        """
        value = (self.capabilities or {}).get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ProtocolError(f"VERSION: {name} must be a non-negative number, got {value!r:.40}")
        return value

    @property
    def max_msg_fds(self) -> int:
        """Number of descriptors that the sender accepts in one message."""
        return self.limit("max_msg_fds", DEFAULT_MAX_MSG_FDS)

    @property
    def max_data_xfer_bytes(self) -> int:
        """Largest `count` of a data transfer that the sender accepts, in bytes."""
        return self.limit("max_data_xfer_size", DEFAULT_MAX_DATA_XFER_BYTES)


def _parse_version_data(data: bytes) -> dict[str, object]:
    if not data.endswith(b"\0"):
        raise ProtocolError("VERSION: version data does not end in NUL")
    try:
        document = json.loads(data[:-1].decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"VERSION: version data is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ProtocolError("VERSION: version data is not a JSON object")
    capabilities = document.get("capabilities", {})
    if not isinstance(capabilities, dict):
        raise ProtocolError("VERSION: capabilities is not a JSON object")
    return cast(dict[str, object], capabilities)

"""The identity of a device that stands for a physical GPU."""

from __future__ import annotations

import uuid


def device_uuid(physical: bytes) -> bytes:
    """UUID of the device for a GPU with this UUID, 16 bytes each: another one, and always the same.

    A program that sees both, natively and through VGPU-STUB, must be able to tell them apart.
    """
    return uuid.uuid5(uuid.NAMESPACE_OID, "VGPU-STUB " + physical.hex()).bytes

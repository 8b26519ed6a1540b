"""Reads the parts that a guest wants linked (MODULE_LINK)."""

from __future__ import annotations

from vgpu_host.executors.base import CudaError, LinkPart
from vgpu_stub.abi import generated as abi

_INVALID_VALUE = 1


def read_link_parts(data: bytes) -> list[LinkPart]:
    """Read parts, each a `vgpu_link_part` with its name and image behind it.

    Raises:
        CudaError: A part reaches beyond the end, or is of a kind that does not exist.
    """
    parts = []
    place = 0
    while place < len(data):
        if place + abi.LINK_PART.size > len(data):
            raise CudaError(_INVALID_VALUE, f"the part at byte {place} is cut off")
        kind, name_bytes, size = abi.LINK_PART.unpack_from(data, place)
        start = place + abi.LINK_PART.size
        image = start + name_bytes
        if image + size > len(data) or kind not in (abi.IMAGE_PTX, abi.IMAGE_CUBIN):
            raise CudaError(
                _INVALID_VALUE,
                f"the part at byte {place}, of kind {kind} and {size} bytes, is not valid",
            )
        name = data[start:image].decode(errors="replace")
        parts.append(LinkPart(name, kind == abi.IMAGE_CUBIN, data[image : image + size]))
        place = -(-(image + size) // 8) * 8
    return parts

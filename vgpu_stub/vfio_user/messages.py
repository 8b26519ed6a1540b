"""Messages of the vfio-user protocol as values: `pack()` gives bytes, `unpack()` takes them apart.

Nothing here touches a socket or knows what a message does.
`unpack` raises `ProtocolError` for any bytes that the specification does not allow.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from .constants import (
    HEADER_BYTES,
    REGION_CAP_SPARSE_MMAP,
    FeatureFlag,
    HeaderFlag,
    IrqSetFlag,
)
from .errors import ProtocolError

_HEADER = struct.Struct("<HHIII")
_DMA_MAP = struct.Struct("<IIQQQ")
_DMA_UNMAP = struct.Struct("<IIQQ")
_FOUR_WORDS = struct.Struct("<IIII")
_REGION_INFO = struct.Struct("<IIIIQQ")
_CAP_SPARSE = struct.Struct("<HHIII")
_AREA = struct.Struct("<QQ")
_IRQ_SET = struct.Struct("<IIIII")
_REGION_ACCESS = struct.Struct("<QII")
_DMA_ACCESS = struct.Struct("<QQ")
_WRITE_COUNT = struct.Struct("<Q")
_MULTI_WRITE = struct.Struct("<QII8s")
_FEATURE = struct.Struct("<II")

_DATA_MASK = IrqSetFlag.DATA_NONE | IrqSetFlag.DATA_BOOL | IrqSetFlag.DATA_EVENTFD
_ACTION_MASK = IrqSetFlag.ACTION_MASK | IrqSetFlag.ACTION_UNMASK | IrqSetFlag.ACTION_TRIGGER


def _exactly(layout: struct.Struct, body: bytes, what: str) -> tuple[int, ...]:
    if len(body) != layout.size:
        raise ProtocolError(f"{what}: expected {layout.size} bytes of payload, got {len(body)}")
    return layout.unpack(body)


def _at_least(layout: struct.Struct, body: bytes, what: str) -> tuple[int, ...]:
    # A client may send the whole buffer that the reply shall fill; what follows is not for us.
    if len(body) < layout.size:
        raise ProtocolError(f"{what}: expected {layout.size} bytes of payload, got {len(body)}")
    return layout.unpack_from(body)


def _check_argsz(argsz: int, minimum: int, what: str) -> None:
    if argsz < minimum:
        raise ProtocolError(f"{what}: argsz {argsz} is below the {minimum} bytes of the structure")


class Header(NamedTuple):
    """The 16 bytes that open every message (specification, "Header")."""

    msg_id: int
    command: int
    #: Size of the whole message in bytes, header included.
    size: int
    flags: int = 0
    error: int = 0

    def pack(self) -> bytes:
        """Return the header as its 16 bytes on the wire."""
        return _HEADER.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a header from exactly 16 bytes; its fields are not judged here."""
        return cls._make(_HEADER.unpack(data))

    @property
    def is_reply(self) -> bool:
        """Whether the message answers an earlier one."""
        return self.flags & 0xF == HeaderFlag.REPLY


def pack_message(
    msg_id: int, command: int, payload: bytes = b"", flags: int = 0, error: int = 0
) -> bytes:
    """Return one whole message, header and payload, ready for a single send."""
    return _HEADER.pack(msg_id, command, HEADER_BYTES + len(payload), flags, error) + payload


@dataclass(frozen=True, slots=True)
class DmaMapRequest:
    """DMA_MAP: a range of client memory that the device may reach; there is no reply payload."""

    flags: int
    #: Offset of the range in the file whose descriptor comes along, in bytes.
    fd_offset: int
    iova: int
    size: int

    def pack(self) -> bytes:
        """Return the 32-byte payload."""
        return _DMA_MAP.pack(_DMA_MAP.size, self.flags, self.fd_offset, self.iova, self.size)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read a DMA_MAP payload."""
        argsz, *fields = _exactly(_DMA_MAP, body, "DMA_MAP")
        _check_argsz(argsz, _DMA_MAP.size, "DMA_MAP")
        return cls(*fields)


@dataclass(frozen=True, slots=True)
class DmaUnmapRequest:
    """DMA_UNMAP: the end of a window; the reply repeats the request."""

    flags: int
    iova: int
    size: int

    def pack(self) -> bytes:
        """Return the 24-byte payload."""
        return _DMA_UNMAP.pack(_DMA_UNMAP.size, self.flags, self.iova, self.size)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read a DMA_UNMAP payload."""
        argsz, *fields = _exactly(_DMA_UNMAP, body, "DMA_UNMAP")
        _check_argsz(argsz, _DMA_UNMAP.size, "DMA_UNMAP")
        return cls(*fields)


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """DEVICE_GET_INFO: what the device is made of; a request leaves all but `argsz` zero."""

    argsz: int = _FOUR_WORDS.size
    flags: int = 0
    num_regions: int = 0
    num_irqs: int = 0

    def pack(self) -> bytes:
        """Return the 16-byte payload."""
        return _FOUR_WORDS.pack(self.argsz, self.flags, self.num_regions, self.num_irqs)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read a DEVICE_GET_INFO payload, request or reply."""
        info = cls(*_at_least(_FOUR_WORDS, body, "DEVICE_GET_INFO"))
        _check_argsz(info.argsz, _FOUR_WORDS.size, "DEVICE_GET_INFO")
        return info


@dataclass(frozen=True, slots=True)
class SparseArea:
    """A part of a region that the client may map; offsets count from the start of the region."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """DEVICE_GET_REGION_INFO: size and access of a region; a request names `argsz` and `index`."""

    argsz: int
    flags: int
    index: int
    cap_offset: int
    size: int
    #: What a client adds to an offset in the region to get the offset for mmap, in bytes.
    mmap_offset: int

    def pack(self) -> bytes:
        """Return the 32 bytes of the structure, without capabilities."""
        return _REGION_INFO.pack(
            self.argsz, self.flags, self.index, self.cap_offset, self.size, self.mmap_offset
        )

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the fixed part of a DEVICE_GET_REGION_INFO payload, request or reply."""
        info = cls(*_at_least(_REGION_INFO, body, "DEVICE_GET_REGION_INFO"))
        _check_argsz(info.argsz, _REGION_INFO.size, "DEVICE_GET_REGION_INFO")
        return info

    @classmethod
    def request(cls, index: int, argsz: int = _REGION_INFO.size) -> Self:
        """Return the request for one region that leaves `argsz` bytes for the reply."""
        return cls(argsz, 0, index, 0, 0, 0)


REGION_INFO_BYTES = _REGION_INFO.size


def pack_sparse_capability(areas: Sequence[SparseArea]) -> bytes:
    """Return the sparse mmap capability as the only, hence last, of its chain."""
    head = _CAP_SPARSE.pack(REGION_CAP_SPARSE_MMAP, 1, 0, len(areas), 0)
    return head + b"".join(_AREA.pack(area.offset, area.size) for area in areas)


def unpack_sparse_areas(body: bytes) -> tuple[SparseArea, ...]:
    """Follow the capability chain of a region info reply to its mappable areas.

    Returns:
        The areas; empty when the reply has no sparse mmap capability.

    Raises:
        ProtocolError: The chain leaves the payload, runs backwards, or an area list is cut short.
    """
    offset = RegionInfo.unpack(body).cap_offset
    floor = _REGION_INFO.size
    while offset:
        if offset < floor or offset + 8 > len(body):
            raise ProtocolError(f"region capability at offset {offset} is outside the reply")
        cap_id, _version, following = struct.unpack_from("<HHI", body, offset)
        if cap_id == REGION_CAP_SPARSE_MMAP:
            return _unpack_areas(body, offset)
        floor, offset = offset + 8, following
    return ()


def _unpack_areas(body: bytes, offset: int) -> tuple[SparseArea, ...]:
    if offset + _CAP_SPARSE.size > len(body):
        raise ProtocolError("sparse mmap capability is cut short")
    count = _CAP_SPARSE.unpack_from(body, offset)[3]
    first = offset + _CAP_SPARSE.size
    end = first + count * _AREA.size
    if end > len(body):
        raise ProtocolError(f"sparse mmap capability announces {count} areas and is cut short")
    return tuple(SparseArea(*area) for area in _AREA.iter_unpack(body[first:end]))


@dataclass(frozen=True, slots=True)
class RegionIoFds:
    """DEVICE_GET_REGION_IO_FDS: access past the client; `count` sub-regions follow."""

    argsz: int
    flags: int
    index: int
    count: int

    def pack(self) -> bytes:
        """Return the 16 bytes of the structure."""
        return _FOUR_WORDS.pack(self.argsz, self.flags, self.index, self.count)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read a DEVICE_GET_REGION_IO_FDS payload, request or reply."""
        info = cls(*_at_least(_FOUR_WORDS, body, "DEVICE_GET_REGION_IO_FDS"))
        _check_argsz(info.argsz, _FOUR_WORDS.size, "DEVICE_GET_REGION_IO_FDS")
        return info


@dataclass(frozen=True, slots=True)
class IrqInfo:
    """DEVICE_GET_IRQ_INFO: how many interrupts of a type; a request names `argsz` and `index`."""

    argsz: int
    flags: int
    index: int
    count: int

    def pack(self) -> bytes:
        """Return the 16-byte payload."""
        return _FOUR_WORDS.pack(self.argsz, self.flags, self.index, self.count)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read a DEVICE_GET_IRQ_INFO payload, request or reply."""
        info = cls(*_at_least(_FOUR_WORDS, body, "DEVICE_GET_IRQ_INFO"))
        _check_argsz(info.argsz, _FOUR_WORDS.size, "DEVICE_GET_IRQ_INFO")
        return info

    @classmethod
    def request(cls, index: int) -> Self:
        """Return the request for one interrupt type."""
        return cls(_FOUR_WORDS.size, 0, index, 0)


@dataclass(frozen=True, slots=True)
class IrqSet:
    """DEVICE_SET_IRQS: what shall happen to `count` interrupts of a type from `start` on."""

    flags: int
    index: int
    start: int
    count: int
    #: One byte for each interrupt with DATA_BOOL, else empty.
    data: bytes = b""

    def pack(self) -> bytes:
        """Return the payload; eventfds travel beside it."""
        argsz = _IRQ_SET.size + len(self.data)
        head = _IRQ_SET.pack(argsz, self.flags, self.index, self.start, self.count)
        return head + self.data

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read a DEVICE_SET_IRQS payload and check all that needs no knowledge of the device."""
        argsz, flags, index, start, count = _at_least(_IRQ_SET, body, "DEVICE_SET_IRQS")
        _check_argsz(argsz, _IRQ_SET.size, "DEVICE_SET_IRQS")
        data = body[_IRQ_SET.size :]
        if flags & ~int(_DATA_MASK | _ACTION_MASK):
            raise ProtocolError(f"DEVICE_SET_IRQS: unknown flags {flags:#x}")
        if (flags & _DATA_MASK).bit_count() != 1 or (flags & _ACTION_MASK).bit_count() != 1:
            raise ProtocolError(f"DEVICE_SET_IRQS: flags {flags:#x} need one DATA and one ACTION")
        expected = count if flags & IrqSetFlag.DATA_BOOL else 0
        if len(data) != expected:
            raise ProtocolError(f"DEVICE_SET_IRQS: expected {expected} data bytes, got {len(data)}")
        if count == 0 and (start or flags & _DATA_MASK != IrqSetFlag.DATA_NONE):
            raise ProtocolError("DEVICE_SET_IRQS: a count of 0 needs start 0 and DATA_NONE")
        if count == 0 and not flags & IrqSetFlag.ACTION_TRIGGER:
            raise ProtocolError("DEVICE_SET_IRQS: a count of 0 is only valid with ACTION_TRIGGER")
        return cls(flags, index, start, count, data)


@dataclass(frozen=True, slots=True)
class RegionAccess:
    """REGION_READ and REGION_WRITE: a place in a region; data, if any, follows the structure."""

    offset: int
    region: int
    count: int

    def pack(self) -> bytes:
        """Return the 16 bytes of the structure."""
        return _REGION_ACCESS.pack(self.offset, self.region, self.count)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the structure of a payload that may go on with data."""
        if len(body) < _REGION_ACCESS.size:
            raise ProtocolError(f"region access: expected 16 bytes of payload, got {len(body)}")
        return cls(*_REGION_ACCESS.unpack_from(body))


REGION_ACCESS_BYTES = _REGION_ACCESS.size


@dataclass(frozen=True, slots=True)
class RegionWrite:
    """One write of at most 8 bytes inside REGION_WRITE_MULTI."""

    region: int
    offset: int
    data: bytes


def pack_write_multi(writes: Sequence[RegionWrite]) -> bytes:
    """Return the REGION_WRITE_MULTI payload for some writes, in order.

    Raises:
        ProtocolError: A write holds more than the 8 bytes that the format can carry.
    """
    parts = [_WRITE_COUNT.pack(len(writes))]
    for write in writes:
        if len(write.data) > 8:
            raise ProtocolError(
                f"REGION_WRITE_MULTI carries 8 bytes a write, not {len(write.data)}"
            )
        parts.append(_MULTI_WRITE.pack(write.offset, write.region, len(write.data), write.data))
    return b"".join(parts)


def unpack_write_multi(body: bytes) -> list[RegionWrite]:
    """Read the writes of a REGION_WRITE_MULTI payload, in order."""
    if len(body) < _WRITE_COUNT.size:
        raise ProtocolError("REGION_WRITE_MULTI: payload has no count")
    (count,) = _WRITE_COUNT.unpack_from(body)
    if len(body) != _WRITE_COUNT.size + count * _MULTI_WRITE.size:
        raise ProtocolError(f"REGION_WRITE_MULTI: {len(body)} bytes do not hold {count} writes")
    writes = []
    for offset, region, size, data in _MULTI_WRITE.iter_unpack(body[_WRITE_COUNT.size :]):
        if size > len(data):
            raise ProtocolError(f"REGION_WRITE_MULTI: a write of {size} bytes exceeds 8")
        writes.append(RegionWrite(region, offset, data[:size]))
    return writes


def pack_write_count(count: int) -> bytes:
    """Return the REGION_WRITE_MULTI reply: how many writes were done."""
    return _WRITE_COUNT.pack(count)


def unpack_write_count(body: bytes) -> int:
    """Read the REGION_WRITE_MULTI reply."""
    return _exactly(_WRITE_COUNT, body, "REGION_WRITE_MULTI reply")[0]


@dataclass(frozen=True, slots=True)
class DmaAccess:
    """DMA_READ and DMA_WRITE, server to client: a place in client memory; data follows."""

    iova: int
    count: int

    def pack(self) -> bytes:
        """Return the 16 bytes of the structure."""
        return _DMA_ACCESS.pack(self.iova, self.count)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read the structure of a payload that may go on with data."""
        return cls(*_at_least(_DMA_ACCESS, body, "DMA access"))


DMA_ACCESS_BYTES = _DMA_ACCESS.size


@dataclass(frozen=True, slots=True)
class DeviceFeature:
    """DEVICE_FEATURE: get, set or probe a feature of the device."""

    argsz: int
    flags: int
    data: bytes = b""

    def pack(self) -> bytes:
        """Return the payload, structure and data."""
        return _FEATURE.pack(self.argsz, self.flags) + self.data

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read a DEVICE_FEATURE payload, request or reply."""
        argsz, flags = _at_least(_FEATURE, body, "DEVICE_FEATURE")
        _check_argsz(argsz, _FEATURE.size, "DEVICE_FEATURE")
        operations = flags & ~int(FeatureFlag.INDEX_MASK)
        known = FeatureFlag.GET | FeatureFlag.SET | FeatureFlag.PROBE
        if not operations or operations & ~int(known):
            raise ProtocolError(f"DEVICE_FEATURE: flags {flags:#x} name no known operation")
        if operations == FeatureFlag.GET | FeatureFlag.SET:
            raise ProtocolError("DEVICE_FEATURE: GET and SET exclude each other")
        return cls(argsz, flags, body[_FEATURE.size :])

    @property
    def index(self) -> int:
        """Number of the feature (`VFIO_DEVICE_FEATURE_*`)."""
        return self.flags & FeatureFlag.INDEX_MASK

    @property
    def operations(self) -> FeatureFlag:
        """What is asked: GET, SET, PROBE or an allowed combination."""
        return FeatureFlag(self.flags & ~FeatureFlag.INDEX_MASK)


FEATURE_BYTES = _FEATURE.size

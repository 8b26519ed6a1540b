"""Messages: bytes that are known, round trips of any value, and bytes that must be refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgpu_stub.vfio_user.constants import FeatureFlag, IrqSetFlag
from vgpu_stub.vfio_user.errors import ProtocolError
from vgpu_stub.vfio_user.messages import (
    DeviceFeature,
    DeviceInfo,
    DmaAccess,
    DmaMapRequest,
    DmaUnmapRequest,
    Header,
    IrqInfo,
    IrqSet,
    RegionAccess,
    RegionInfo,
    RegionIoFds,
    RegionWrite,
    SparseArea,
    pack_message,
    pack_sparse_capability,
    pack_write_multi,
    unpack_sparse_areas,
    unpack_write_multi,
)
from vgpu_stub.vfio_user.version import Version

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
json_values = st.one_of(st.booleans(), st.integers(), st.text())


@given(st.builds(Header, u16, u16, u32, u32, u32))
def test_header_round_trip(header: Header) -> None:
    assert Header.unpack(header.pack()) == header


@given(
    st.one_of(
        st.builds(DmaMapRequest, u32, u64, u64, u64),
        st.builds(DmaUnmapRequest, u32, u64, u64),
        st.builds(DeviceInfo, st.integers(16, 0xFFFFFFFF), u32, u32, u32),
        st.builds(RegionInfo, st.integers(32, 0xFFFFFFFF), u32, u32, u32, u64, u64),
        st.builds(RegionIoFds, st.integers(16, 0xFFFFFFFF), u32, u32, u32),
        st.builds(IrqInfo, st.integers(16, 0xFFFFFFFF), u32, u32, u32),
        st.builds(RegionAccess, u64, u32, u32),
        st.builds(DmaAccess, u64, u64),
        st.builds(Version, u16, u16, st.none() | st.dictionaries(st.text(), json_values)),
        st.builds(
            DeviceFeature,
            st.integers(8, 0xFFFFFFFF),
            st.builds(
                int.__or__,
                u16,
                st.sampled_from([FeatureFlag.GET, FeatureFlag.SET, FeatureFlag.PROBE]).map(int),
            ),
            st.binary(max_size=64),
        ),
    )
)
def test_structure_round_trip(message: Any) -> None:
    assert type(message).unpack(message.pack()) == message


@given(
    st.sampled_from([IrqSetFlag.DATA_NONE, IrqSetFlag.DATA_EVENTFD]),
    st.sampled_from([IrqSetFlag.ACTION_MASK, IrqSetFlag.ACTION_UNMASK, IrqSetFlag.ACTION_TRIGGER]),
    u32,
    u32,
    st.integers(1, 0xFFFFFFFF),
)
def test_irq_set_round_trip(
    data: IrqSetFlag, action: IrqSetFlag, index: int, start: int, count: int
) -> None:
    message = IrqSet(int(data | action), index, start, count)
    assert IrqSet.unpack(message.pack()) == message


@given(u32, u32, st.binary(min_size=1, max_size=64))
def test_irq_set_with_booleans_round_trip(index: int, start: int, data: bytes) -> None:
    flags = int(IrqSetFlag.DATA_BOOL | IrqSetFlag.ACTION_TRIGGER)
    message = IrqSet(flags, index, start, len(data), data)
    assert IrqSet.unpack(message.pack()) == message


@given(st.lists(st.builds(RegionWrite, u32, u64, st.binary(max_size=8))))
def test_write_multi_round_trip(writes: list[RegionWrite]) -> None:
    assert unpack_write_multi(pack_write_multi(writes)) == writes


@given(st.lists(st.builds(SparseArea, u64, u64)))
def test_sparse_areas_round_trip(areas: list[SparseArea]) -> None:
    capability = pack_sparse_capability(areas)
    info = RegionInfo(32 + len(capability), 0xF, 2, 32, 1 << 20, 0)
    assert unpack_sparse_areas(info.pack() + capability) == tuple(areas)


@given(st.binary(max_size=128))
def test_any_bytes_are_taken_apart_or_refused(body: bytes) -> None:
    for message in (
        DmaMapRequest,
        DmaUnmapRequest,
        DeviceInfo,
        RegionInfo,
        RegionIoFds,
        IrqInfo,
        IrqSet,
        RegionAccess,
        DmaAccess,
        Version,
        DeviceFeature,
    ):
        try:
            message.unpack(body)
        except ProtocolError:
            continue
    for function in (unpack_write_multi, unpack_sparse_areas):
        try:
            function(body)
        except ProtocolError:
            continue


def test_message_is_header_and_payload() -> None:
    assert pack_message(0x1234, 9, b"payload", 1, 0) == (
        b"\x34\x12\x09\x00\x17\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00payload"
    )


def test_dma_map_is_laid_out_as_qemu_sends_it() -> None:
    expected = struct.pack("<IIQQQ", 32, 3, 0xC3000, 0x100000, 0x3FF00000)
    assert DmaMapRequest(3, 0xC3000, 0x100000, 0x3FF00000).pack() == expected


def test_sparse_capability_is_laid_out_as_qemu_reads_it() -> None:
    assert pack_sparse_capability([SparseArea(0x1000, 0x3000)]) == struct.pack(
        "<HHIIIQQ", 1, 1, 0, 1, 0, 0x1000, 0x3000
    )


def test_version_data_is_compact_and_ends_in_nul() -> None:
    assert Version(0, 0, {"pgsizes": 4096}).pack() == b'\0\0\0\0{"capabilities":{"pgsizes":4096}}\0'


def test_absent_limits_are_those_of_the_specification() -> None:
    version = Version.unpack(b"\0\0\0\0{}\0")
    assert (version.max_msg_fds, version.max_data_xfer_bytes) == (1, 1 << 20)


def test_query_may_carry_the_buffer_for_its_reply() -> None:
    assert RegionInfo.unpack(RegionInfo.request(2, 64).pack() + bytes(32)).argsz == 64


def test_capability_chain_is_followed_past_unknown_capabilities() -> None:
    unknown = struct.pack("<HHIQ", 7, 1, 48, 0)
    sparse = struct.pack("<HHIIIQQ", 1, 1, 0, 1, 0, 4096, 8192)
    info = RegionInfo(88, 0xF, 2, 32, 1 << 20, 0)
    assert unpack_sparse_areas(info.pack() + unknown + sparse) == (SparseArea(4096, 8192),)


@pytest.mark.parametrize(
    ("cap_offset", "chain"),
    [
        (8, b""),
        (32, b""),
        (200, bytes(64)),
        (32, struct.pack("<HHI", 7, 1, 32)),
        (32, struct.pack("<HHIII", 1, 1, 0, 1, 0)),
        (32, struct.pack("<HHIII", 1, 1, 0, 0xFFFFFFFF, 0)),
    ],
    ids=["in_structure", "empty", "outside", "loop", "cut_short", "huge_count"],
)
def test_bad_capability_chain_is_refused(cap_offset: int, chain: bytes) -> None:
    info = RegionInfo(32 + len(chain), 0xF, 2, cap_offset, 4096, 0)
    with pytest.raises(ProtocolError):
        unpack_sparse_areas(info.pack() + chain)


def test_write_of_more_than_eight_bytes_does_not_fit_write_multi() -> None:
    with pytest.raises(ProtocolError, match="8 bytes"):
        pack_write_multi([RegionWrite(0, 0, bytes(9))])

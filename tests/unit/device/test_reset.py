"""A reset of the device, without a client and without workers' processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.rings import channel_offset
from vgpu_stub.fuzz.fake_workers import FakeWorkers
from vgpu_stub.vfio_user import RegionIndex


@pytest.fixture
def gpu() -> Iterator[VirtualGpu]:
    made = VirtualGpu(FakeWorkers())
    yield made
    made.close()


@pytest.mark.parametrize("channel", [0, 1, abi.CHANNEL_COUNT - 1])
def test_reset_zeroes_channel_memory_that_no_channel_uses(gpu: VirtualGpu, channel: int) -> None:
    offset = channel_offset(channel) + abi.SQ_OFFSET
    gpu.region_write(RegionIndex.BAR2, offset, b"what a guest left")
    gpu.reset()
    assert gpu.read_shared(offset, 17) == bytes(17)


def test_reset_keeps_the_device_info(gpu: VirtualGpu) -> None:
    info = gpu.read_shared(abi.INFO_OFFSET, abi.DEVICE_INFO.size)
    gpu.region_write(RegionIndex.BAR2, abi.INFO_OFFSET, bytes(abi.DEVICE_INFO.size))
    gpu.reset()
    assert gpu.read_shared(abi.INFO_OFFSET, abi.DEVICE_INFO.size) == info

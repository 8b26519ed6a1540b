"""Power management of the function: D3hot and back keeps what the device knows."""

import os
import struct

import pytest
import vgpu_abi as abi
from vgpu_channel import Channel

pytestmark = pytest.mark.unused_device

CAP_POWER_MANAGEMENT = 0x01
D0, D3HOT = 0, 3


class PowerState:
    """The PowerState field of the function's power management registers."""

    def __init__(self, device):
        self.fd = os.open(device / "config", os.O_RDWR)
        config = os.pread(self.fd, 256, 0)
        offset = config[0x34]
        while config[offset] != CAP_POWER_MANAGEMENT:
            offset = config[offset + 1]
            assert offset, "no power management capability"
        self.control = offset + 4

    def get(self):
        return struct.unpack("<H", os.pread(self.fd, 2, self.control))[0] & 3

    def set(self, state):
        os.pwrite(self.fd, struct.pack("<H", state), self.control)

    def close(self):
        self.set(D0)
        os.close(self.fd)


@pytest.fixture
def power(device):
    state = PowerState(device)
    yield state
    state.close()


def test_the_device_goes_to_d3hot_and_back(power):
    assert power.get() == D0
    power.set(D3HOT)
    assert power.get() == D3HOT
    power.set(D0)
    assert power.get() == D0


def test_d3hot_and_back_is_no_reset(device, attribute, power):
    config, resets = (device / "config").read_bytes()[:0x40], attribute("reset_count")
    power.set(D3HOT)
    power.set(D0)
    assert (device / "config").read_bytes()[:0x40] == config
    assert attribute("reset_count") == resets
    assert attribute("state") == "live"
    assert int(attribute("status"), 0) == abi.STATUS_READY | abi.STATUS_ENABLED
    with Channel() as channel:
        assert channel.call(abi.Opcode.NOP).status == 0


def test_a_channel_goes_on_after_d3hot(channel, power):
    created = channel.call(abi.Opcode.CONTEXT_CREATE, 0, 0)
    assert created.status == 0
    power.set(D3HOT)
    power.set(D0)
    context = created.result[0]
    allocated = channel.call(abi.Opcode.MEMORY_ALLOCATE, 4096, context=context)
    assert allocated.status == 0
    assert channel.word("state") == abi.CHANNEL_READY


def test_ten_times_d3hot(attribute, power):
    for _ in range(10):
        power.set(D3HOT)
        power.set(D0)
    assert attribute("state") == "live"
    with Channel() as channel:
        assert channel.call(abi.Opcode.NOP).status == 0


def test_the_driver_keeps_the_device_in_d0(device):
    # It has no runtime power management: the kernel must not put the device to sleep under it.
    assert (device / "power_state").read_text().strip() == "D0"
    assert (device / "power/runtime_status").read_text().strip() == "active"

"""Rules of a running server: added, counted, cleared; which channels they are about."""

from __future__ import annotations

import os

import pytest

from vgpu_host.control import ControlError
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError, GuestChannel, GuestDriver
from vgpu_stub.faults import FaultRuleError
from vgpu_stub.harness.control import FaultControl
from vgpu_stub.harness.device_server import DeviceServer

pytestmark = pytest.mark.device


def test_what_fired_is_listed_in_the_snapshot_and_in_the_log(
    server: DeviceServer, channel: GuestChannel, faults: FaultControl
) -> None:
    fault = faults.inject("command-error", error="LAUNCH_FAILED", opcode="NOP")
    assert channel.wait(channel.submit(Opcode.NOP)).status == 719
    assert fault.wait_fired() == 1
    (row,) = server.snapshot()["faults"]
    assert (row["id"], row["text"], row["fired"]) == (
        fault.id,
        "command-error:opcode=NOP,error=719",
        1,
    )
    log = server.log_tail()
    assert f"fault fired on channel 1 (test, guest pid {os.getpid()}): {fault.rule} NOP" in log


def test_cleared_rule_leaves_the_ring_as_it_was(
    channel: GuestChannel, faults: FaultControl
) -> None:
    fault = faults.inject("command-error", times=0)
    assert channel.wait(channel.submit(Opcode.NOP)).status == 999
    fault.clear()
    assert channel.wait(channel.submit(Opcode.NOP)).status == 0
    assert faults.list() == []
    with pytest.raises(ControlError, match="was cleared"):
        _ = fault.fired


def test_counting_is_by_channel(driver: GuestDriver, faults: FaultControl) -> None:
    channels = [driver.open_channel(number) for number in (1, 2)]
    fault = faults.inject("command-error", nth=2)
    statuses = [
        [channel.wait(channel.submit(Opcode.NOP)).status for _ in range(3)] for channel in channels
    ]
    assert statuses == [[0, 999, 0], [0, 999, 0]]
    assert fault.wait_fired(times=2) == 2


def test_rule_is_about_its_channel_alone(driver: GuestDriver, faults: FaultControl) -> None:
    faults.inject("command-error", channel=2, times=0)
    channels = [driver.open_channel(number) for number in (1, 2)]
    statuses = [channel.wait(channel.submit(Opcode.NOP)).status for channel in channels]
    assert statuses == [0, 999]


def test_rule_is_there_before_a_new_channels_first_command(
    driver: GuestDriver, faults: FaultControl
) -> None:
    faults.inject("command-error", process="mine", times=0)
    with pytest.raises(DriverError) as failed:
        driver.open_channel(4, name="mine").call(Opcode.NOP)
    assert failed.value.number == 999
    driver.open_channel(5, name="other").call(Opcode.NOP)


def test_channel_made_after_a_rule_has_fired_is_well(
    driver: GuestDriver, channel: GuestChannel, faults: FaultControl
) -> None:
    faults.inject("command-error")
    assert channel.wait(channel.submit(Opcode.NOP)).status == 999
    driver.open_channel(2).call(Opcode.NOP)


def test_wrong_requests_are_answered(server: DeviceServer, faults: FaultControl) -> None:
    with pytest.raises(FaultRuleError, match="there is no fault"):
        faults.inject("completion-gone")
    with pytest.raises(ControlError, match="there is no fault 'x'"):
        server.control.call("faults.add", rules=[{"kind": "x"}])
    with pytest.raises(ControlError, match="there is no verb 'fault'; there are faults"):
        server.control.call("fault")
    with pytest.raises(ControlError, match="the request lacks 'rules'"):
        server.control.call("faults.add")
    with pytest.raises(ControlError, match="no fault rule 12345"):
        faults.clear(12345)

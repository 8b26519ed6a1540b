"""The fixture `vgpu_device`, used as a test of its users would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError
from vgpu_stub.harness.local_device import LocalDevice
from vgpu_stub.vfio_user import RegionIndex

RunPytest = Callable[..., pytest.RunResult]

pytestmark = pytest.mark.device

FAILING = """
    from vgpu_stub.abi.generated import Opcode

    def test_fails(vgpu_device):
        channel = vgpu_device.driver.open_channel()
        channel.call(Opcode.CONTEXT_CREATE, 0, 0)
        vgpu_device.driver.close_channel(channel)
        assert False
"""


def identity(device: LocalDevice) -> tuple[int, int]:
    config = device.driver.client.region_read(RegionIndex.CONFIG, 0, 4)
    return int.from_bytes(config[:2], "little"), int.from_bytes(config[2:], "little")


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_device_that_nobody_used(vgpu_device: LocalDevice, turn: int) -> None:
    assert vgpu_device.driver.read(abi.REG_RESET_COUNT) == 0
    assert vgpu_device.driver.read(abi.REG_SCRATCH) == 0
    vgpu_device.driver.write(abi.REG_SCRATCH, turn)
    vgpu_device.driver.reset()


@pytest.mark.vgpu(identity="10de:2331")
def test_marker_says_what_the_device_shows(vgpu_device: LocalDevice) -> None:
    assert identity(vgpu_device) == (0x10DE, 0x2331)


def test_faults_are_injected_and_counted(vgpu_device: LocalDevice) -> None:
    channel = vgpu_device.driver.open_channel()
    fault = vgpu_device.faults.inject("completion-lost", opcode="NOP", nth=2)
    channel.call(Opcode.NOP)
    lost = channel.submit(Opcode.NOP)
    channel.call(Opcode.NOP)
    assert fault.wait_fired() == 1
    with pytest.raises(DriverError, match="no completion"):
        channel.wait(lost, 0.05)


def test_trace_has_what_rings_carried_of_channels_that_ended_too(vgpu_device: LocalDevice) -> None:
    first = vgpu_device.driver.open_channel(3)
    (context, *_) = first.call(Opcode.CONTEXT_CREATE, 0, 0)
    vgpu_device.driver.close_channel(first)
    vgpu_device.driver.open_channel(4).call(Opcode.NOP)
    ended, live = vgpu_device.ring_trace()
    assert (ended.number, live.number) == (3, 4)
    assert [command.name for command in ended.commands] == ["CONTEXT_CREATE"]
    assert [(done.status, done.results[0]) for done in ended.completions] == [(0, context)]
    assert [command.name for command in live.commands] == ["NOP"]


def test_failure_has_device_state_and_ring_trace(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    found = run_pytest(FAILING, "--vgpu-artifacts", "kept", "--junit-xml", "junit.xml")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(
        ["*VGPU-STUB: device state*", '*"reset_count": 0*', "*VGPU-STUB: ring trace*"]
    )
    found.stdout.fnmatch_lines(["channel 1 (test): ready", "*#1 *CONTEXT_CREATE*"])
    properties = {
        entry.attrib["name"]: Path(entry.attrib["value"]).read_text()
        for entry in ElementTree.parse(pytester.path / "junit.xml").iter("property")
    }
    assert set(properties) == {"vgpu_device_state", "vgpu_ring_trace"}
    assert "CONTEXT_CREATE" in properties["vgpu_ring_trace"]


def test_tests_run_side_by_side_under_xdist(run_pytest: RunPytest) -> None:
    found = run_pytest(
        """
        import pytest
        from vgpu_stub.abi.generated import Opcode

        @pytest.mark.parametrize("number", range(8))
        def test_round_trip(vgpu_device, number):
            vgpu_device.driver.open_channel().call(Opcode.NOP)
        """,
        "-p",
        "xdist.plugin",
        "-n",
        "2",
    )
    found.assert_outcomes(passed=8)

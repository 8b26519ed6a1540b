"""The driver bound and unbound, loaded and unloaded, in use and not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import vgpu_abi as abi
from vgpu_channel import NODE, Channel, eventually, refusal

pytestmark = pytest.mark.unused_device

DRIVER = Path("/sys/bus/pci/drivers/vgpu_stub")
ADDRESS = "0000:00:05.0"
(MODULE,) = Path("/usr/lib/vgpu-stub/modules").glob("*vgpu_stub.ko")


def give_node_to_render():
    """Do what 60-vgpu-stub.rules has udev do; none runs here."""
    shutil.chown(NODE, group="render")


@pytest.fixture
def bound():
    """Binds the driver again, whatever the test did."""
    yield
    if not Path("/sys/module/vgpu_stub").exists():
        subprocess.run(["insmod", MODULE], check=True)
    if not (DRIVER / ADDRESS).exists():
        (DRIVER / "bind").write_text(ADDRESS)
    give_node_to_render()


def assert_works():
    with Channel() as channel:
        assert channel.call(abi.Opcode.NOP).status == 0


def test_unbinding_takes_the_node_away_and_binding_brings_it_back(device, attribute, bound):
    (DRIVER / "unbind").write_text(ADDRESS)
    assert not (device / "driver").exists()
    assert not Path(NODE).exists()
    assert not (device / "state").exists(), "the driver's attributes are still there"
    (DRIVER / "bind").write_text(ADDRESS)
    assert Path(NODE).exists()
    assert attribute("state") == "live"
    assert_works()


def test_unbinding_ends_channels_and_who_had_them_can_close_them(device, bound):
    channel = Channel()
    assert channel.call(abi.Opcode.CONTEXT_CREATE, 0, 0).status == 0
    (DRIVER / "unbind").write_text(ADDRESS)
    assert refusal(channel.wait, channel.word("cq_tail"), 5.0) == "ENODEV"
    assert refusal(channel.doorbell) == "ENODEV"
    (DRIVER / "bind").write_text(ADDRESS)
    # The number stays with the open file; the device that was bound anew has the next.
    (node,) = (path.name for path in (device / "vgpu").iterdir())
    assert node == "vgpu1"
    with Channel(f"/dev/{node}") as fresh:
        assert fresh.call(abi.Opcode.NOP).status == 0
    assert refusal(channel.doorbell) == "ENODEV", "a channel came back from the dead"
    channel.close()
    (DRIVER / "unbind").write_text(ADDRESS)
    (DRIVER / "bind").write_text(ADDRESS)
    assert_works()


def test_bound_and_unbound_ten_times(attribute, bound):
    for _ in range(10):
        (DRIVER / "unbind").write_text(ADDRESS)
        (DRIVER / "bind").write_text(ADDRESS)
    assert attribute("state") == "live"
    assert attribute("channels").split("/")[0] == "0"
    assert_works()


def test_a_module_in_use_cannot_be_removed():
    fd = os.open(NODE, os.O_RDWR)
    done = subprocess.run(["rmmod", "vgpu_stub"], capture_output=True, text=True, check=False)
    os.close(fd)
    assert done.returncode != 0
    assert "in use" in done.stderr
    assert_works()


def test_a_module_that_is_not_in_use_is_removed_and_loaded_again(device, attribute, bound):
    eventually(
        lambda: Path("/sys/module/vgpu_stub/refcnt").read_text().strip() == "0",
        "nobody has the driver open",
    )
    subprocess.run(["rmmod", "vgpu_stub"], check=True)
    assert not (device / "driver").exists()
    assert not DRIVER.exists()
    assert not Path("/sys/class/vgpu").exists()
    assert "vgpu" not in Path("/proc/interrupts").read_text()
    subprocess.run(["insmod", MODULE], check=True)
    assert attribute("state") == "live"
    assert_works()


def test_an_override_keeps_the_driver_away(device, bound):
    (DRIVER / "unbind").write_text(ADDRESS)
    (device / "driver_override").write_text("nobody\n")
    refused = refusal((DRIVER / "bind").write_text, ADDRESS)
    (device / "driver_override").write_text("\n")
    assert refused == "ENODEV"
    Path("/sys/bus/pci/drivers_probe").write_text(ADDRESS)
    assert (DRIVER / ADDRESS).exists()
    assert_works()


def test_removed_from_the_bus_and_found_again(device, attribute, bound):
    (device / "remove").write_text("1")
    assert not device.exists()
    assert not Path(NODE).exists()
    Path("/sys/bus/pci/rescan").write_text("1")
    assert attribute("state") == "live"
    assert_works()

"""The device's own place in sysfs and the events that user space hears of it."""

import os
import select
import subprocess
from pathlib import Path

import pytest
import pyudev
import vgpu_abi as abi

CLASS = Path("/sys/class/vgpu/vgpu0")


def test_the_class_device_belongs_to_the_pci_device(device):
    assert (CLASS / "device").resolve() == device.resolve()


def test_the_node_has_the_number_that_sysfs_says():
    status = Path("/dev/vgpu0").stat()
    assert (CLASS / "dev").read_text().strip() == (
        f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    )


def test_the_module_alias_is_of_our_ids(device):
    alias = (device / "modalias").read_text()
    assert alias.startswith(f"pci:v{abi.PCI_VENDOR_ID:08X}d{abi.PCI_DEVICE_ID:08X}")


def test_the_module_says_what_it_is_for(device):
    (module,) = Path("/usr/lib/vgpu-stub/modules").glob("*vgpu_stub.ko")
    done = subprocess.run(["modinfo", module], capture_output=True, text=True, check=True)
    fields = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert fields["license"].strip() == "GPL"
    ids = f"v{abi.PCI_VENDOR_ID:08X}d{abi.PCI_DEVICE_ID:08X}"
    assert fields["alias"].strip().startswith(f"pci:{ids}")
    release = os.uname().release
    assert fields["vermagic"].split()[0] == release


def test_dma_reaches_all_memory(device):
    assert (device / "dma_mask_bits").read_text().strip() == "64"


@pytest.mark.unused_device
def test_udev_hears_of_unbinding_and_binding(device):
    context = pyudev.Context()
    monitor = pyudev.Monitor.from_netlink(context, source="kernel")
    monitor.filter_by("vgpu")
    monitor.start()
    driver = Path("/sys/bus/pci/drivers/vgpu_stub")
    (driver / "unbind").write_text(device.name)
    (driver / "bind").write_text(device.name)
    os.chown("/dev/vgpu0", 0, 105)  # what 60-vgpu-stub.rules has udev do
    heard = []
    while select.select([monitor.fileno()], [], [], 10.0)[0] and len(heard) < 2:
        event = monitor.poll(timeout=1)
        heard.append((event.action, event.sys_name))
    assert heard == [("remove", "vgpu0"), ("add", "vgpu0")]

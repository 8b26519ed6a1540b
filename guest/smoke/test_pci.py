"""The PCI device as the guest's kernel sees it: identity, BARs, capabilities, driver."""

import struct

import pytest
import pyudev
import vgpu_abi as abi

CAP_POWER_MANAGEMENT, CAP_PCI_EXPRESS, CAP_MSIX = 0x01, 0x10, 0x11
ENDPOINT, INTEGRATED_ENDPOINT = 0x0, 0x9


@pytest.fixture(scope="module")
def capabilities(device):
    """Offset of each capability in config space, and config space."""
    config = (device / "config").read_bytes()
    found, offset = {}, config[0x34]
    while offset:
        assert config[offset] not in found, f"the capability list comes back to 0x{offset:x}"
        found[config[offset]] = offset
        offset = config[offset + 1]
    return found, config


def test_udev_finds_the_device_at_its_address_with_its_driver():
    device = pyudev.Devices.from_name(pyudev.Context(), "pci", "0000:00:05.0")
    identity = {
        name: int(device.attributes.get(name), 16) for name in ("vendor", "device", "class")
    }
    assert identity == {
        "vendor": abi.PCI_VENDOR_ID,
        "device": abi.PCI_DEVICE_ID,
        "class": abi.PCI_CLASS,
    }, "the device at 0000:00:05.0 has other ids than VGPU-STUB"
    assert device.driver == "vgpu_stub", "the driver is not bound; dmesg says why"


def test_udev_finds_the_node():
    node = pyudev.Devices.from_name(pyudev.Context(), "vgpu", "vgpu0")
    assert node.device_node == "/dev/vgpu0"
    assert node.find_parent("pci").sys_name == "0000:00:05.0"


def test_bars_have_their_sizes(device):
    rows = [
        [int(word, 16) for word in line.split()]
        for line in (device / "resource").read_text().splitlines()[:6]
    ]
    sizes = [end - start + 1 if end else 0 for start, end, _ in rows]
    assert sizes == [abi.BAR0_BYTES, 0, abi.BAR2_BYTES, 0, 0, 0]
    prefetchable, wide = 0x2000, 0x100000
    assert not rows[0][2] & prefetchable, "BAR0 has registers and must not be prefetchable"
    assert rows[2][2] & prefetchable
    assert rows[2][2] & wide, "BAR2 is a 64-bit BAR"


def test_msix_has_its_vectors_and_tables(capabilities, device):
    found, config = capabilities
    assert CAP_MSIX in found, "no MSI-X capability"
    control, table, pending = struct.unpack_from("<HII", config, found[CAP_MSIX] + 2)
    assert (control & 0x7FF) + 1 == abi.VECTOR_COUNT
    assert control & 0x8000, "the driver has not enabled MSI-X"
    assert (table, pending) == (abi.MSIX_TABLE_OFFSET, abi.MSIX_PBA_OFFSET), "not in BAR0, or moved"
    assert len(list((device / "msi_irqs").iterdir())) == int((device / "vectors").read_text())


def test_power_management_keeps_the_state(capabilities):
    found, config = capabilities
    assert CAP_POWER_MANAGEMENT in found, "no power management capability"
    (status,) = struct.unpack_from("<H", config, found[CAP_POWER_MANAGEMENT] + 4)
    assert status & 3 == 0, "the device is not in D0"
    assert status & 8, "NoSoftReset is not set"


def test_it_is_a_pci_express_endpoint_with_function_level_reset(capabilities, device):
    found, config = capabilities
    assert CAP_PCI_EXPRESS in found, "no PCI Express capability"
    flags, device_capabilities = struct.unpack_from("<HI", config, found[CAP_PCI_EXPRESS] + 2)
    # QEMU shows an endpoint on the root bus as one that the root complex integrates.
    assert flags >> 4 & 0xF in (ENDPOINT, INTEGRATED_ENDPOINT), "the device is no endpoint"
    assert device_capabilities & 1 << 28, "no function-level reset"
    assert "flr" in (device / "reset_method").read_text().split()

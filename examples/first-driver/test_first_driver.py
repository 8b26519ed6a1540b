"""What the first driver must do, and what it must survive."""

PING = "cat /sys/bus/pci/devices/0000:00:05.0/ping"


def test_an_interrupt_comes(vgpu_vm):
    assert vgpu_vm.run(PING).check().stdout.endswith(b" us\n")
    assert vgpu_vm.device.registers["INTERRUPT_TEST_COUNT"] == 1


def test_a_lost_interrupt_is_survived(vgpu_vm):
    fault = vgpu_vm.faults.inject("msix-lost", times=1)
    done = vgpu_vm.run(PING)
    assert fault.fired == 1
    assert b"Connection timed out" in done.stderr
    vgpu_vm.run(PING).check()


def test_a_lost_device_is_noticed(vgpu_vm):
    fault = vgpu_vm.faults.inject("device-lost")
    done = vgpu_vm.run(PING)
    assert fault.fired >= 1
    assert b"No such device" in done.stderr

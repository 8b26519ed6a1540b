"""Reset of the function through sysfs: channels end with an error, new ones work."""

import threading

import pytest
import vgpu_abi as abi
from vgpu_channel import Channel, Memory, eventually, refusal

pytestmark = pytest.mark.unused_device


@pytest.fixture
def reset(device):
    """Resets the function: the kernel calls the driver before and after it."""
    return lambda: (device / "reset").write_text("1")


def assert_works():
    with Channel() as channel:
        assert channel.call(abi.Opcode.NOP).status == 0


def test_a_reset_is_counted_and_leaves_the_device_live(attribute, reset):
    before = int(attribute("reset_count"))
    reset()
    assert int(attribute("reset_count")) > before
    assert attribute("state") == "live"
    assert int(attribute("status"), 0) == abi.STATUS_READY | abi.STATUS_ENABLED
    assert_works()


def test_the_reset_is_a_function_level_reset(device, reset):
    (device / "reset_method").write_text("flr")
    reset()
    (device / "reset_method").write_text("default")
    assert_works()


def test_a_reset_ends_channels(channel, reset):
    assert channel.call(abi.Opcode.NOP).status == 0
    reset()
    assert refusal(channel.wait, channel.word("cq_tail"), 5.0) == "EIO"
    assert refusal(channel.doorbell) == "EIO"
    assert channel.word("state") == abi.CHANNEL_FAILED


def test_who_sleeps_for_a_completion_is_woken_by_a_reset(channel, reset):
    outcome = []
    sleeper = threading.Thread(target=lambda: outcome.append(refusal(channel.wait, 0, 30.0)))
    sleeper.start()
    reset()
    sleeper.join(20.0)
    assert outcome == ["EIO"]


def test_a_reset_gives_registered_memory_back(attribute, reset):
    memory = Memory(16 * 4096)
    channel = Channel()
    channel.register(memory.address, memory.length)
    assert int(attribute("registered_bytes")) == memory.length
    reset()
    eventually(lambda: attribute("registered_bytes") == "0", "memory of dead channels")
    channel.close()
    memory.close()


def test_config_space_and_interrupts_survive_a_reset(device, reset):
    before = (device / "config").read_bytes()[:0x40]
    vectors = sorted(path.name for path in (device / "msi_irqs").iterdir())
    reset()
    assert (device / "config").read_bytes()[:0x40] == before
    assert sorted(path.name for path in (device / "msi_irqs").iterdir()) == vectors
    with Channel() as channel:
        channel.ask_for_interrupt()
        channel.submit(abi.Opcode.NOP)
        channel.wait(0, 20.0)
        assert channel.take().status == 0


def test_ten_resets_in_a_row(attribute, reset):
    before = int(attribute("reset_count"))
    for _ in range(10):
        reset()
    assert int(attribute("reset_count")) >= before + 10
    assert_works()

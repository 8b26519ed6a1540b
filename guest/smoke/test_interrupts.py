"""MSI-X: interrupts arrive, are counted, and wake who sleeps for a completion."""

import select
import threading
import time
from pathlib import Path

import pytest
import vgpu_abi as abi
from vgpu_channel import eventually, refusal


def interrupts():
    """Interrupts by name ("vgpu0-admin", "vgpu0-1") from /proc/interrupts."""
    counts = {}
    lines = Path("/proc/interrupts").read_text().splitlines()
    processors = len(lines[0].split())
    for line in lines[1:]:
        words = line.split()
        if words[-1].startswith("vgpu0-"):
            counts[words[-1]] = sum(int(word) for word in words[1 : 1 + processors])
    return counts


def test_every_vector_has_its_interrupt(attribute):
    expected = {"vgpu0-admin", *(f"vgpu0-{i}" for i in range(1, int(attribute("vectors"))))}
    assert set(interrupts()) == expected


@pytest.mark.parametrize("which", ["first channel", "last channel"])
def test_test_interrupt_arrives_at_its_vector_alone(device, attribute, which):
    vector = 1 if which == "first channel" else int(attribute("vectors")) - 1
    name, before, counted = f"vgpu0-{vector}", interrupts(), int(attribute("interrupts"))
    (device / "interrupt_test").write_text(f"{vector}\n")
    eventually(lambda: interrupts()[name] > before[name], f"interrupt of vector {vector}")
    assert interrupts() == before | {name: before[name] + 1}
    assert int(attribute("interrupts")) == counted + 1


def test_the_admin_vector_can_be_tested_too(device):
    before = interrupts()["vgpu0-admin"]
    (device / "interrupt_test").write_text("0\n")
    eventually(lambda: interrupts()["vgpu0-admin"] > before, "interrupt of vector 0")


def test_a_vector_that_was_not_granted_is_refused(device, attribute):
    write = (device / "interrupt_test").write_text
    assert refusal(write, attribute("vectors")) == "EINVAL"
    assert refusal(write, "none") == "EINVAL"


def vector_of(channel):
    return f"vgpu0-{1 + (channel.info.channel - 1) % (len(interrupts()) - 1)}"


def asleep_in_ioctl(thread):
    """Whether a thread sleeps in ioctl(2), system call 16."""
    return Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().startswith("16 ")


def test_a_completion_interrupts_and_wakes_the_sleeper(channel):
    name = vector_of(channel)
    before = interrupts()[name]
    outcome = []
    sleeper = threading.Thread(target=lambda: outcome.append(refusal(channel.wait, 0, 20.0)))
    channel.ask_for_interrupt()
    sleeper.start()
    eventually(lambda: asleep_in_ioctl(sleeper), "the thread to sleep in WAIT")
    channel.submit(abi.Opcode.NOP)
    sleeper.join(20.0)
    assert outcome == ["success"], "WAIT did not return when the completion came"
    assert interrupts()[name] > before, "no interrupt was counted"
    assert channel.take().status == 0


def test_a_completion_that_nobody_waits_for_does_not_interrupt(channel):
    name = vector_of(channel)
    before = interrupts()[name]
    channel.submit(abi.Opcode.NOP)
    eventually(lambda: channel.word("cq_tail") == 1, "completion of a NOP")
    assert interrupts()[name] == before


def test_wait_ends_when_its_time_is_over(channel):
    start = time.monotonic()
    assert refusal(channel.wait, 0, 0.2) == "ETIMEDOUT"
    assert 0.2 <= time.monotonic() - start < 5


def test_wait_returns_at_once_for_what_is_already_there(channel):
    channel.submit(abi.Opcode.NOP)
    eventually(lambda: channel.word("cq_tail") == 1, "completion of a NOP")
    assert refusal(channel.wait, 0, 0.0) == "success"


def test_poll_reports_a_completion(channel):
    poller = select.poll()
    poller.register(channel.fd, select.POLLIN)
    assert poller.poll(0) == []
    channel.submit(abi.Opcode.NOP)
    assert poller.poll(20_000) == [(channel.fd, select.POLLIN)]

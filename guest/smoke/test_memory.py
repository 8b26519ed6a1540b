"""Memory of a process given to the device: copies through it, its limits, what is refused."""

import ctypes
import json
import mmap
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import vgpu_abi as abi
from vgpu_channel import Channel, Memory, refusal

INVALID_VALUE = 1  # CUDA_ERROR_INVALID_VALUE
SMOKE = Path(__file__).resolve().parent


@pytest.fixture
def context(channel):
    """Handle of a context in the channel."""
    completion = channel.call(abi.Opcode.CONTEXT_CREATE, 0, 0)
    assert completion.status == 0, f"CONTEXT_CREATE failed with CUresult {completion.status}"
    return completion.result[0]


@pytest.fixture
def device_ptr(channel, context, memory):
    """Device memory as large as the registered memory."""
    completion = channel.call(abi.Opcode.MEMORY_ALLOCATE, memory.length, context=context)
    assert completion.status == 0, f"MEMORY_ALLOCATE failed with CUresult {completion.status}"
    return completion.result[0]


def test_a_copy_there_and_back_moves_every_byte(channel, context, device_ptr, memory):
    half = memory.length // 2
    pattern = np.random.default_rng(7).integers(0, 256, half, np.uint8).tobytes()
    memory.map[:half] = pattern
    registration = channel.register(memory.address, memory.length)
    to_device = device_ptr, 0, half, registration, abi.STREAM_LEGACY
    back = device_ptr, half, half, registration, abi.STREAM_LEGACY
    assert channel.call(abi.Opcode.COPY_HOST_TO_DEVICE, *to_device, context=context).status == 0
    assert channel.call(abi.Opcode.COPY_DEVICE_TO_HOST, *back, context=context).status == 0
    assert memory.map[half:] == pattern
    channel.unregister(registration)


def test_registered_bytes_are_counted(channel, memory, attribute):
    before = int(attribute("registered_bytes"))
    registration = channel.register(memory.address, memory.length)
    assert int(attribute("registered_bytes")) == before + memory.length
    channel.unregister(registration)
    assert int(attribute("registered_bytes")) == before


def test_closing_the_channel_gives_the_memory_back(memory, attribute):
    before = int(attribute("registered_bytes"))
    with Channel() as channel:
        channel.register(memory.address, memory.length)
        assert int(attribute("registered_bytes")) == before + memory.length
    assert int(attribute("registered_bytes")) == before


@pytest.mark.parametrize(
    ("what", "offset", "length", "access", "error"),
    [
        ("an address inside a page", 8, 4096, 3, "EINVAL"),
        ("part of a page", 0, 100, 3, "EINVAL"),
        ("nothing", 0, 0, 3, "EINVAL"),
        ("no access", 0, 4096, 0, "EINVAL"),
        ("unknown access", 0, 4096, 4, "EINVAL"),
        ("more than all memory", 0, 1 << 46, 3, "EINVAL"),
    ],
)
def test_bad_arguments_are_refused(channel, memory, what, offset, length, access, error):
    got = refusal(channel.register, memory.address + offset, length, access)
    assert got == error, f"registering {what}"


def test_an_address_without_memory_is_refused(channel, attribute):
    before = attribute("registered_bytes")
    gone = Memory(4096)
    address = gone.address
    gone.close()
    assert refusal(channel.register, address, 4096) == "EFAULT"
    assert attribute("registered_bytes") == before


def test_memory_that_the_process_may_not_write_is_refused(channel, memory):
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    assert protect(memory.address, memory.length, mmap.PROT_READ) == 0
    got = refusal(channel.register, memory.address, memory.length, abi.REGISTER_READ)
    assert protect(memory.address, memory.length, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    assert got == "EFAULT"


def test_unknown_registration_cannot_be_taken_back(channel, memory):
    assert refusal(channel.unregister, 77) == "ENOENT"
    registration = channel.register(memory.address, memory.length)
    channel.unregister(registration)
    assert refusal(channel.unregister, registration) == "ENOENT"


@pytest.mark.parametrize(
    ("what", "offset", "size"),
    [("beyond its end", 4096, 16 * 4096), ("an overflow", (1 << 64) - 4096, 8192)],
)
def test_a_copy_outside_the_registration_is_refused(
    channel, context, device_ptr, memory, what, offset, size
):
    registration = channel.register(memory.address, memory.length)
    copy = device_ptr, offset, size, registration, abi.STREAM_LEGACY
    got = channel.call(abi.Opcode.COPY_HOST_TO_DEVICE, *copy, context=context).status
    assert got == INVALID_VALUE, f"copying {what}"


def test_memory_given_for_reading_is_not_written(channel, context, device_ptr, memory):
    memory.map[:] = b"\x5a" * memory.length
    registration = channel.register(memory.address, memory.length, abi.REGISTER_READ)
    copy = device_ptr, 0, 4096, registration, abi.STREAM_LEGACY
    got = channel.call(abi.Opcode.COPY_DEVICE_TO_HOST, *copy, context=context).status
    assert got == INVALID_VALUE
    assert memory.map[:4096] == b"\x5a" * 4096


def test_a_registration_that_was_taken_back_is_not_used(channel, context, device_ptr, memory):
    registration = channel.register(memory.address, memory.length)
    channel.unregister(registration)
    copy = device_ptr, 0, 4096, registration, abi.STREAM_LEGACY
    got = channel.call(abi.Opcode.COPY_HOST_TO_DEVICE, *copy, context=context).status
    assert got == INVALID_VALUE


def in_another_process(program, **settings):
    """Run a program that prints JSON in a process of its own."""
    prologue = f"import sys; sys.path.insert(0, {str(SMOKE)!r})\nimport json\n"
    prologue += "from vgpu_channel import Channel, Memory, refusal\nimport vgpu_abi as abi\n"
    command = [sys.executable, "-c", prologue + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_user_cannot_pin_more_than_his_limit():
    program = (
        "small, large = Memory(32 << 10), Memory(128 << 10)\n"
        "with Channel() as channel:\n"
        "    print(json.dumps([refusal(channel.register, memory.address, memory.length)\n"
        "                      for memory in (small, large)]))\n"
    )
    limit = 64 << 10
    outcome = in_another_process(
        program,
        user=65534,
        group=65534,
        extra_groups=["render"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit)),
    )
    assert outcome == ["success", "ENOMEM"]


def test_another_process_has_a_channel_and_registrations_of_its_own(channel, memory):
    memory.map[:] = b"\xa5" * memory.length
    registration = channel.register(memory.address, memory.length)
    marker = b"for the first process alone".ljust(64, b".")
    channel.memory[abi.SQ_OFFSET + 64 : abi.SQ_OFFSET + 128] = marker
    program = (
        "with Channel() as channel:\n"
        f"    seen = {marker!r} in channel.memory[:]\n"
        "    context = channel.call(abi.Opcode.CONTEXT_CREATE, 0, 0).result[0]\n"
        "    pointer = channel.call(abi.Opcode.MEMORY_ALLOCATE, 4096, context=context).result[0]\n"
        f"    copy = pointer, 0, 4096, {registration}, 0\n"
        "    status = channel.call(abi.Opcode.COPY_HOST_TO_DEVICE, *copy, context=context).status\n"
        "    print(json.dumps([channel.info.channel, seen, status]))\n"
    )
    other, seen, status = in_another_process(program)
    assert other != channel.info.channel
    assert not seen, "the marker of the first process is in the second's channel"
    assert status == INVALID_VALUE, "the second process used a registration of the first"
    assert channel.memory[abi.SQ_OFFSET + 64 : abi.SQ_OFFSET + 128] == marker

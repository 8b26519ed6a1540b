"""What one process puts into its ring, maps or registers never reaches another process."""

import json
import mmap
import random
import subprocess
import sys
from pathlib import Path

import pytest
import vgpu_abi as abi
from vgpu_abi import Opcode
from vgpu_channel import Channel, Memory, refusal

SIZE = 1 << 16
FUZZED_COMMANDS = 1000

VICTIM = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from vgpu_abi import Opcode
from vgpu_channel import Channel, Memory
channel, memory = Channel(), Memory({SIZE})
memory.map[:] = b"U" * {SIZE}
registration = channel.register(memory.address, {SIZE})
channel.call(Opcode.CONTEXT_CREATE, 0, 0)
context = channel.call(Opcode.CONTEXT_CREATE, 0, 0).result[0]
pointer = channel.call(Opcode.MEMORY_ALLOCATE, {SIZE}, context=context).result[0]
copy = pointer, 0, {SIZE}, registration, 0
assert channel.call(Opcode.COPY_HOST_TO_DEVICE, *copy, context=context).status == 0
print(json.dumps([context, pointer, memory.address]), flush=True)
sys.stdin.readline()
host = memory.map[:] == b"U" * {SIZE}
memory.map[:] = bytes({SIZE})
status = channel.call(Opcode.COPY_DEVICE_TO_HOST, *copy, context=context).status
print(json.dumps([host, status, memory.map[:] == b"U" * {SIZE}]), flush=True)
"""


class Victim:
    """Another process with a channel, two contexts, host and device memory."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", VICTIM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.context, self.pointer, self.address = json.loads(self.process.stdout.readline())

    def assert_intact(self):
        out, _ = self.process.communicate("\n", timeout=60)
        assert json.loads(out) == [True, 0, True], "host memory, copy status, device memory"


@pytest.fixture
def victim():
    made = Victim()
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.fixture
def attacker():
    with Channel() as channel:
        memory = Memory(SIZE)
        registration = channel.register(memory.address, SIZE)
        context = channel.call(Opcode.CONTEXT_CREATE, 0, 0).result[0]
        pointer = channel.call(Opcode.MEMORY_ALLOCATE, SIZE, context=context).result[0]
        yield channel, context, pointer, registration


def test_wild_copies_are_refused_and_others_stay_intact(attacker, victim):
    channel, context, pointer, registration = attacker
    wild = [
        (pointer, 0, SIZE + 1, registration),
        (pointer, SIZE, 1, registration),
        (pointer, (1 << 64) - 1, 2, registration),
        (pointer, 0, SIZE, 0xFFFF_FFFF),
        (victim.address, 0, SIZE, registration),
        (0x7FFF_FFFF_F000, 0, 64, registration),
        *((pointer, 0, SIZE, other) for other in range(40) if other != registration),
    ]
    for opcode in (Opcode.COPY_HOST_TO_DEVICE, Opcode.COPY_DEVICE_TO_HOST):
        accepted = [
            copy for copy in wild if not channel.call(opcode, *copy, 0, context=context).status
        ]
        assert accepted == []
    assert victim.context != context
    fill = victim.pointer, SIZE, 0, 1, 0, 0
    assert channel.call(Opcode.MEMSET, *fill, context=victim.context).status != 0
    victim.assert_intact()


def test_random_commands_harm_nobody_else(attacker, victim):
    _, context, pointer, registration = attacker
    chance = random.Random(7)
    words = [0, 1, 2, registration, SIZE, pointer, victim.pointer, victim.address, 1 << 63]
    with Channel() as fuzzed:
        for sequence in range(1, FUZZED_COMMANDS + 1):
            opcode = chance.choice([chance.randrange(256), int(chance.choice(list(Opcode)))])
            of = chance.choice([0, 1, 2, context, victim.context, chance.getrandbits(16)])
            header = abi.COMMAND_HEADER.pack(opcode, 1, abi.COMMAND_COMPLETE, of, sequence)
            body = b"".join(
                chance.choice([*words, chance.getrandbits(64)]).to_bytes(8, "little")
                for _ in range((abi.SLOT_BYTES - len(header)) // 8)
            )
            fuzzed.submit_raw(header + body)
            assert fuzzed.next_completion().sequence == sequence
    victim.assert_intact()


def test_memory_that_is_not_the_processes_own_cannot_be_registered(attacker, victim):
    channel, *_ = attacker
    maps = Path("/proc/self/maps").read_text().splitlines()
    text = next(line for line in maps if "libc.so" in line and "r-xp" in line)
    foreign = {
        "kernel memory": 0xFFFF_8880_0000_0000,
        "the null page": 0,
        "program text": int(text.split("-")[0], 16),
        "another process' memory": victim.address + (1 << 40),
    }
    for what, address in foreign.items():
        assert refusal(channel.register, address, 4096) in ("EFAULT", "EINVAL"), what


def test_other_channels_cannot_be_mapped(attacker):
    channel, *_ = attacker
    length = channel.info.channel_bytes
    for offset in (4096, length, 1 << 20):
        outcome = refusal(lambda at=offset: mmap.mmap(channel.fd, length, offset=at))
        assert outcome == "EINVAL", f"offset {offset}"

"""Values worth trying: ends of ranges, powers of two and their neighbours, changed bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vgpu_stub.fuzz.operations import Operation, Value, changed, values_of

_POWERS: Final = tuple(
    value for bits in range(64) for value in ((1 << bits) - 1, 1 << bits, (1 << bits) + 1)
)
_EDGES: Final = (0, 1, 2, 3, 7, 8, 63, 64, 255, 4095, 4096, 4097, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000,
                 0xFFFF_FFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip


def number(rng: random.Random, bits: int) -> int:
    """A number that fits so many bits and may be one too many for somebody."""
    choice = rng.random()
    if choice < 0.5:
        value = rng.choice(_EDGES)
    elif choice < 0.8:
        value = rng.choice(_POWERS)
    elif choice < 0.9:
        value = -rng.randrange(1, 70)
    else:
        value = rng.getrandbits(bits)
    return value & ((1 << bits) - 1)


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bytes with one thing changed: a word, a byte, a bit, or the length."""
    choice = rng.random()
    size = len(data)
    if not size or choice < 0.1:
        return data + rng.randbytes(rng.choice((1, 4, 8, 64)))
    if choice < 0.2:
        return data[: rng.randrange(size)]
    changed_data = bytearray(data)
    if choice < 0.75:
        width = rng.choice((2, 4, 4, 8, 8))
        place = rng.randrange(max(1, size // width)) * width
        word = number(rng, width * 8).to_bytes(width, "little")
        changed_data[place : place + width] = word
        return bytes(changed_data[:size])
    place = rng.randrange(size)
    if choice < 0.9:
        changed_data[place] = rng.randrange(256)
    else:
        changed_data[place] ^= 1 << rng.randrange(8)
    return bytes(changed_data)


def mutated_sequence(
    rng: random.Random, operations: Sequence[Operation], others: Sequence[Operation]
) -> list[Operation]:
    """A sequence of the corpus, changed in one to four places; `others` are there to put in."""
    found = list(operations)
    for _ in range(rng.randrange(1, 5)):
        choice = rng.random()
        place = rng.randrange(len(found)) if found else 0
        if not found or choice < 0.25:
            start = rng.randrange(max(1, len(others)))
            found[place:place] = others[start : start + rng.randrange(1, 4)]
        elif choice < 0.4:
            del found[place]
        elif choice < 0.5:
            found.insert(rng.randrange(len(found) + 1), found[place])
        elif choice < 0.6:
            other = rng.randrange(len(found))
            found[place], found[other] = found[other], found[place]
        else:
            found[place] = mutated_operation(rng, found[place])
    return found


def mutated_operation(rng: random.Random, operation: Operation) -> Operation:
    """An operation with one field changed, in what its type allows."""
    values = values_of(operation)
    if not values:
        return replace(operation)
    name = rng.choice(sorted(values))
    return changed(operation, name, _mutated_value(rng, values[name]))


def _mutated_value(rng: random.Random, value: Value) -> Value:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return number(rng, 32 if value < 1 << 32 else 64) if rng.random() < 0.6 else abs(
            value + rng.choice((-8, -1, 1, 8, 4096))
        )  # fmt: skip
    if isinstance(value, bytes):
        return mutated_bytes(rng, value)
    if isinstance(value, tuple) and value:
        place = rng.randrange(len(value))
        if rng.random() < 0.3:
            return value[:place] + value[place + 1 :]
        return (*value[:place], _mutated_value(rng, value[place]), *value[place + 1 :])
    return value

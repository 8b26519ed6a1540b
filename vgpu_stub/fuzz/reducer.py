"""Makes a failing sequence small: fewer operations first, then simpler fields."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from vgpu_stub.fuzz.operations import Operation, Value, changed, values_of

#: Whether a sequence still shows the failure.
Fails = Callable[[list[Operation]], bool]


def reduce_sequence(
    operations: list[Operation], fails: Fails, seconds: float = 60.0
) -> list[Operation]:
    """The smallest sequence found that still fails.

    Args:
        operations: A sequence that fails.
        fails: Judges a candidate.
        seconds: When to stop looking for more.
    """
    deadline = time.monotonic() + seconds
    before: list[Operation] | None = None
    while before != operations and time.monotonic() < deadline:
        before = operations
        operations = _fewer(operations, fails, deadline)
        operations = _simpler(operations, fails, deadline)
    return operations


def _fewer(operations: list[Operation], fails: Fails, deadline: float) -> list[Operation]:
    """Leave operations out, many at first, from the end to the start."""
    size = max(1, len(operations) // 2)
    while size:
        end = len(operations)
        while end > 0 and time.monotonic() < deadline:
            start = max(0, end - size)
            candidate = operations[:start] + operations[end:]
            if fails(candidate):
                operations = candidate
            end = start
        size //= 2
    return operations


def _simpler(operations: list[Operation], fails: Fails, deadline: float) -> list[Operation]:
    for place in range(len(operations)):
        for name in values_of(operations[place]):
            for value in _simpler_values(values_of(operations[place])[name]):
                if time.monotonic() > deadline:
                    return operations
                candidate = list(operations)
                candidate[place] = changed(operations[place], name, value)
                if fails(candidate):
                    operations = candidate
                    break
    return operations


def _simpler_values(value: Value) -> Iterator[Value]:
    """Simpler values than this one, the simplest first."""
    if isinstance(value, int):
        yield from sorted({0, 1, value & -value, 1 << max(0, value.bit_length() - 1)} - {value})[
            : 4 if abs(value) > 1 else abs(value)
        ]
    elif isinstance(value, bytes):
        for size in (0, len(value) // 2, len(value) - 1):
            if size < len(value):
                yield value[:size]
                yield value[len(value) - size :]
        if any(value):
            yield bytes(len(value))
            for start in range(0, len(value), 8):
                if any(value[start : start + 8]):
                    yield value[:start] + bytes(len(value[start : start + 8])) + value[start + 8 :]
    elif isinstance(value, tuple):
        for place in range(len(value)):
            yield value[:place] + value[place + 1 :]
            for simpler in _simpler_values(value[place]):
                yield (*value[:place], simpler, *value[place + 1 :])

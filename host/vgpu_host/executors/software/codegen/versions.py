"""The test at the start of a block that has a second version, for lanes in a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vgpu_host.executors.software.versions import BASE_LIMIT, Version

from .emitter import Emitter, Value, integer, lanes


@contextmanager
def second_version(emitter: Emitter, version: Version) -> Iterator[None]:
    """Emit the second version of a block; the first follows, unless nothing had to be tested."""
    apart = _test(emitter, version) if version.entry else ""
    emitter.version = version
    yield
    emitter.end_version()
    if apart:
        emitter.label(apart)


def _test(emitter: Emitter, version: Version) -> str:
    """Go on here if the lanes in the block are in a row; returns the label for the others.

    The first lane stands for the base. If it is not in the block it has an old value, which
    hardly ever fits: then the lanes take the first version.
    """
    matches: Value | None = None
    small: Value | None = None
    bases: dict[str, Value] = {}
    for name, row in version.entry.items():
        value = emitter.load_plain(name)
        head = emitter.define(f"extractelement {value}, i32 0", value.type)
        base = emitter.op("sub", head, integer(row.offsets[0], value.type))
        expected = emitter.op("add", base, lanes(list(row.offsets), value.type))
        same = emitter.compare("icmp eq", value, expected)
        matches = same if matches is None else emitter.op("and", matches, same)
        if row.bits == 32:
            below = emitter.compare("icmp ult", base, integer(BASE_LIMIT, "i32"))
            small = below if small is None else emitter.op("and", small, below)
        bases[name] = base
    assert matches is not None
    others = emitter.invert(emitter.mask_bits)
    bits = emitter.op("or", emitter.lane_bits(matches), others)
    fits = emitter.compare("icmp eq", bits, integer(-1, "i32"))
    if small is not None:
        fits = emitter.op("and", fits, small)
    together, apart = emitter.name("together"), emitter.name("apart")
    emitter.line(f"br {fits}, label %{together}, label %{apart}")
    emitter.label(together)
    for name, base in bases.items():
        emitter.write_base(name, base, version.entry[name])
    return apart

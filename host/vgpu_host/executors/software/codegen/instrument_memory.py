"""The memory checker's code: looks at the shadow of what an instruction touches.

The shadow has a byte for each byte, so that it is read by the same kind of access as the memory.
All is well where each byte may be accessed and is initialised, which is one comparison; only
otherwise it is found out what is wrong, or that memory is written for the first time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vgpu_host.executors.software.checks.structures import ADDRESSABLE, INITIALISED
from vgpu_host.executors.software.ir import BITS, WARP_SIZE

from . import access
from .emitter import Emitter, Value, integer
from .state import FAULT_ADDRESS

if TYPE_CHECKING:
    from .access import Place
    from .instrument import Instruments

#: Places that are no memory of the program's.
UNCHECKED = ("param", "shadow")


def repeated(byte: int, type_: str) -> Value:
    """A constant with the same value in each byte."""
    return integer(int.from_bytes(bytes([byte]) * (BITS[type_] // 8), "little"), type_)


class MemoryCheck:
    """Checks of bounds, of freed and of uninitialised memory in one kernel."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    def load(self, place: Place, type_: str, offset: int) -> None:
        """Check that an element may be read and is initialised."""
        self._check(place, type_, offset, stores=False)

    def store(self, place: Place, type_: str, offset: int) -> None:
        """Check that an element may be written, and note that it is."""
        self._check(place, type_, offset, stores=True)

    def all_well(self, shadow: list[Value]) -> Value:
        """Whether elements, of which this is the shadow, are accessible and initialised."""
        emitter = self._instruments.emitter
        well = repeated(ADDRESSABLE | INITIALISED, shadow[0].type)
        unusual = integer(0, "i32")
        for found in shadow:
            wrong = _lanes(emitter, emitter.compare("icmp ne", found, well))
            unusual = emitter.op("or", wrong, unusual)
        return emitter.compare("icmp eq", unusual, integer(0, "i32"))

    def _check(self, place: Place, type_: str, offset: int, stores: bool) -> None:
        if place.space in UNCHECKED:
            return
        emitter = self._instruments.emitter
        whole = f"i{BITS[type_]}"
        shadow = replace(
            place, address=emitter.op("add", place.address, Value("%shadow", "i64")), space="shadow"
        )
        found = access.load(emitter, shadow, whole, offset)
        well = repeated(ADDRESSABLE | INITIALISED, whole)
        look, done = emitter.name("look"), emitter.name("well")
        unusual = _lanes(emitter, emitter.compare("icmp ne", found, well))
        some = emitter.compare("icmp ne", unusual, integer(0, "i32"))
        emitter.line(f"br {some}, label %{look}, label %{done}, !prof !0")
        emitter.label(look)
        usable = repeated(ADDRESSABLE, whole)
        outside = emitter.compare("icmp ne", emitter.op("and", found, usable), usable)
        access.end_kernel(emitter, _lanes(emitter, outside), place.address, FAULT_ADDRESS)
        if stores:
            access.store(emitter, shadow, well, offset)
        else:
            address = emitter.op("add", place.address, integer(offset, "i64"))
            self._report(unusual, address, BITS[type_] // 8)
        emitter.line(f"br label %{done}")
        emitter.label(done)

    def _report(self, bad: Value, address: Value, size: int) -> None:
        emitter = self._instruments.emitter
        slot = emitter.stack("check.addresses", f"<{WARP_SIZE} x i64>")
        emitter.line(f"store {emitter.widen(address)}, ptr {slot}")
        site = self._instruments.site()
        emitter.line(
            f"call void @uninitialised(ptr %checks, {site}, ptr %worker, {bad}, ptr {slot}, "
            f"i32 %warp, i32 {emitter.instruction.position}, i32 {size})"
        )


def _lanes(emitter: Emitter, wrong: Value) -> Value:
    """The active lanes for which something is wrong, one bit each."""
    if wrong.vector:
        return emitter.lane_bits(emitter.op("and", wrong, emitter.active()))
    return emitter.select(wrong, emitter.active_bits(), integer(0, "i32"))

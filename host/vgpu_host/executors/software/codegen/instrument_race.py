"""The race checker's code: tells the records of memory what a warp accesses, and what orders it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vgpu_host.executors.software.checks.structures import ATOMIC, STRONG, WRITE
from vgpu_host.executors.software.ir import BITS, WARP_SIZE, Instruction

from .emitter import Emitter, Value, integer
from .instrument_race_runtime import DECLARATIONS

if TYPE_CHECKING:
    from .access import Place
    from .instrument import Instruments

#: Places that one thread has for itself, or that nobody writes.
_PRIVATE = ("param", "local", "shadow")
#: Accesses that are meant to meet others. Before capability 7.0 there is no `relaxed`; programs
#: (such as CUB) go past the first cache instead.
_STRONG = frozenset(("volatile", "relaxed", "acquire", "release", "mmio", "cg", "cv", "wt"))
_RELEASES = frozenset(("release", "acq_rel"))
_FENCES = ("membar", "fence")
#: What is done to a barrier object before threads go on behind it, and by those who go on.
_ARRIVALS = frozenset(("arrive", "arrive_drop", "complete_tx"))
_WAITS = frozenset(("test_wait", "try_wait"))


class RaceCheck:
    """Records of accesses in one kernel."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        instruments.emitter.declarations.update(DECLARATIONS)

    def prologue(self) -> None:
        """What a warp needs to know, at its start."""
        self._instruments.emitter.line("%race.limit = sub i64 %params.base, %arena.base")

    def load(self, place: Place, type_: str, offset: int) -> None:
        """An element is about to be read."""
        self._access(place, type_, offset, 0, None)

    def store(self, place: Place, value: Value, offset: int) -> None:
        """An element is about to be written."""
        self._access(place, value.type, offset, WRITE, value)

    def atomic(self, place: Place, type_: str, offset: int) -> None:
        """An element is about to be read and written at once."""
        self._access(place, type_, offset, WRITE | STRONG | ATOMIC, None)

    def before(self, instruction: Instruction) -> None:
        """Fences, releases and lanes that meet order what comes before and after them."""
        emitter = self._instruments.emitter
        modifiers = set(instruction.modifiers)
        if instruction.opcode in _FENCES or (
            modifiers & _RELEASES and instruction.opcode != "mbarrier"
        ):
            within = "true" if "cta" not in modifiers else "false"
            emitter.line(
                f"call void @race_fence(ptr %checks, ptr %worker, {emitter.active_bits()}, "
                f"i32 %warp, i1 {within})"
            )
        elif instruction.opcode == "mbarrier" and modifiers & _ARRIVALS:
            self.arrives()
        elif instruction.opcode == "mbarrier" and modifiers & _WAITS:
            self.passes()
        elif instruction.opcode in ("bar", "barrier") and "warp" in modifiers:
            lanes = emitter.active_bits()
            emitter.line(f"call void @race_meet(ptr %checks, ptr %worker, {lanes}, i32 %warp)")

    def arrives(self) -> None:
        """What the warp did before a barrier that counts comes before what others do behind it."""
        self._instruments.emitter.line(
            "call void @race_arrive(ptr %checks, ptr %worker, i32 %warp)"
        )

    def passes(self) -> None:
        """The warp is behind a barrier that counts."""
        self._instruments.emitter.line("call void @race_pass(ptr %checks, ptr %worker, i32 %warp)")

    @staticmethod
    def _is_strong(instruction: Instruction) -> bool:
        modifiers = set(instruction.modifiers)
        if instruction.opcode == "mbarrier":
            return bool(modifiers & (_ARRIVALS | _WAITS))
        return bool(_STRONG & modifiers) and instruction.opcode != "cp"

    def _access(
        self, place: Place, type_: str, offset: int, flags: int, value: Value | None
    ) -> None:
        if place.space in _PRIVATE:
            return
        emitter = self._instruments.emitter
        if self._is_strong(emitter.instruction):
            flags |= STRONG
        address = place.address
        if offset:
            address = emitter.op("add", address, integer(offset, "i64"))
        active = emitter.active_bits()
        if not (address.vector or (value and value.vector)):
            active = _ends(emitter, active)
        addresses = emitter.stack("check.addresses", f"<{WARP_SIZE} x i64>")
        emitter.line(f"store {emitter.widen(address)}, ptr {addresses}")
        values = "null"
        if value:
            whole = emitter.widen(emitter.bits(value, f"i{BITS[type_]}"))
            values = emitter.stack(f"check.values.{whole.type}", whole.llvm_type)
            emitter.line(f"store {whole}, ptr {values}")
        site = self._instruments.site(2 if flags & WRITE else 1)
        emitter.line(
            f"call void @race(ptr %checks, {site}, ptr %worker, {active}, ptr {addresses}, "
            f"ptr {values}, i64 %arena.base, i64 %race.limit, i32 %warp, "
            f"i32 {emitter.instruction.position}, i32 {BITS[type_] // 8}, i32 {flags})"
        )


def _ends(emitter: Emitter, bits: Value) -> Value:
    """The first and the last lane: they stand for all that do the same."""
    negative = emitter.op("sub", integer(0, "i32"), bits)
    first = emitter.op("and", bits, negative)
    leading = emitter.intrinsic("ctlz", bits, extra="i1 false")
    shift = emitter.intrinsic("umin", leading, integer(31, "i32"))
    last = emitter.op("lshr", integer(-(1 << 31), "i32"), shift)
    return emitter.op("and", emitter.op("or", first, last), bits)

"""The barrier checker's code: who is at a barrier, and whom the mask of an instruction names.

Lanes of a warp run in step here, so a program that relies on lanes which are somewhere else still
ends; a GPU need not. For that each warp keeps a word of the lanes that have ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vgpu_host.executors.software.checks.structures import CHECKS_SIZE, SITE_SIZE, Kind
from vgpu_host.executors.software.ir import (
    WARP_SIZE,
    Immediate,
    Instruction,
    Operand,
    Register,
)
from vgpu_host.executors.software.translation import Translation

from .emitter import LANES, Emitter, Value, integer, lanes

if TYPE_CHECKING:
    from .instrument import Instruments

#: Instructions with a member mask, which is their last operand where they are `.sync`.
_MASKED = frozenset(("shfl", "vote", "match", "redux"))


class SyncCheck:
    """Checks of barriers and member masks in one kernel."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        #: Site and position of each barrier, in the order of their resume numbers.
        self.barriers: list[tuple[int, int]] = []

    @property
    def ended(self) -> str:
        """The slot of the lanes that have ended."""
        return self._instruments.emitter.stack("check.ended", "i32")

    def _ended(self) -> Value:
        """Lanes that have ended, or have nothing else left to do."""
        emitter = self._instruments.emitter
        ended = emitter.define(f"load i32, ptr {self.ended}", "i32")
        return emitter.op("or", ended, self._instruments.ending_lanes())

    def ends(self, bits: Value) -> None:
        """Lanes end here."""
        emitter = self._instruments.emitter
        old = emitter.define(f"load i32, ptr {self.ended}", "i32")
        emitter.line(f"store {emitter.op('or', old, bits)}, ptr {self.ended}")

    def barrier(self) -> None:
        """The warp is about to wait at a barrier; lanes that wait for `ending` blocks just end."""
        emitter = self._instruments.emitter
        self.barriers.append(
            (CHECKS_SIZE + SITE_SIZE * len(self._instruments.sites), emitter.instruction.position)
        )
        self._look_for_lanes(self._instruments.site(3), whole_block=True)

    def arrives(self, step: Instruction) -> None:
        """The same for a barrier that counts threads."""
        if "aligned" in step.modifiers:
            whole_block = step.operands[2] == Immediate(0)
            self._look_for_lanes(self._instruments.site(2), whole_block)

    def _look_for_lanes(self, site: Value, whole_block: bool) -> None:
        emitter = self._instruments.emitter
        ended = self._ended()
        awaits_ended = integer(whole_block and awaits_ended_threads(emitter.translation), "i1")
        emitter.line(
            f"call void @sync_barrier(ptr %checks, {site}, ptr %worker, {emitter.mask_bits}, "
            f"i32 %mask.start.bits, {ended}, {awaits_ended}, i32 %warp, "
            f"i32 {emitter.instruction.position})"
        )

    def gives_up(self, bits: Value) -> None:
        """Lanes wait for others that their member masks name, who cannot come."""
        emitter = self._instruments.emitter
        alive = emitter.op("and", Value("%mask.start.bits", "i32"), emitter.invert(self._ended()))
        elsewhere = emitter.op("and", alive, emitter.invert(bits))
        self._report(Kind.ABSENT_LANES, bits, elsewhere)

    def before(self, instruction: Instruction) -> None:
        """Check the member mask of an instruction that has one."""
        operand = _member_mask(instruction)
        if operand is None:
            return
        emitter = self._instruments.emitter
        everybody = emitter.block not in emitter.analysis.masked and emitter.guard is None
        if everybody and _names_all(emitter, operand):
            return
        members = emitter.widen(emitter.read(operand, "b32"))
        active = emitter.active()
        own = lanes([1 << lane for lane in LANES], "i32")
        zero = integer(0, "i32")
        unnamed = emitter.compare("icmp eq", emitter.op("and", members, own), zero)
        omitted = emitter.lane_bits(emitter.op("and", unnamed, active))
        self._report(Kind.OMITTED_LANE, omitted, zero)
        if everybody:
            return
        alive = emitter.op("and", Value("%mask.start.bits", "i32"), emitter.invert(self._ended()))
        elsewhere = emitter.op("and", alive, emitter.invert(emitter.active_bits()))
        awaited = emitter.compare("icmp ne", emitter.op("and", members, elsewhere), zero)
        waiting = emitter.lane_bits(emitter.op("and", awaited, active))
        self._report(Kind.ABSENT_LANES, waiting, elsewhere)

    def _report(self, kind: Kind, bad: Value, elsewhere: Value) -> None:
        emitter = self._instruments.emitter
        site = self._instruments.site()
        emitter.line(
            f"call void @sync_lanes(ptr %checks, {site}, ptr %worker, {bad}, {elsewhere}, "
            f" i32 %warp, i32 {emitter.instruction.position}, i32 {kind})"
        )

    def tables(self) -> str:
        """Site and position of each barrier by its number, for `@sync_round`."""
        count = len(self.barriers) + 1
        sites = ", ".join(f"i64 {site}" for site, _ in [(0, 0), *self.barriers])
        positions = ", ".join(f"i32 {position}" for _, position in [(0, 0), *self.barriers])
        return (
            f"@barrier_sites = internal constant [{count} x i64] [ {sites} ]\n"
            f"@barrier_positions = internal constant [{count} x i32] [ {positions} ]\n"
        )


def awaits_ended_threads(translation: Translation) -> bool:
    """Whether a barrier of the block needs threads that have ended; not from 7.0 on."""
    return translation.profile.capability < (7, 0)


def _member_mask(instruction: Instruction) -> Operand | None:
    if instruction.opcode in ("bar", "barrier") and "warp" in instruction.modifiers:
        return instruction.operands[0]
    if instruction.opcode in _MASKED and "sync" in instruction.modifiers:
        return instruction.operands[-1]
    return None


def _names_all(emitter: Emitter, operand: Operand) -> bool:
    """Whether a mask is known to name every lane."""
    bits: int | None = None
    if isinstance(operand, Immediate):
        bits = operand.bits
    elif isinstance(operand, Register):
        bits = emitter.analysis.constants.get(operand.name)
    return bits is not None and bits & (1 << WARP_SIZE) - 1 == (1 << WARP_SIZE) - 1

"""What checkers add to a kernel: the one place where code generation asks them.

A kernel without checkers has none of this (`Emitter.instruments` is None). The checkers look at the
places that `access.locate` found, at instructions before they run, and at barriers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vgpu_host.executors.software.checks.structures import CHECKS, CHECKS_SIZE, SITE_SIZE
from vgpu_host.executors.software.ir import Instruction

from .emitter import Emitter, Value
from .instrument_memory import MemoryCheck
from .instrument_runtime import runtime
from .state import LAUNCH

if TYPE_CHECKING:
    from .access import Place


class Instruments:
    """The checkers of one kernel, and what they may find in it."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self._memory = MemoryCheck(self) if "mem" in emitter.translation.checks else None
        #: Position of the instruction of each site.
        self.sites: list[int] = []

    def site(self, count: int = 1) -> Value:
        """A pointer to fresh sites of the current instruction."""
        offset = CHECKS_SIZE + SITE_SIZE * len(self.sites)
        self.sites += [self.emitter.instruction.position] * count
        return self.emitter.define(f"getelementptr i8, ptr %checks, i64 {offset}", "ptr")

    def load(self, place: Place, type_: str, offset: int) -> None:
        """An element is about to be read."""
        if self._memory:
            self._memory.load(place, type_, offset)

    def store(self, place: Place, value: Value, offset: int) -> None:
        """An element is about to be written."""
        if self._memory:
            self._memory.store(place, value.type, offset)

    def atomic(self, place: Place, type_: str) -> None:
        """An element is about to be read and written at once."""
        if self._memory:
            self._memory.load(place, type_, 0)
            self._memory.store(place, type_, 0)

    def before(self, instruction: Instruction) -> None:
        """An instruction is about to run."""

    def prologue(self) -> None:
        """What a warp needs to know, at its start."""
        emitter = self.emitter
        emitter.line(f"%p.checks = getelementptr i8, ptr %launch, i64 {LAUNCH['checks']}")
        emitter.line("%checks = load ptr, ptr %p.checks")
        emitter.line(f"%p.shadow = getelementptr i8, ptr %checks, i64 {CHECKS['shadow']}")
        emitter.line("%shadow = load i64, ptr %p.shadow")

    def functions(self) -> str:
        """The functions that the checks call."""
        return runtime(self.emitter.translation.checks, self.emitter.layout)

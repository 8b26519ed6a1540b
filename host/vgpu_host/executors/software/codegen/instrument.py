"""What checkers add to a kernel: the one place where code generation asks them.

A kernel without checkers has none of this (`Emitter.instruments` is None). The checkers look at the
places that `access.locate` found, at instructions before they run, and at barriers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vgpu_host.executors.software.checks.structures import CHECKS, CHECKS_SIZE, SITE_SIZE
from vgpu_host.executors.software.ir import Instruction

from .emitter import Emitter, Value, integer
from .instrument_memory import MemoryCheck
from .instrument_race import RaceCheck
from .instrument_runtime import DECLARATIONS, runtime
from .instrument_sync import SyncCheck
from .state import LAUNCH

if TYPE_CHECKING:
    from .access import Place


class Instruments:
    """The checkers of one version of a kernel, and what they may find in it.

    Args:
        emitter: of the version.
        sites: position of the instruction of each site of the kernel so far; grows.
    """

    def __init__(self, emitter: Emitter, sites: list[int]) -> None:
        self.emitter = emitter
        emitter.declarations.update(DECLARATIONS)
        checks = emitter.translation.checks
        self._memory = MemoryCheck(self) if "mem" in checks else None
        self._races = RaceCheck(self) if "race" in checks else None
        self._sync = SyncCheck(self) if "sync" in checks else None
        #: Tells which lanes wait and have nothing left to do.
        self.ending_lanes: Callable[[], Value] = lambda: integer(0, "i32")
        self.sites = sites

    def site(self, count: int = 1) -> Value:
        """A pointer to fresh sites of the current instruction."""
        offset = CHECKS_SIZE + SITE_SIZE * len(self.sites)
        self.sites += [self.emitter.instruction.position] * count
        return self.emitter.define(f"getelementptr i8, ptr %checks, i64 {offset}", "ptr")

    def load(self, place: Place, type_: str, offset: int) -> None:
        """An element is about to be read."""
        if self._memory:
            self._memory.load(place, type_, offset)
        if self._races:
            self._races.load(place, type_, offset)

    def store(self, place: Place, value: Value, offset: int) -> None:
        """An element is about to be written."""
        if self._memory:
            self._memory.store(place, value.type, offset)
        if self._races:
            self._races.store(place, value, offset)

    @property
    def watches_memory(self) -> bool:
        """Whether accesses need their shadow looked at."""
        return self._memory is not None

    def all_well(self, shadow: list[Value]) -> Value:
        """Whether what the active lanes access may be accessed and is initialised."""
        assert self._memory
        return self._memory.all_well(shadow)

    def atomic(self, place: Place, type_: str, offset: int = 0) -> None:
        """An element is about to be read and written at once."""
        if self._memory:
            self._memory.load(place, type_, offset)
            self._memory.store(place, type_, offset)
        if self._races:
            self._races.atomic(place, type_, offset)

    def before(self, instruction: Instruction) -> None:
        """An instruction is about to run."""
        if self._races:
            self._races.before(instruction)
        if self._sync:
            self._sync.before(instruction)

    def barrier(self) -> None:
        """The warp is about to wait at a barrier; lanes that wait for `ending` blocks just end."""
        if self._sync:
            self._sync.barrier()

    def arrives(self, step: Instruction) -> None:
        """Lanes arrive at a barrier that counts."""
        if self._races:
            self._races.arrives()
        if self._sync:
            self._sync.arrives(step)

    def passes(self) -> None:
        """Lanes have passed a barrier that counts."""
        if self._races:
            self._races.passes()

    def gives_up(self, bits: Value) -> None:
        """Lanes wait for others that their member masks name, who cannot come."""
        if self._sync:
            self._sync.gives_up(bits)

    def ends(self, bits: Value) -> None:
        """Lanes end here."""
        if self._sync:
            self._sync.ends(bits)

    def kept(self) -> tuple[str, ...]:
        """Slots of type i32 that a warp keeps while it waits."""
        return (self._sync.ended,) if self._sync else ()

    def prologue(self) -> None:
        """What a warp needs to know, at its start."""
        emitter = self.emitter
        emitter.line(f"%p.checks = getelementptr i8, ptr %launch, i64 {LAUNCH['checks']}")
        emitter.line("%checks = load ptr, ptr %p.checks")
        emitter.line(f"%p.shadow = getelementptr i8, ptr %checks, i64 {CHECKS['shadow']}")
        emitter.line("%shadow = load i64, ptr %p.shadow")
        if self._races:
            self._races.prologue()

    def functions(self) -> str:
        """The functions that the checks call."""
        tables = self._sync.tables() if self._sync else ""
        return tables + runtime(self.emitter.translation, self.emitter.layout)
